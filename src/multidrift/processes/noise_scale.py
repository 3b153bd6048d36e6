"""A factor on the variance of the noise that varies in time, as a clock of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multidrift.processes.clocks import HeldClock
from multidrift.processes.errors import require
from multidrift.processes.schedule import Schedule

Floats = NDArray[np.float64]
_CELLS = 2048  # of a schedule without training steps: the factor is constant on each


@dataclass(frozen=True)
class ScaledVariance:
    """∫ factor(t) dv, the factor held on each training step (at its noisier end) or on 2048 equal cells of λ."""

    clock: HeldClock
    factor: Callable[[float], float]

    @cached_property
    def _edges(self) -> Floats:
        schedule: Schedule = self.clock.schedule
        if schedule.training_steps is not None:
            edges = schedule.log_snr(np.arange(schedule.training_steps)[::-1])
        else:
            first = max(float(schedule.log_snr(schedule.t_max)), -60.0)
            edges = np.linspace(first, float(schedule.log_snr(schedule.t_min)), _CELLS + 1)
        return edges[np.isfinite(edges)]

    @cached_property
    def _factors(self) -> Floats:
        times = self.clock.schedule.time(self._edges)
        values = np.array([float(self.factor(float(t))) for t in times])
        good = bool(np.all(np.isfinite(values) & (values >= 0)))
        require(good, "noise_scale", f"a function with values {values.min()} … {values.max()}", "factors ≥ 0")
        return values

    def log_variance(self, low: float, high: float) -> float:
        """Log ∫ factor dv from λ = low to λ = high."""
        first, last = np.searchsorted(self._edges, [low, high], side="right")
        points = [low, *self._edges[first:last].tolist(), high]
        factors = self._factors[np.clip(np.arange(first - 1, last), 0, None)]
        logs = [
            self.clock.log_variance(a, b) + math.log(f)
            for (a, b), f in zip(pairwise(points), factors.tolist(), strict=True)
            if b > a and f > 0
        ]
        return float(np.logaddexp.reduce(logs)) if logs else -math.inf
