"""Affine maps of predictions with factors on the host, without waiting for the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats, aligned, moved


def on_device(values: Floats, like: Tensor) -> Tensor:
    """Host numbers as a tensor beside `like`; a single value is filled in without a transfer."""
    if len(values) == 1:
        return torch.full((1,), float(values[0]), dtype=torch.float64, device=like.device)
    return moved(values, like.device)


def affine(x: Tensor, prediction: Tensor, factors: tuple[Floats, Floats]) -> Tensor:
    """a·x + b·prediction with one pair (a, b) for all rows, or one a row."""
    of_x, of_prediction = factors
    if not of_x.any() and np.all(of_prediction == 1):
        return prediction
    if len(of_x) == 1:
        return prediction * float(of_prediction[0]) + x * float(of_x[0])
    a, b = (aligned(on_device(values, x).to(x.dtype), x) for values in factors)
    return prediction * b + x * a
