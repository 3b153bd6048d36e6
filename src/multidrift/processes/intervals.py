"""Straightened coordinates over given intervals of time: all a sampler needs to take a step.

In the coordinate z and on the clocks τ (drift) and v (noise) every process reads dz = D dτ + dW(v), exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """One step from time `t` to time `s`, in coordinates scaled so that nothing over- or underflows.

    z(t) = enter·x(t); z(s) = z(t) + dtau·D + std·(the path's unit normal from `low` to `high`); x(s) = leave·z(s).
    """

    t: float
    s: float
    enter: float
    leave: float
    dtau: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Many intervals, one entry of each array per interval; see `Interval`."""

    t: Floats
    s: Floats
    enter: Floats
    leave: Floats
    dtau: Floats
    std: Floats
    low: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.t)

    def __iter__(self) -> Iterator[Interval]:
        columns = (self.t, self.s, self.enter, self.leave, self.dtau, self.std, self.low, self.high)
        for row in zip(*(column.tolist() for column in columns), strict=True):
            yield Interval(*row)
