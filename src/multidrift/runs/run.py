"""One run: everything a method's walk needs, resolved and checked before the first call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.noise.counter import Keys
from multidrift.noise.path import BrownianPath
from multidrift.processes.intervals import Interval
from multidrift.processes.predictions import conversion
from multidrift.processes.process import Process
from multidrift.runs.evaluator import Evaluator
from multidrift.runs.guard import FiniteGuard, Steps
from multidrift.runs.marginals import MarginalGuard
from multidrift.runs.plan import Plan
from multidrift.runs.result import State
from multidrift.runs.transitions import Transition


@dataclass(frozen=True)
class Run:
    """A process, a grid, a start, networks and a noise path, ready to be walked along.

    - `start` [count, …]: the state at `times[0]`, in the dtype of the whole run; with velocities [count, …, 2]
    - `times`: the grid; of diffusion the last one has an evaluation of its own, of Langevin dynamics it is the end
    - `levels`: names of the levels in use, cheapest first; `choices`: keys of each sample's own random choices;
      `noise_keys`: those of its Brownian path; `verification_keys`: those of what accepts a draft
    """

    process: Process
    times: Floats
    start: Tensor
    levels: Sequence[str]
    evaluator: Evaluator
    path: BrownianPath | None
    plan: Plan | None
    choices: Keys
    noise_keys: Keys
    verification_keys: Keys
    guard: FiniteGuard = field(repr=False)
    marginals: MarginalGuard = field(repr=False)

    @cached_property
    def intervals(self) -> list[Interval]:
        """The steps of the grid, each anchored at its end."""
        return list(self.process.intervals(self.times[:-1], self.times[1:]).each(self.start))

    @cached_property
    def _preconditioning(self) -> Tensor | None:
        factors = self.process.preconditioning
        return None if factors is None else torch.from_numpy(factors).to(self.start)

    def drift(self, x: Tensor, n: int, level: str | None = None, rows: Tensor | None = None) -> Tensor:
        """D of a level (the top one by default) at state x and the n-th time; `rows`: which samples x holds."""
        return self.drift_at(x, float(self.times[n]), n, level, rows)

    def drift_at(
        self, x: Tensor, t: float | Floats, n: int | Steps, level: str | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """D at state x and time t, or one time a row, within step n, or one a row."""
        name = level or self.levels[-1]
        drift = self.evaluator(name, self.process.position(x), t, self.process.drift_is, rows)
        self.guard.watch(n, name, drift, rows)
        return self.process.lift(self.preconditioned(drift), t)

    def preconditioned(self, drift: Tensor) -> Tensor:
        """A level's D by the factors of the process's preconditioner, if it has one."""
        return drift if self._preconditioning is None else drift * self._preconditioning

    @property
    def weights(self) -> Floats:
        """The plan's weights, [1 or count, increments, levels], of a method that draws."""
        assert self.plan is not None
        return self.plan.weights

    def noise(self, interval: Interval) -> Tensor | float:
        """ΔW over an interval, read from the path of each sample."""
        if self.path is None or (isinstance(interval.std, float) and interval.std == 0):
            return 0.0
        return self._coloured(self.path.increment(interval.low, interval.high) * interval.std)

    def noise_to(self, hop: Interval, points: Floats, rows: Tensor) -> Tensor | float:
        """ΔW from the start of a hop to a place of each row's own, of the samples `rows`."""
        if self.path is None:
            return 0.0
        return self._coloured(self.path.increments(hop.low, points, rows) * hop.std)

    def _coloured(self, noise: Tensor) -> Tensor:
        """Noise with the root of the process's preconditioner on each coordinate."""
        if self._preconditioning is None:
            return noise
        root = self._preconditioning.sqrt()
        return noise * (root if self.process.components == 1 else root[..., None])

    def state(self, n: int, x: Tensor, drift: Tensor, after: Tensor, noise: Tensor | float | None = None) -> State:
        """The report of step n, which took x to `after` with this drift; `after` is checked.

        `noise`: the step's ΔW, where all else in the step was decided before it.
        """
        self.guard.watch_state(n, after)
        made = (Transition(n, x, after, noise),) if isinstance(noise, Tensor) else ()
        state = self.preview(n, x, drift, after, made)
        self.marginals.watch(n, state.x, state.prediction)
        return state

    def read_guards(self) -> None:
        """At the end: raise where a value was not finite, warn where a state left its marginals."""
        self.guard.read()
        self.marginals.read()

    def preview(self, n: int, x: Tensor, drift: Tensor, after: Tensor, transitions: Sequence[Transition] = ()) -> State:
        """The same of a state that may still change, unchecked."""
        total = len(self.times) - 1 + self.process.final_calls
        velocities = self.process.velocity(after)
        place = self.process.position(after)
        clean = self.clean(x, drift, n) if self.process.final_calls else place
        t, calls = float(self.times[n + 1]), self.evaluator.calls
        return State(n + 1, total, t, place, clean, calls, velocities, transitions=transitions)

    def final(self, x: Tensor) -> Iterator[State]:
        """The last evaluation of a diffusion: the top level's data at the last time, without noise; else nothing."""
        if not self.process.final_calls:
            return
        last = len(self.times) - 1
        data = self.evaluator(self.levels[-1], x, float(self.times[last]), "sample")
        self.guard.watch(last, self.levels[-1], data)
        yield State(last + 1, last + 1, 0.0, data, data, self.evaluator.calls)

    def clean(self, x: Tensor, drift: Tensor, n: int) -> Tensor:
        """The prediction of the data that a drift at the n-th time stands for."""
        schedule, t = self.process.model_schedule, self.times[n]
        if self.process.drift_is == "sample" or schedule is None:
            return drift
        of_x, of_drift = conversion(self.process.drift_is, "sample", schedule.alpha(t), schedule.sigma(t))
        return drift * float(of_drift) + x * float(of_x)
