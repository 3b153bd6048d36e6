"""PIADM-ODE: parallel Picard iteration of the ODE, with parallel underdamped Langevin dynamics after each block."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import cast

from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.drifts.drift import Bound, Conditioning, Drift
from multidrift.drifts.model import Model
from multidrift.methods.method import Method
from multidrift.methods.picard.front import block_boundaries
from multidrift.methods.picard.walk import Picard
from multidrift.noise.path import BrownianPath
from multidrift.processes.langevin import Underdamped
from multidrift.processes.predictions import Prediction
from multidrift.processes.process import Process
from multidrift.runs.evaluator import Evaluator
from multidrift.runs.guard import FiniteGuard
from multidrift.runs.marginals import MarginalGuard
from multidrift.runs.result import State
from multidrift.runs.run import Run
from multidrift.schedules.grids import Grid


@dataclass(frozen=True)
class PredictorCorrector(Method):
    """Solve the ODE block by block; after each, run Langevin dynamics on the density at the block's end.

    - `predictor`: a `Picard` of the ODE with its `blocks`; `corrector`: a `Picard` with the steps of one Langevin run
    - `dynamics`: that run, an `md.Underdamped` whose horizon is in units of σ(t), as it acts on x/σ(t); by default of
      horizon 1 and friction 2

    The corrector leaves the density at the block's end as it is and forgets part of the predictor's error; its
    velocities and noise are each sample's own. It takes η = 0. Source: PIADM (Chen et al. 2024), Algorithm 3, with the
    scale σ(t) ours.
    """

    predictor: Picard
    corrector: Picard
    dynamics: Underdamped = field(default_factory=lambda: Underdamped(horizon=1.0, friction=2.0))

    def __post_init__(self) -> None:
        """Parts that come from `to_dict`, as those of a saved plan do, are made again."""
        for name in ("predictor", "corrector"):
            part = _picard(getattr(self, name))
            require(isinstance(part, Picard), name, part, "an md.Picard")
            object.__setattr__(self, name, part)
        saved: object = self.dynamics
        if isinstance(saved, Mapping):
            object.__setattr__(self, "dynamics", Underdamped.from_dict(saved))
        plain = isinstance(self.dynamics, Underdamped) and self.dynamics.preconditioner is None
        require(plain, "dynamics", self.dynamics, "an md.Underdamped without a preconditioner")
        require(self.corrector.coarse is None, "corrector", self.corrector, "an md.Picard without coarse=")

    @property
    def number_of_evaluations(self) -> int:
        """Those of the predictor, whose grid is the run's."""
        return self.predictor.number_of_evaluations

    def grid_for(self, process: Process) -> Floats:
        return self.predictor.grid_for(process)

    def spacing(self, process: Process) -> Grid | None:
        return self.predictor.spacing(process)

    def to_dict(self) -> dict[str, object]:
        values: dict[str, object] = {"method": type(self).__name__}
        for name in ("predictor", "corrector", "dynamics"):
            values[name] = getattr(self, name).to_dict()
        return values

    def for_model(self, model: Model, process: Process | None = None) -> PredictorCorrector:
        return PredictorCorrector(self.predictor.for_model(model, process), self.corrector, self.dynamics)

    def levels_of(self, model: Model) -> dict[str, Drift]:
        """Those of the predictor; the corrector calls the top one."""
        return self.predictor.levels_of(model)

    def expected_calls(self, model: Model) -> dict[str, float]:
        """Those of the predictor, and of the corrector after each block."""
        calls = self.predictor.expected_calls(model)
        blocks = (
            self.predictor.blocks if isinstance(self.predictor.blocks, int) else len(tuple(self.predictor.blocks)) + 1
        )
        top = list(calls)[-1]
        steps = self.corrector.number_of_evaluations
        rounds = steps / 2 if self.corrector.rounds is None else min(self.corrector.rounds, steps)
        return calls | {top: calls[top] + blocks * steps * rounds}

    def walk(self, run: Run) -> Iterator[State]:
        """For each block: x ← the ODE's path to its end; (u, w) ← Langevin dynamics from (x, N(0, 1)); x ← u."""
        require(not run.process.noisy, "process", "noise", "a process without: Diffusion(schedule, eta=0)")
        schedule = run.process.model_schedule
        assert schedule is not None  # only diffusions are without noise
        ends = [0, *block_boundaries(run.process, run.times, self.predictor.blocks, self.predictor.grid).tolist()]
        # One long run, of which each block takes its part, so that no noise is used twice.
        dynamics = replace(self.dynamics, horizon=self.dynamics.horizon * (len(ends) - 1))
        path = BrownianPath(dynamics, run.noise_keys, run.start.shape[1:], run.start.dtype)
        x, total = run.start, len(run.times)
        whole = replace(self.predictor, blocks=1)
        for block, (first, last) in enumerate(pairwise(ends)):
            part = replace(run, times=run.times[first : last + 1], start=x)
            reached = yield from _reported(whole.iterate(part), partial(_renumbered, first=first, total=total))
            t = float(run.times[last])
            sigma = float(schedule.sigma(t))
            top = run.levels[-1]
            evaluator = run.evaluator.of({top: AtOneTime(run.evaluator.levels[top], t, sigma)})
            langevin = self._langevin(run, reached / sigma, block, evaluator, dynamics, path)
            at_step = partial(_at_step, step=last, total=total, t=t, sigma=sigma)
            phase = yield from _reported(self.corrector.iterate(langevin), at_step)
            x = dynamics.position(phase) * sigma
        yield from run.final(x)

    def _langevin(
        self, run: Run, start: Tensor, block: int, evaluator: Evaluator, dynamics: Underdamped, path: BrownianPath
    ) -> Run:
        """Langevin dynamics from positions `start` and new velocities, over a block's part of the long run."""
        times = block * self.dynamics.horizon + self.corrector.grid_for(self.dynamics)
        normals = run.noise_keys.normals([_VELOCITIES - block], start.shape[1:], start.dtype)[0]
        return Run(
            process=dynamics,
            times=times,
            start=dynamics.joined(start, normals * (1.0 / self.dynamics.beta) ** 0.5),
            levels=run.levels[-1:],
            evaluator=evaluator,
            path=path,
            plan=run.plan,
            choices=run.choices,
            noise_keys=run.noise_keys,
            verification_keys=run.verification_keys,
            guard=FiniteGuard(run.guard.names, times),
            marginals=MarginalGuard(dynamics, run.guard.names, times),
        )


