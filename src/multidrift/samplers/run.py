"""One run: everything a method's walk needs, resolved and checked before the first call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from multidrift.noise.path import BrownianPath
from multidrift.plans.plan import Plan
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.intervals import Interval
from multidrift.processes.predictions import conversion
from multidrift.samplers.evaluator import Evaluator, FiniteGuard
from multidrift.samplers.result import State

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """A process, a grid, a start, networks and a noise path, ready to be walked along.

    - `start` [count, …]: the state at `times[0]`, in the dtype of the whole run
    - `levels`: names of the levels in use, cheapest first
    """

    process: Diffusion
    times: Floats
    start: Tensor
    levels: Sequence[str]
    evaluator: Evaluator
    path: BrownianPath | None
    plan: Plan
    guard: FiniteGuard = field(repr=False)

    @cached_property
    def intervals(self) -> list[Interval]:
        """The steps of the grid, each anchored at its end."""
        return list(self.process.intervals(self.times[:-1], self.times[1:]))

    def drift(self, x: Tensor, n: int, level: str | None = None, rows: Tensor | None = None) -> Tensor:
        """D of a level (the top one by default) at state x and the n-th time; `rows`: which samples x holds."""
        name = level or self.levels[-1]
        drift = self.evaluator(name, x, float(self.times[n]), self.process.drift_is, rows)
        self.guard.watch(n, name, drift, rows)
        return drift

    @property
    def weights(self) -> Floats:
        """The plan's weights, [1 or count, steps − 1, levels]."""
        return self.plan.weights

    def noise(self, interval: Interval) -> Tensor | float:
        """ΔW over an interval, read from the path of each sample."""
        if self.path is None or interval.std == 0:
            return 0.0
        return self.path.normal(interval.low, interval.high) * interval.std

    def state(self, n: int, x: Tensor, drift: Tensor, after: Tensor) -> State:
        """The report of step n, which took x to `after` with this drift."""
        time = float(self.times[n + 1])
        return State(n + 1, len(self.times), time, after, self._clean(x, drift, n), self.evaluator.calls)

    def final(self, x: Tensor) -> State:
        """The last evaluation: the top level's prediction of the data at the last time, and no noise."""
        last = len(self.times) - 1
        data = self.evaluator(self.levels[-1], x, float(self.times[last]), "sample")
        self.guard.watch(last, self.levels[-1], data)
        return State(last + 1, last + 1, 0.0, data, data, self.evaluator.calls)

    def _clean(self, x: Tensor, drift: Tensor, n: int) -> Tensor:
        """The prediction of the data that a drift stands for."""
        if self.process.drift_is == "sample":
            return drift
        schedule, t = self.process.schedule, self.times[n]
        of_x, of_drift = conversion(self.process.drift_is, "sample", schedule.alpha(t), schedule.sigma(t))
        return drift * float(of_drift) + x * float(of_x)
