"""Numbers: of the host in float64, whole where they are whole, and shaped to multiply states."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def plain(number: float) -> float:
    """An int where the number is whole: calls of a shared plan are counts."""
    return int(number) if number == int(number) else number


def aligned(values: Tensor, states: Tensor) -> Tensor:
    """Values [a, b, …] of the first dimensions of `states` [a, b, …, rest], shaped to multiply them."""
    return values.view(*values.shape, *(1,) * (states.ndim - values.ndim))


def moved(  # type: ignore[explicit-any]  # numbers of any kind
    values: NDArray[np.generic], to: Tensor | torch.device
) -> Tensor:
    """Host numbers on a device, or on that of a tensor and in its dtype, without waiting for the device.

    What is copied to a CUDA device from ordinary memory has left it when the copy returns.
    """
    made = torch.from_numpy(np.ascontiguousarray(values))
    device, dtype = (to.device, to.dtype) if isinstance(to, Tensor) else (to, made.dtype)
    return made.to(device=device, dtype=dtype, non_blocking=device.type == "cuda")
