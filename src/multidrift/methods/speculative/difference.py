"""What a drafter adds to its own D: the difference to the drift it drafts for, as it was found at accepted points.

At the head of a draft that is known at every point behind it and at none ahead. Only points that no later draft can
change are read: what a rejected draft has shown of the noise ahead must not decide how the next one goes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.numbers import Floats, aligned
from multidrift.methods.picard.front import Indices
from multidrift.methods.picard.points import Points
from multidrift.processes.predictions import Prediction, conversion
from multidrift.processes.process import Process

_UNITS: tuple[Prediction, ...] = ("sample", "epsilon")


class Differences:
    """B_n = D^above(x_n) − D(x_n) behind the head: `above` and `own` [N, count, …], `known` [N, count] says where.

    - `units` [units, N]: see `held_units`; the difference is held in the one that would have served better so far
    - `lag`: how many steps lie between the two points whose differences are compared
    """

    def __init__(
        self, points: Points, above: Tensor, own: Tensor, known: NDArray[np.bool_], units: Floats, lag: int
    ) -> None:
        self.points, self.above, self.own, self.known = points, above, own, known
        self.units, self.lag = units, lag
        self.samples = np.arange(points.count)
        self._fixed = torch.zeros_like(own[0])
        self.anchor = np.full(points.count, -1)
        self.unit = np.zeros(points.count, dtype=np.intp)

    def fix(self, starts: Indices) -> None:
        """Take the difference at the last known point before each sample's `starts`, 0 where there is none."""
        self.anchor = self.last_known(starts)
        earlier = self.last_known(np.maximum(self.anchor - self.lag + 1, 0))
        self._fixed = self.at_points(self.anchor)
        if len(self.units) > 1:
            self.unit = self._better_unit(earlier)

    def last_known(self, before: Indices) -> Indices:
        """The last step before `before` at which the difference is known, of each sample; −1 where there is none."""
        behind = self.known & (np.arange(self.points.steps)[:, None] < before)
        return np.where(behind.any(axis=0), self.points.steps - 1 - behind[::-1].argmax(axis=0), -1)

    def at_points(self, steps: Indices) -> Tensor:
        """B at a step of each sample, [count, …]; 0 where the step is −1."""
        place = self.points.at(np.maximum(steps, 0), self.samples)
        found = self.above[place] - self.own[place]
        return torch.where(aligned(self.points.index(steps >= 0), found), found, 0.0)

    def _better_unit(self, earlier: Indices) -> Indices:
        """In which unit the difference at the earlier point would have been nearer to that at the anchor."""
        before = self.at_points(earlier)
        here, there = np.maximum(self.anchor, 0), np.maximum(earlier, 0)
        missed = [
            (self._fixed - before * self._rows(unit[there] / unit[here]))
            .flatten(1)
            .square()
            .sum(1, dtype=torch.float64)
            for unit in self.units
        ]
        return np.where(earlier >= 0, torch.stack(missed).argmin(0).cpu().numpy(), 0)

    def at(self, steps: Indices, rows: Indices) -> Tensor:
        """What is added to D at points steps[i] of samples rows[i], [m, …]."""
        here = np.maximum(self.anchor[rows], 0)
        factor = self.units[self.unit[rows], here] / self.units[self.unit[rows], steps]
        return self._fixed[self.points.index(rows)] * self._rows(factor)

    def _rows(self, factor: Floats) -> Tensor:
        return aligned(self.points.index(np.asarray(factor)).to(self._fixed), self._fixed)


class Extrapolated(Differences):
    """B followed along the line in the process's place (λ, time) through the anchor and the point `lag` before it."""

    def fix(self, starts: Indices) -> None:
        super().fix(starts)
        places = self.points.run.process.place(self.points.run.times)
        earlier = self.last_known(np.maximum(self.anchor - self.lag + 1, 0))
        apart = places[self.anchor] - places[earlier]
        self._whole = np.where((earlier >= 0) & np.isfinite(apart) & (apart > 0), 1.0 / np.maximum(apart, 1e-300), 0.0)
        self._turned = self._fixed - self.at_points(earlier)

    def at(self, steps: Indices, rows: Indices) -> Tensor:
        places = self.points.run.process.place(self.points.run.times)
        whole = self._whole[rows]
        share = np.where(whole > 0, (places[steps] - places[np.maximum(self.anchor[rows], 0)]) * whole, 0.0)
        index = self.points.index(rows)
        return self._fixed[index] + self._turned[index] * self._rows(share)


def held_units(process: Process, times: Floats) -> Floats:
    """[units, N]: what takes a difference of D at each step to one of x_0, and to one of ε; 1 without a schedule.

    A difference that is held as data keeps its difference of x_0, one that is held as noise that of ε.
    """
    schedule = process.model_schedule
    if schedule is None:
        return np.ones((1, len(times)))
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    return np.stack([conversion(process.drift_is, unit, alpha, sigma)[1] for unit in _UNITS])