_VELOCITIES = -2  # draws below those of the path's own nodes, one a block


class AtOneTime(Drift):
    """The score of a denoiser at one time t, as the gradient of the log-density of y = x/σ(t)."""

    def __init__(self, drift: Drift, t: float, sigma: float) -> None:
        self.drift, self.t, self.sigma = drift, t, sigma
        self.net, self.name, self.shape = drift.net, drift.name, drift.shape

    @property
    def schedule(self) -> None:
        """None: it is a drift of Langevin dynamics."""

    @property
    def settings(self) -> list[object]:
        return [*self.drift.settings, self.t, self.sigma]

    def renamed(self, name: str) -> AtOneTime:
        return AtOneTime(self.drift.renamed(name), self.t, self.sigma)

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, conditioning: Conditioning) -> Tensor:
        """∇ log density at y [n, …]; the time is its own."""
        del t, target
        return self.drift.predict(x * self.sigma, self.t, "score", conditioning) * self.sigma

    def bind(self, conditioning: Conditioning, count: int) -> Bound:
        return _BoundAtOneTime(self, conditioning, count, self.drift.bind(conditioning, count), self.t, self.sigma)


@dataclass(frozen=True, eq=False)
class _BoundAtOneTime(Bound):
    """The same in one run: `inner` is the denoiser's own."""

    inner: Bound
    t: float
    sigma: float

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        del t, target
        return self.inner.predict(x * self.sigma, self.t, "score", rows) * self.sigma

    def work(self, t: float | Floats, rows: int) -> list[tuple[str, int]]:
        del t
        return self.inner.work(self.t, rows)


def _picard(part: object) -> object:
    """A Picard method from its settings, or what it is."""
    if not isinstance(part, Mapping):
        return part
    settings = {name: value for name, value in part.items() if name != "method"}
    return Picard(**settings)


def _reported(
    rounds: Generator[State, None, Tensor], as_whole: Callable[[State], State]
) -> Generator[State, None, Tensor]:
    """States of a part as states of the whole run; returns what the rounds return."""
    while True:
        try:
            state = next(rounds)
        except StopIteration as end:
            return cast("Tensor", end.value)
        yield as_whole(state)


def _renumbered(state: State, first: int, total: int) -> State:
    """A state of a block's path."""
    settled = [(first + n, t, x, velocities) for n, t, x, velocities in state.settled or ()]
    return replace(state, step=first + state.step, total=total, settled=settled)


def _at_step(state: State, step: int, total: int, t: float, sigma: float) -> State:
    """A state of Langevin dynamics on x/σ, all of which are at one step of the whole run."""
    x = state.x * sigma
    return replace(state, step=step, total=total, t=t, x=x, prediction=x, velocities=None, settled=())
