"""What a parallel run is expected to cost in time: its critical path, beside that of the sequential run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError
from multidrift.basics.types import Steps
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import Model
from multidrift.methods.picard.sweeps import INNER_ROUNDS
from multidrift.runs.result import Result

# Rounds to an error of 1e-3 of the sample variance, as measured on the bundled digits ladder from 60 steps on, ODE and
# SDE, without acceleration. They are a guess for any other: what counts is how far a coarse level is from the top one,
# not what it costs.
_PLAIN_ROUNDS, _GAUSSIAN_ROUNDS = 18, 14
_EVERY = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Forecast:
    """One choice of `coarse` and `coarse_every`, with the rounds it is assumed to take; or of Speculative's drafter.

    `rounds` are whole ones where they are assumed; from a pilot they are a mean over samples.
    `critical_path` is (rounds·C_top + sweeps·calls_per_sweep·C_coarse) / (steps·C_top): below 1 the run takes less
    time than the sequential one on a machine where a call on a whole block's rows takes no longer than on one sample's.
    """

    steps: int
    coarse: tuple[str, ...]
    coarse_every: int
    rounds: float
    sweeps: float
    calls_per_sweep: int
    critical_path: float
    method: str = "Picard"

    @property
    def break_even(self) -> float:
        """How many times longer a round's call may take than a call on the batch alone before the gain is gone."""
        in_rounds = self.rounds / self.steps
        return (1.0 - (self.critical_path - in_rounds)) / in_rounds


@checked
def forecasts(ladder: Ladder, steps: Steps) -> list[Forecast]:
    """Every choice of one coarse level and `coarse_every`, and plain Picard, the shortest critical path first."""
    if ladder.costs is None:
        raise MultidriftError("coarse: got 'auto'; it takes a ladder with measured costs, ladder.measured()")
    choices: list[tuple[tuple[str, ...], int]] = [((), 1)]
    choices += [(("gaussian",), 1)] if ladder.gaussian is not None else []
    choices += [((name,), every) for name in ladder.names[:-1] for every in _EVERY]
    found = [forecast(ladder, steps, coarse, every) for coarse, every in choices]
    return sorted(found, key=lambda choice: choice.critical_path)


def forecast(model: Model, steps: int, coarse: Sequence[str], every: int, rounds: int | None = None) -> Forecast:
    """The critical path of one choice, with the rounds that are assumed of it where they are not given.

    The first sweep comes before any round; each middle level takes two calls, and twice the sweeps below it.
    """
    rounds = assumed_rounds(model, coarse, every, steps) if rounds is None else rounds
    solves = (rounds + 1) if coarse else 0
    spent = float(rounds)
    for name in reversed(coarse[1:]):
        solves *= INNER_ROUNDS
        spent += solves * cost_ratio(model, name)
    calls = -(-steps // every) if coarse else 0
    spent += solves * calls * cost_ratio(model, coarse[0]) if coarse else 0.0
    return Forecast(steps, tuple(coarse), every, rounds, solves, calls, spent / steps)


def assumed_rounds(model: Model, coarse: Sequence[str], every: int, steps: int) -> int:
    """The rounds that a choice is assumed to take, at most one a step: 2/√(C_coarse/C_top) with a level below.

    More where it is held for long: by 5/4 for each doubling of `every` beyond a sixtieth of the steps.
    """
    if not coarse:
        return min(_PLAIN_ROUNDS, steps)
    ratio = cost_ratio(model, coarse[-1])
    rounds = (
        _GAUSSIAN_ROUNDS
        if ratio == 0
        else math.ceil(2.0 / math.sqrt(ratio) + 1.25 * math.log2(max(60.0 * every / steps, 1.0)))
    )
    return min(rounds, steps)


def cost_ratio(model: Model, coarse: str) -> float:
    """C_coarse/C_top; 0 for what costs nothing or was not measured."""
    if not isinstance(model, Ladder) or model.costs is None:
        return 0.0
    return model.costs.seconds.get(coarse, 0.0) / model.costs.seconds[model.top]


@checked
def critical_path(result: Result, ladder: Ladder, steps: Steps) -> float:
    """The critical path that a finished run had, from its invocations and the ladder's measured costs.

    It counts every invocation as one call of the batch alone; the run must not have been cut by a `batch_size`.
    """
    if ladder.costs is None:
        raise MultidriftError("ladder: has no measured costs; it takes ladder.measured()")
    seconds = ladder.costs.seconds
    spent = sum(number * seconds.get(name, 0.0) for name, number in result.batches.items())
    return spent / (steps * seconds[ladder.top])
