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
_LARGEST_LAG = 10
_SHARES = (-1.0, 0.2)  # of how far D moves that a difference may move with it


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
        behind = self.known & (np.arange(self.points.increments)[:, None] < before)
        return np.where(behind.any(axis=0), self.points.increments - 1 - behind[::-1].argmax(axis=0), -1)

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
            (self._fixed - before * self._rows(ratio(unit[there], unit[here])))
            .flatten(1)
            .square()
            .sum(1, dtype=torch.float64)
            for unit in self.units
        ]
        return np.where(earlier >= 0, torch.stack(missed).argmin(0).cpu().numpy(), 0)

    def at(self, steps: Indices, rows: Indices, own: Tensor) -> Tensor:
        """What is added to D, which is `own`, at points steps[i] of samples rows[i], [m, …]."""
        del own
        here = np.maximum(self.anchor[rows], 0)
        factor = ratio(self.units[self.unit[rows], here], self.units[self.unit[rows], steps])
        return self._fixed[self.points.index(rows)] * self._rows(factor)

    def _rows(self, factor: Floats) -> Tensor:
        return aligned(self.points.index(np.asarray(factor)).to(self._fixed), self._fixed)


class Extrapolated(Differences):
    """B followed as D itself moves, on the line through the anchor and the known point `lag` before it.

        B(x) ≈ B_a + γ (D(x) − D_a),      γ = ⟨B_a − B_e, D_a − D_e⟩ / ‖D_a − D_e‖², held to −1 ≤ γ ≤ 1/5

    so that γ = −1 is the last prediction of the chain above, γ = 0 the difference held in D's own unit.
    """

    def fix(self, starts: Indices) -> None:
        super().fix(starts)
        earlier = self.last_known(np.maximum(self.anchor - self.lag + 1, 0))
        self._own = self.own[self.points.at(np.maximum(self.anchor, 0), self.samples)]
        moved = self._own - self.own[self.points.at(np.maximum(earlier, 0), self.samples)]
        turned = self._fixed - self.at_points(earlier)
        along, length = ((moved * v).flatten(1).sum(1, dtype=torch.float64) for v in (turned, moved))
        line = (length > 0) & self.points.index(earlier >= 0)
        share = torch.where(line, along / torch.where(line, length, 1.0), 0.0).clamp(*_SHARES)
        self._share = aligned(share.to(moved), moved)

    def at(self, steps: Indices, rows: Indices, own: Tensor) -> Tensor:
        del steps
        index = self.points.index(rows)
        return self._fixed[index] + self._share[index] * (own - self._own[index])


def ratio(one: Floats, other: Floats) -> Floats:
    """one/other, 0 where the other is 0: ε says nothing of the data where α = 0."""
    return np.divide(one, other, out=np.zeros_like(other), where=other != 0)


def lag_of(window: int) -> int:
    """How many steps apart two differences are compared, where windows have this many."""
    return min(_LARGEST_LAG, max(1, window // 2))


def held_units(process: Process, times: Floats) -> Floats:
    """[units, N]: what takes a difference of D at each step to one of x_0, and to one of ε; 1 without a schedule.

    A difference that is held as data keeps its difference of x_0, one that is held as noise that of ε.
    """
    schedule = process.model_schedule
    if schedule is None:
        return np.ones((1, len(times)))
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    return np.stack([conversion(process.drift_is, unit, alpha, sigma)[1] for unit in _UNITS])
