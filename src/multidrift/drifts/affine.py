"""Affine maps of predictions with factors on the host, without waiting for the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats, aligned, moved


def on_device(values: Floats, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Host numbers as a tensor; a single value is filled in without a transfer."""
    if len(values) == 1:
        return torch.full((1,), float(values[0]), dtype=dtype, device=device)
    return moved(values, device).to(dtype)


def affine(x: Tensor, prediction: Tensor, factors: tuple[Floats, Floats]) -> Tensor:
    """a·x + b·prediction with one pair (a, b) for all rows, or one a row."""
    of_x, of_prediction = factors
    if len(of_x) == 1:
        a, b = float(of_x[0]), float(of_prediction[0])
        return prediction if (a, b) == (0.0, 1.0) else prediction * b + x * a
    if not of_x.any() and np.all(of_prediction == 1):
        return prediction
    rows_a, rows_b = (aligned(on_device(values, x.device, x.dtype), x) for values in factors)
    return prediction * rows_b + x * rows_a
