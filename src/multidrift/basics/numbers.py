"""Numbers: of the host in float64, whole where they are whole, and shaped to multiply states."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def plain(number: float) -> float:
    """An int where the number is whole: calls of a shared plan are counts."""
    return int(number) if number == int(number) else number


def aligned(values: Tensor, states: Tensor) -> Tensor:
    """Values [a, b, …] of the first dimensions of `states` [a, b, …, rest], shaped to multiply them."""
    return values.view(*values.shape, *(1,) * (states.ndim - values.ndim))
