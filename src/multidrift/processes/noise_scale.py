"""A factor on the variance of the noise that varies in time, as a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from multidrift.basics.checks import check_value
from multidrift.basics.foreign import users_code
from multidrift.basics.numbers import Floats
from multidrift.basics.types import NotNegative
from multidrift.noise.lattice import Places
from multidrift.processes.clocks import HeldClock
from multidrift.schedules.schedule import Schedule

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
        return scale_at(self.factor, times)

    @cached_property
    def _from_small_end(self) -> Floats:
        """∫ factor dv from that end of the edges where v changes least, at every edge: no large sum is subtracted."""
        low, high = self._edges[:-1], self._edges[1:]
        cells = _exp(self.clock.log_variance(low, high)) * self._factors[:-1]
        if self.clock.variance_grows:
            return np.append(0.0, np.cumsum(cells))
        return np.append(np.cumsum(cells[::-1])[::-1], 0.0)

    def _at(self, lam: Places) -> Floats:
        """∫ factor dv from the small end to λ; the first and last factor also hold outside the edges."""
        edges, factors, sums = self._edges, self._factors, self._from_small_end
        cell = np.clip(np.searchsorted(edges, lam, side="right") - 1, 0, len(edges) - 1)
        place = np.asarray(lam, dtype=np.float64)
        after = place > edges[cell]
        ends = np.where(after, edges[cell], place), np.where(after, place, edges[cell])
        with np.errstate(divide="ignore"):
            part = _exp(self.clock.log_variance(*ends)) * factors[cell] * np.where(after, 1.0, -1.0)
        part = np.where(place == edges[cell], 0.0, part)
        return sums[cell] + part if self.clock.variance_grows else sums[cell] - part

    def log_variance(self, low: Places, high: Places) -> Floats:
        """Log ∫ factor dv from λ = low to λ = high."""
        between = self._at(high) - self._at(low)
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(between if self.clock.variance_grows else -between, 0.0))


def scale_at(factor: Callable[[float], float], times: Floats) -> Floats:
    """The user's factor at some times; MultidriftError where it raises or gives no number of at least 0."""
    values = np.empty(len(times))
    for n, t in enumerate(times.tolist()):
        with users_code("noise_scale", f"t = {t:g}"):
            found = factor(t)
        check_value(found, NotNegative, f"noise_scale({t:g})")
        values[n] = float(found)
    return values


def _exp(log_variance: Floats) -> Floats:
    """exp, finite also where a large η meets the far ends of the lattice, where no run reads noise."""
    return np.asarray(np.exp(np.minimum(log_variance, 690.0)))
