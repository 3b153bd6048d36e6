"""Linear multistep extrapolation of the drift in log-SNR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.types import Takes
from multidrift.methods.method import GridMethod
from multidrift.processes.intervals import Interval
from multidrift.processes.process import Process
from multidrift.runs import update
from multidrift.runs.result import State
from multidrift.runs.run import Run

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True)
class Multistep(GridMethod):
    """Extrapolate D from its last values, then take Euler's step; `steps` calls of one network.

    `order` 1 is Euler, 2 is DPM-Solver++(2M) (η = 0) or its SDE form (η > 0), 3 integrates the parabola through the
    last three values exactly (the orders are those of the ODE; with noise the strong order is 1). Source: Lu et al.
    2022, DPM-Solver++, Algorithm 2 and equation 12.
    """

    steps_are_gaussian: ClassVar[bool] = True

    order: Annotated[int, Ge(1), Le(3), Takes("1, 2 or 3")] = 2

    def walk(self, run: Run) -> Iterator[State]:
        """z_{n+1} = z_n + Δτ_n (D_n + Σ_j w_j (D_n − D_{n−j})) + ΔW_n."""
        history, x = History(run.process, self.order), run.start
        for n, interval in enumerate(run.intervals):
            drift = run.drift(x, n)
            ahead = history.extrapolate(drift, interval)
            noise = run.noise(interval)
            z = update.increment(interval.enter(x), interval.dtau, ahead, noise)
            before, x = x, interval.leave(z)
            yield run.state(n, before, drift, x, noise)
        yield from run.final(x)


class History:
    """The last values of a drift and the λ they belong to; extrapolates over the coming step."""

    def __init__(self, process: Process, order: int) -> None:
        one_clock = order <= 2 or process.components == 1
        require(one_clock, "order", order, "1 or 2 for a process with velocities, whose two clocks differ")
        self.process, self.order = process, order
        self._values: list[tuple[float, Tensor]] = []  # the newest first

    def extrapolate(self, drift: Tensor, interval: Interval) -> Tensor:
        """The mean of D over the step by the polynomial through the newest `order` values; remembers `drift`."""
        self._values = [(interval.low, drift), *self._values][: self.order]
        if len(self._values) == 1:
            return drift
        step = interval.high - interval.low
        places = [(lam - interval.low) / step for lam, _ in self._values]
        slope = (drift - self._values[1][1]) / -places[1]  # per step; 0 where the value before lies at λ = −∞
        if len(self._values) == 2:
            # DPM-Solver++(2M): a slope's mean effect is taken as half a step, not as its exact 1/2 + O(h).
            half = 0.5 if self.order == 2 else self._moments(interval)[0]
            return drift + half * slope
        before = (self._values[1][1] - self._values[2][1]) / (places[1] - places[2])
        curvature = (slope - before) / -places[2]
        first, second = self._moments(interval)
        return drift + first * (slope - places[1] * curvature) + second * curvature

    def _moments(self, interval: Interval) -> tuple[float, float]:
        """The means of u and u² over the step on the drift clock, u = (λ − λ_n)/h, by parts and quadrature."""
        u = 0.5 * (_NODES + 1.0)
        inner = self.process.time(interval.low + u * (interval.high - interval.low))
        parts = self.process.intervals(np.full_like(inner, interval.t), inner, np.full_like(inner, interval.s))
        passed = 0.5 * _WEIGHTS * parts.dtau / interval.dtau
        return 1.0 - float(passed.sum()), 1.0 - 2.0 * float((u * passed).sum())
