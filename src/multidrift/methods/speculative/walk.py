"""Speculative sampling: the top level's law exactly, in fewer rounds of it than steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, cast, get_args

import numpy as np
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Dimensions, Four, Seed, Size
from multidrift.drifts.drift import Drift
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import AnyModel, Model, as_model, process_for
from multidrift.methods.method import GridMethod
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.picard.forecast import Forecast, cost_ratio
from multidrift.methods.picard.points import Points
from multidrift.methods.speculative.block import Renewal
from multidrift.methods.speculative.chains import Chain, Follow, Leaf, Verified
from multidrift.methods.speculative.difference import Differences, Extrapolated, held_units, lag_of
from multidrift.methods.speculative.drafters import FROZEN, Drafter, Network, Nothing, Source, Telescope
from multidrift.methods.speculative.forecast import (
    assumed_rounds,
    cost_of_draft,
    drafted,
    forecast_rounds,
    known_shape,
)
from multidrift.methods.speculative.pilot import Pilot
from multidrift.methods.speculative.windows import Windows
from multidrift.processes.process import Process
from multidrift.runs.plan import coefficients
from multidrift.runs.result import Speculation, State
from multidrift.runs.run import Run
from multidrift.runs.transitions import StepNoise, Transition

Verification = Literal["step", "block"]
VERIFICATIONS: tuple[Verification, ...] = get_args(Verification)


@dataclass(frozen=True)
class Speculative(GridMethod):
    """Draw from Euler's law exactly: a drafter goes ahead, one call of the top level accepts what it has drafted.

    - `drafter`: "frozen" (the last known prediction), a level of the ladder, its closed form "gaussian", or either
      with the difference to the top level as it was at the last accepted point, "f1+held", or as it has moved with
      the level's own D since, "f1+extrapolated"; several, cheapest first, each drafting for the next:
      ("f1+held", "f3+held"); or an `md.Multilevel` of levels below the top one, whose estimate drafts
    - `window`: at most so many steps are drafted at once; (least, most): adapted for each sample to how many of its
      last drafts were accepted
    - `every`: steps from one call of the drafter's level to the next; its D is held between them. With the top level
      itself as the drafter it is a coarser step of it
    - `verification`: "step", each on its own, or "block", all of a window together: fewer rounds, at no call

    A round is one call of the top level on every sample's window. Each sample goes on from its first step that was not
    accepted, which is corrected, so that every step is distributed as Euler's is; finished samples leave the batch.
    A sample depends on (seed, first + i), the window and the drafter alone. Where the drafter is as good as the top
    level everything is accepted, and the path is Euler's with the same noise, bit for bit. Needs noise (η > 0, or
    Langevin dynamics). It keeps all points: 6N + 1 states, 3N more for every further drafter.

    Raises MultidriftError on a process without noise, `grad=True`, windows below 1, and drafters that the ladder does
    not have or that are its top level. Source: De Bortoli et al. 2025, arXiv 2501.05370; drafts of a ladder with the
    held difference are ours.
    """

    steps_are_gaussian: ClassVar[bool] = True

    window: Size | Sequence[Size] = 20
    drafter: str | Sequence[str] | Multilevel | Mapping[str, object] = FROZEN
    every: int = 1
    verification: Verification = "step"

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = tuple(self.window) if isinstance(self.window, Sequence) else (self.window,)
        good = len(listed) in (1, 2) and all(type(n) is int and n >= 1 for n in listed) and listed[0] <= listed[-1]
        require(good, "window", self.window, "steps, at least 1, or (least, most) of them")
        object.__setattr__(self, "window", listed[0] if len(listed) == 1 else listed)
        require(self.verification in VERIFICATIONS, "verification", self.verification, "'step' or 'block'")
        require(type(self.every) is int and self.every >= 1, "every", self.every, "an integer of at least 1")
        if isinstance(self.drafter, Mapping):
            settings = {name: value for name, value in self.drafter.items() if name != "method"}
            object.__setattr__(self, "drafter", Multilevel(**settings))  # type: ignore[arg-type]  # checked there
        if isinstance(self.drafter, Multilevel):
            shared = self.drafter.shared and self.drafter.order == 1
            require(shared, "drafter", self.drafter, "a Multilevel of order 1 with shared draws")
            same = self.drafter.number_of_evaluations == self.number_of_evaluations
            require(same, "drafter", self.drafter, f"a Multilevel of {self.number_of_evaluations} steps")
        elif not isinstance(self.drafter, str):
            object.__setattr__(self, "drafter", tuple(self.drafter))

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values."""
        plain = super().to_dict()
        return plain | ({"drafter": self.drafter.to_dict()} if isinstance(self.drafter, Multilevel) else {})

    @property
    def drafters(self) -> tuple[Drafter, ...]:
        """Those that have names, the one that goes ahead first."""
        if isinstance(self.drafter, Multilevel):
            return ()
        return tuple(Drafter.of(name) for name in self._names)

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.drafter,) if isinstance(self.drafter, str) else cast("tuple[str, ...]", self.drafter)

    def levels_of(self, model: Model) -> dict[str, Drift]:
        """The drafters' levels and the top one."""
        top = super().levels_of(model)
        if isinstance(self.drafter, Multilevel):
            below = self.drafter.levels_of(model)
            clash = set(below) & set(top)
            require(not clash, "drafter", self.drafter, f"levels below the top one ({', '.join(clash)})")
            return below | top
        drafters = self.drafters
        names = tuple(d.level for d in drafters if d.level is not None)
        require(len(drafters) > 0, "drafter", self.drafter, "at least one")
        first = len(names) == len(drafters) or drafters[0].level is None
        require(first and len(names) >= len(drafters) - 1, "drafter", self.drafter, "'frozen' as the first or only one")
        if not names:
            return top
        if not isinstance(model, Ladder):
            raise MultidriftError(f"drafter: got {self.drafter!r} with {model!r}; it takes an md.Ladder as the model")
        if names == (model.top,) and self.every > 1:
            require(
                drafters[0].follows is None, "drafter", self.drafter, f"{model.top!r}: it has no difference to itself"
            )
            return top
        takes = f"a level below {model.top}, or {model.top} with every= at least 2"
        require(model.top not in names, "drafter", self.drafter, takes)
        return model.choose(names, "drafter", below=True) | top

    @checked
    def forecast(
        self,
        model: AnyModel,
        process: Process | None = None,
        pilot: Four = 100,
        count: Size = 4,
        seed: Seed = 0,
        shape: Dimensions | None = None,
    ) -> Forecast:
        """The rounds that a run is expected to take, and its critical path, from a pilot of so many steps and paths.

        It costs `pilot`·`count` calls of the top level and of each drafter's. Raises MultidriftError on pilots of less
        than 4 steps.
        """
        model = as_model(model)
        process = process_for(model, process)
        method = self.for_model(model, process)
        levels = method.levels_of(model)
        times = method.grid_for(process)
        require(len(times) > 4, "steps", method.number_of_evaluations, "at least 5 to forecast rounds")
        few = min(pilot, len(times) - 1)
        chosen = np.unique(np.linspace(0, len(times) - 1, few + 1).round().astype(np.intp))
        paths = Pilot.of(
            process, levels, known_shape(levels, None if shape is None else tuple(shape)), times[chosen], count, seed
        )
        return method.forecast_from(model, paths, times)

    def forecast_from(self, model: Model, pilot: Pilot, times: Floats) -> Forecast:
        """The forecast of a run along these times, from a pilot's drifts."""
        names, every = list(pilot.drifts), self.every
        if isinstance(self.drafter, Multilevel):
            factors = coefficients(self._telescope_weights(self.levels_of(model), pilot.process, times))
            squares, name = pilot.squares_of_sum(factors, times), "Multilevel"
            called = (factors != 0).mean(axis=0) @ [cost_ratio(model, level) for level in names[:-1]]
            calls, cost = self.most, self.most * float(called)
        else:
            last, name = self.drafters[-1], " for ".join(self._names)
            below = () if last.level is None or last.level == names[-1] else (last.level,)
            own = pilot.of_levels(*below, names[-1])
            squares = own.squares_every(last, times, self.most, every if len(self.drafters) == 1 else 1)
            calls = 0 if self.drafters[0].level is None else -(-self.most // every)
            cost = cost_of_draft(model, self.drafters, pilot, times, self.most, every)
        kind = {"blind": self.drafter == FROZEN, "blocks": self.verification == "block"}
        rounds = float(forecast_rounds(squares, pilot, times, self.window, **kind).mean())
        return drafted(self.number_of_evaluations, name, rounds, calls, cost, every)

    def expected_calls(self, model: Model) -> dict[str, float]:
        """A guess: whole windows, in as many rounds as `md.forecasts` assumes of a drafter of this kind."""
        levels, steps = self.levels_of(model), self.number_of_evaluations
        rounds = assumed_rounds(model, self.drafters[-1] if self.drafters else Drafter.of(FROZEN), steps, self.most)
        calls = dict.fromkeys(levels, float(rounds * -(-self.most // self.every)))
        return calls | {list(levels)[-1]: float(rounds * self.most + 1)}

    def for_model(self, model: Model, process: Process | None = None) -> Speculative:
        """The method as it is; a process without noise is refused here."""
        del model
        takes = "noise (eta > 0, or Langevin dynamics): without it no draft is exactly right, md.Picard is the method"
        require(process is None or process.noisy, "process", f"{type(process).__name__} without noise", takes)
        return self

    def walk(self, run: Run) -> Iterator[State]:
        """Rounds of drafting and verifying, then the last evaluation of a diffusion."""
        smooth = "False: what is accepted jumps, and has no derivative; Euler has the same law"
        require(not run.evaluator.grad, "grad", run.evaluator.grad, smooth)
        points = Points(run, np.ones_like(run.times))
        top, front, windows = self._chains(points), points.front, Windows(self.window, points.count)
        rounds = np.zeros(points.count, dtype=np.intp)
        while not front.done:
            starts = front.settled
            # The first prediction is not held yet: there is nothing to draft a second step from.
            window = 1 if self.drafter == FROZEN and not starts.any() else windows.sizes
            points.advance(np.minimum(points.increments, starts + window))
            rounds += starts < front.ends
            front.settled = top.round(starts, front.ends)
            windows.adapt(front.settled - starts, front.ends - starts, top.accepted[front.settled - 1, points.samples])
            done = range(int(starts.min()), int(front.settled.min()))
            state = points.state(top.drift, None, done.start, done.stop)
            found = Speculation(rounds.copy(), front.settled, top.accepted.copy(), top.probability.copy())
            made = [Transition(n, points.x[n], points.x[n + 1], top.noise[n]) for n in done]  # final: not written again
            yield replace(state, speculation=found, transitions=made)
        yield from run.final(points.x[-1])

    def _chains(self, points: Points) -> Verified:
        """The top level's chain, on those of the drafters."""
        law = StepNoise(points.run.process, points.own)
        renewal = Renewal(points, law) if self.verification == "block" else None
        below = partial(self._below, points, law, renewal, self.drafters, 1)
        return Verified(points, Network(points.run.levels[-1]), law, 0, below, renewal=renewal)

    def _below(
        self,
        points: Points,
        law: StepNoise,
        renewal: Renewal | None,
        drafters: Sequence[Drafter],
        depth: int,
        above: Tensor,
    ) -> Chain:
        """The chain of the last of these drafters, which drafts for one with the drift `above`."""
        if not drafters:
            return Leaf(points, self._telescope(points.run), self.every)
        *rest, this = drafters
        follow = self._follow(points, this, above)
        if not rest:
            source: Source = Nothing() if this.level is None else Network(this.level)
            return Leaf(points, source, self.every, follow)
        assert this.level is not None
        below = partial(self._below, points, law, renewal, rest, depth + 1)
        return Verified(points, Network(this.level), law, depth, below, follow, renewal)

    def _follow(self, points: Points, drafter: Drafter, above: Tensor) -> Follow | None:
        """How the difference to the chain above is followed."""
        if drafter.follows is None:
            return None
        units = held_units(points.run.process, points.run.times[:-1])
        units = np.ones_like(units[:1]) if drafter.level is None else units
        lag = lag_of(self.most)
        kind = Differences if drafter.follows == "held" else Extrapolated
        return lambda own, known: kind(points, above, own, known, units, lag)

    def _telescope(self, run: Run) -> Telescope:
        """Multilevel's estimate on the plan of seed 0."""
        levels = {name: run.evaluator.levels[name] for name in run.levels}
        return Telescope(tuple(run.levels[:-1]), self._telescope_weights(levels, run.process, run.times))

    def _telescope_weights(self, levels: Mapping[str, Drift], process: Process, times: Floats) -> Floats:
        """Of that plan [N, levels below the top one]."""
        assert isinstance(self.drafter, Multilevel)
        *names, _ = levels
        ladder = Ladder([levels[name] for name in names], tuple(names))
        return np.asarray(self.drafter.weight_table(ladder, process, times, 0, (0,))[0])

    @property
    def most(self) -> int:
        """The largest window."""
        return self.window if isinstance(self.window, int) else self.window[-1]
