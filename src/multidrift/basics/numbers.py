"""Numbers of the host: in float64, and whole where they are whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def plain(number: float) -> float:
    """An int where the number is whole: calls of a shared plan are counts."""
    return int(number) if number == int(number) else number
