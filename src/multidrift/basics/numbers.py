"""Numbers: of the host in float64, whole where they are whole, and shaped to multiply states."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require

Floats = NDArray[np.float64]

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 1 << 20  # values whose bits are looked at at once
_MIX = 0x1E3779B97F4A7C15


def finite(values: ArrayLike, argument: str) -> Floats:
    """Anything like an array as float64; MultidriftError on what is none of finite numbers, or is empty."""
    given = values.detach().cpu() if isinstance(values, Tensor) else values
    try:
        array = np.asarray(given)
        numbers = array.dtype.kind in "iuf"
        array = np.asarray(array if numbers else 0.0, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MultidriftError(f"{argument}: got {type(values).__name__}; it takes an array of numbers") from error
    require(numbers, argument, type(values).__name__, "an array of numbers")
    require(array.size > 0, argument, f"an array of shape {array.shape}", "one that is not empty")
    require(bool(np.isfinite(array).all()), argument, "values that are not finite", "finite numbers")
    return array


def weighted_mean(values: ArrayLike, weights: ArrayLike) -> tuple[float, float]:
    """The mean of independent values and its standard error, √(Σ_g w_g² (v_g − v̄)²/(1 − w_g)) with Σ_g w_g = 1.

    Its square is unbiased where variances go as 1/weight, and for equal weights it is the usual one.
    """
    v, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    mean = np.dot(w, v)
    return float(mean), float(np.sqrt(np.sum(w**2 * (v - mean) ** 2 / (1 - w))))


def bits_of(values: Tensor) -> Tensor:
    """The same memory as integers of the same size; complex numbers as two."""
    real = torch.view_as_real(values.detach()) if values.is_complex() else values.detach()
    return real.view(_BITS[real.element_size()])


def bit_sum(values: Tensor) -> Tensor:
    """One int64 that every bit of a tensor has a say in, the same on every device: Σ bits·(odd number of its place)."""
    bits = bits_of(values).contiguous().flatten()
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for first in range(0, len(bits), _CHUNK):
        part = bits[first : first + _CHUNK].long()
        place = torch.arange(first, first + len(part), device=bits.device)
        total += (part * (place * _MIX | 1)).sum()  # wraps around, which loses nothing
    return total


def plain(number: float) -> float:
    """An int where the number is whole: calls of a shared plan are counts."""
    return int(number) if number == int(number) else number


def aligned(values: Tensor, states: Tensor) -> Tensor:
    """Values [a, b, …] of the first dimensions of `states` [a, b, …, rest], shaped to multiply them."""
    return values.view(*values.shape, *(1,) * (states.ndim - values.ndim))


def largest_of_each(values: Tensor) -> Tensor:
    """The largest absolute value of each row of [n, …]; nan where one is nan."""
    return values.detach().abs().flatten(1).amax(dim=1)


def moved(  # type: ignore[explicit-any]  # numbers of any kind
    values: NDArray[np.generic], to: Tensor | torch.device
) -> Tensor:
    """Host numbers on a device, or on that of a tensor and in its dtype, without waiting for the device.

    What is copied to a CUDA device from ordinary memory has left it when the copy returns.
    """
    made = torch.from_numpy(np.ascontiguousarray(values))
    device, dtype = (to.device, to.dtype) if isinstance(to, Tensor) else (to, made.dtype)
    return made.to(device=device, dtype=dtype, non_blocking=device.type == "cuda")
