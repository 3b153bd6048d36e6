"""Parallel Picard iteration: all steps of a block at once, repeated until they agree with each other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.checks import Settings, check_fields
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.types import Numbers, Positive, Size
from multidrift.drifts.drift import Drift
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import Model
from multidrift.methods.method import GridMethod
from multidrift.methods.picard.anderson import Anderson
from multidrift.methods.picard.difference import Held, Secant
from multidrift.methods.picard.forecast import Forecast, forecast, forecasts
from multidrift.methods.picard.front import Indices, block_boundaries, check_blocks
from multidrift.methods.picard.points import Points
from multidrift.methods.picard.sweeps import Level, Nested, Sweep, Zero
from multidrift.methods.picard.warm import WarmStart
from multidrift.processes.process import Process
from multidrift.runs.result import Result, State
from multidrift.runs.run import Run


class ConvergenceWarning(UserWarning):
    """Rounds ran out before the time points of a parallel run agreed with each other."""


@dataclass(frozen=True)
class Coarse(Settings):
    """What ladder Picard integrates step by step: `level`, a name or several as `Picard` takes them, and how often.

    - `every`: steps from one call of it to the next
    """

    level: str | Sequence[str]
    every: Size = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Picard(GridMethod):
    """Euler's path found in parallel: each round evaluates D at all open time points and sums the steps anew.

    - `blocks`: number of blocks of equal length in λ (on grid "piadm" in the forward time of PIADM; Langevin: in
      time), solved one after another, or the times at which blocks end; `window`: at most so many steps at once,
      moving on as points settle
    - `tolerance`: a time point is settled when the root mean square over one sample's coordinates of its change is at
      most tolerance·σ(t) (Langevin: tolerance·√(2h/β)), and so are those before it; `absolute` drops the factor
    - `max_rounds`: rounds after which a time point is taken as it is, with a `ConvergenceWarning`; by default as many
      as are needed, at most one a step, as each round makes one point exact
    - `rounds`: in their place exactly so many rounds for every time point, fewer only where a point is exact before;
      `tolerance` then decides nothing but `result.converged`, and there is no warning
    - `coarse`: a cheaper level of the ladder that is integrated step by step while the rounds iterate on the
      difference alone (ladder Picard); "gaussian", the ladder's closed form; several, cheapest first, each solved on
      the one below it; or "auto": the choice, `coarse_every` included, that `forecasts` puts first
    - `coarse_every`: steps from one call of the coarse level to the next; between them its drift is held. Both at once:
      `coarse=md.Coarse("f2", every=4)`
    - `accelerate`: "secant", follow the difference along the line through its last two values (`Secant`); "anderson",
      combine the last iterates (`Anderson`), without `coarse`
    - `initial`: the first states of a block: "start" (those at its start; with `coarse`, the cheap level's path),
      a number of coarse steps of the top level, or an earlier `Result` with its `trajectory`

    Settled points are not evaluated again, finished samples leave the batch, and a round is one call of the top level
    unless `batch_size` or `memory_limit` is smaller. The result is that of `Euler` up to the tolerance; `window=1` is
    Euler bit for bit. All time points are kept: 2N + 1 states, N more a level, 4N with the secant. It shortens the time
    of a run only where a call on many rows takes less time than many calls on one. Raises MultidriftError on settings
    out of range, a coarse level that the ladder does not have or that is its top, and on a tolerance below the
    precision of the network.

    Source: ParaDiGMS (Shih et al. 2023) for `window`; PIADM (Chen et al. 2024) for `blocks`: Algorithm 1 (η = 1) and
    the predictor of Algorithm 2 (η = 0) are `holds="score"` with the settings of `md.piadm`; `coarse` is ours.
    """

    blocks: int | Numbers = 1
    window: Size | None = None
    tolerance: Positive = 1e-3
    absolute: bool = False
    max_rounds: Size | None = None
    rounds: Size | None = None
    coarse: str | Sequence[str] | Coarse | None = None
    coarse_every: Size = 1
    accelerate: str | None = None
    initial: str | int | Result | WarmStart = "start"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "blocks", check_blocks(self.blocks))
        if isinstance(self.coarse, Coarse):
            one = self.coarse_every == 1
            require(one, "coarse_every", self.coarse_every, "1 with coarse=md.Coarse(…), which has its own every=")
            object.__setattr__(self, "coarse_every", self.coarse.every)
            object.__setattr__(self, "coarse", self.coarse.level)
        require(self.rounds is None or self.max_rounds is None, "max_rounds", self.max_rounds, "None with rounds=")
        every = self.coarse_every
        free = self.coarse not in (None, "auto")
        require(free or every == 1, "coarse_every", every, "1 without coarse=, and with coarse='auto'")
        known = self.accelerate in (None, "anderson", "secant")
        require(known, "accelerate", self.accelerate, "None, 'anderson' or 'secant'")
        fits = self.accelerate != "anderson" or self.coarse is None
        takes = "None or 'secant' with coarse=, whose difference must be that of its own sweep"
        require(fits, "accelerate", self.accelerate, takes)
        if self.coarse is not None and not isinstance(self.coarse, str | Coarse):
            object.__setattr__(self, "coarse", tuple(self.coarse))
        if isinstance(self.initial, Result):
            object.__setattr__(self, "initial", WarmStart.of(self.initial))
        start = self.initial == "start" or isinstance(self.initial, WarmStart)
        good = start or (type(self.initial) is int and self.initial >= 1)
        require(good, "initial", self.initial, "'start', a number of coarse steps, or a Result with its trajectory")

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values; a warm start is named but not kept, so that such a method cannot be rebuilt."""
        return super().to_dict() | ({"initial": "an earlier result"} if isinstance(self.initial, WarmStart) else {})

    @property
    def coarse_levels(self) -> tuple[str, ...]:
        """Names of the levels below the top one, cheapest first."""
        if self.coarse is None:
            return ()
        assert not isinstance(self.coarse, Coarse)  # it was taken apart
        return (self.coarse,) if isinstance(self.coarse, str) else tuple(self.coarse)

    def for_model(self, model: Model, process: Process | None = None) -> Picard:
        """With `coarse="auto"` decided: the least critical path by the ladder's measured costs."""
        del process
        if self.coarse != "auto":
            return self
        best = forecasts(_ladder(self.coarse, model), self.number_of_evaluations)[0]
        return replace(self, coarse=best.coarse or None, coarse_every=best.coarse_every)

    def forecast(self, model: Model) -> Forecast:
        """The rounds that this choice is assumed to take as one block, its critical path and when it pays."""
        method = self.for_model(model)
        method.levels_of(model)  # refuses what does not fit
        rounds = None if self.rounds is None else min(self.rounds, self.number_of_evaluations)
        return forecast(model, self.number_of_evaluations, method.coarse_levels, method.coarse_every, rounds)

    def expected_calls(self, model: Model) -> dict[str, float]:
        """An upper bound: every point in every round, of `rounds` or those that `forecasts` assumes of this choice."""
        method = self.for_model(model)
        if method is not self:
            return method.expected_calls(model)
        levels = self.levels_of(model)
        expected = self.forecast(model)
        calls = dict.fromkeys(levels, float(self.number_of_evaluations * expected.rounds))
        if self.coarse_levels:
            calls[self.coarse_levels[0]] = float(expected.sweeps * expected.calls_per_sweep)
        return calls

    def levels_of(self, model: Model) -> dict[str, Drift]:
        """The coarse levels and the top one."""
        if self.coarse == "auto":
            return self.for_model(model).levels_of(model)
        if not self.coarse_levels:
            return super().levels_of(model)
        model = _ladder(self.coarse, model)
        assert isinstance(self.coarse, str | tuple)  # a Coarse was taken apart
        return model.choose(self.coarse, "coarse", below=True) | {model.top: model[model.top]}

    def walk(self, run: Run) -> Iterator[State]:
        """The rounds, then the last evaluation of a diffusion."""
        x = yield from self.iterate(run)
        yield from run.final(x)

    def iterate(self, run: Run) -> Generator[State, None, Tensor]:
        """D ← D^K(x), x ← the path of D^c(x) + [D − D^c(old x)]; until x stands still (coarse=None: D^c = 0).

        Returns the states at the last time.
        """
        scale = np.ones_like(run.times) if self.absolute else run.process.noise_size(run.times)
        points = Points(run, scale)
        tolerance = self.tolerance if self.rounds is not None else self._checked_tolerance(run)
        most_rounds = self.rounds or self.max_rounds or points.increments
        sweep = self._sweep(points, run)
        first_states = self._first_states(points, sweep, run)
        boundaries = block_boundaries(run.process, run.times, self.blocks, self.grid)
        anderson = Anderson(points) if self.accelerate == "anderson" else None
        difference = Secant(points) if self.accelerate == "secant" else Held(points)
        while not points.front.done:
            starts = points.advance(self._ends(points, boundaries))
            if np.any(starts < points.front.ends):
                first_states(starts)
            opened, before, settled = points.front.open(), points.x.clone(), points.front.settled
            drift = points.drift(run.levels[-1], opened)
            difference.found(drift - sweep.used, opened)
            sweep.run(difference, settled)
            residual = points.front.settle(
                points.changes(before, opened), tolerance, most_rounds, by_rounds=self.rounds is not None
            )
            if anderson is not None:
                anderson.accelerate(before, opened)
            yield points.state(difference.values + sweep.used, residual, int(settled.min()))
        if points.front.unconverged and self.rounds is None:
            warnings.warn(
                f"max_rounds: {self.max_rounds} rounds were not enough: the largest change left is "
                f"{points.front.unconverged:.2g}, above tolerance={self.tolerance:g}",
                ConvergenceWarning,
                stacklevel=5,
            )
        return points.x[-1]

    def _ends(self, points: Points, boundaries: Indices) -> Indices:
        """The last point that each sample iterates on: the end of its block or of its window."""
        ends = boundaries[
            np.minimum(np.searchsorted(boundaries, points.front.settled, side="right"), len(boundaries) - 1)
        ]
        return ends if self.window is None else np.minimum(ends, points.front.settled + self.window)

    def _sweep(self, points: Points, run: Run) -> Sweep:
        """What lies below the top level."""
        if not self.coarse_levels:
            return Zero(points)
        sweep: Sweep = Level(points, run.levels[0], self.coarse_every)
        for level in run.levels[1:-1]:
            sweep = Nested(points, level, sweep)
        return sweep

    def _first_states(self, points: Points, sweep: Sweep, run: Run) -> Callable[[Indices], None]:
        """How points get their first states when they are opened."""
        if self.initial == "start":
            return sweep.begin
        known = self.initial.on(run) if isinstance(self.initial, WarmStart) else None
        number = self.initial if isinstance(self.initial, int) else 1
        coarse = Level(points, run.levels[-1], -(-points.increments // number))

        def first_states(starts: Indices) -> None:
            if known is None:
                coarse.begin(starts)
            else:
                points.put(known, starts)
            sweep.adopt(starts)

        return first_states

    def _checked_tolerance(self, run: Run) -> float:
        """The tolerance, if the network is precise enough for it."""
        top = run.evaluator.levels[run.levels[-1]].dtype
        floors = {str(dtype): torch.finfo(dtype).eps for dtype in (top, run.start.dtype) if dtype is not None}
        coarsest = max(floors, key=lambda name: floors[name])
        takes = f"at least {floors[coarsest]:.2g}, the precision of {coarsest}"
        require(self.tolerance >= floors[coarsest], "tolerance", self.tolerance, takes)
        return self.tolerance


def _ladder(coarse: object, model: Model) -> Ladder:
    """The model as a ladder, which `coarse` needs."""
    if not isinstance(model, Ladder):
        raise MultidriftError(f"coarse: got {coarse!r} with {model!r}; it takes an md.Ladder as the model")
    return model
