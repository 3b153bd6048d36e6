"""All that could be done for a budget: every method of the package that it pays for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from multidrift.basics.errors import MultidriftError
from multidrift.drifts.ladder import GAUSSIAN, Ladder
from multidrift.methods.advice import PlanWarning
from multidrift.methods.euler import Euler
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.methods.method import Method
from multidrift.methods.multilevel.draws import Draws
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.multistep import Multistep
from multidrift.methods.picard.walk import Picard
from multidrift.methods.poisson.walk import PoissonMidpoint
from multidrift.methods.speculative.walk import Speculative
from multidrift.planning.allocate import best_allocation
from multidrift.planning.calibration import Calibration
from multidrift.planning.rules import Rule
from multidrift.processes.process import Process
from multidrift.schedules.grids import Grid

Kind = Literal["top", "level", "ladder", "parallel"]
Quality = Literal["path", "law"]
_MOST_STEPS = 256  # beyond, what a level itself is off by outweighs its steps
_GRIDS: tuple[Grid | None, ...] = (None, "linspace", "logsnr", "karras")
_PLANS: tuple[tuple[Rule, Draws], ...] = (
    *(("time", draws) for draws in ("midpoint", "systematic", "independent")),
    *(("constant", draws) for draws in ("midpoint", "systematic")),
)
_SUBSTEPS = 10  # of PoissonMidpoint
_WALKED = 0.125  # of the top level's cost: the most that a level may cost which walks the cells in several substeps


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method that a budget pays for. `kind`: the top level alone, a lower level alone, several, or in parallel."""

    label: str
    kind: Kind
    method: Method
    seconds: float


class Prices:
    """What methods cost a sample, by a calibration: calls, and what a step costs beside them."""

    def __init__(self, ladder: Ladder, process: Process, calibration: Calibration) -> None:
        self.ladder, self.process, self.calibration = ladder, process, calibration

    def of(self, method: Method) -> float:
        """Expected seconds of a sample at the calibration's batch."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PlanWarning)
            calls = method.for_model(self.ladder, self.process).expected_calls(self.ladder)
        known = self.calibration
        spent = sum(number * known.cost(name) for name, number in calls.items())
        # The level that is called most is called at every step, or nearly so.
        return (spent + known.overhead * max(calls.values())) / known.batch

    def most(self, make: Callable[[int], Method], seconds: float, fewest: int) -> Method | None:
        """The method with the most steps that costs so many seconds; None where the fewest steps cost more."""
        if self.of(make(fewest)) > seconds:
            return None
        low, high = fewest, _MOST_STEPS + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.of(make(middle)) <= seconds else (low, middle)
        return make(low)


def candidates(
    ladder: Ladder, process: Process, calibration: Calibration, seconds: float, quality: Quality
) -> list[Candidate]:
    """Every setting that costs at most so many seconds a sample, each with as many steps as that pays for.

    The top level alone, each lower one alone, LadderMultistep and Multilevel over several; of the law alone Poisson
    midpoint as well, which follows no path. Raises MultidriftError where the budget does not pay for two steps of
    any level.
    """
    prices = Prices(ladder, process, calibration)
    found: list[Candidate] = []
    for label, kind, make, fewest in _families(ladder, process, calibration, quality):
        method = prices.most(make, seconds, fewest)
        if method is not None:
            found.append(Candidate(label, kind, method, prices.of(method)))
    if not found:
        least = least_seconds(ladder, process, calibration)
        raise MultidriftError(
            f"budget: got {seconds:.4g} seconds a sample; two calls of {ladder.names[0]}, the cheapest level, take "
            f"{least:.4g}"
        )
    for rule, draws in _PLANS:
        try:
            chosen = best_allocation(ladder, calibration, process, rule=rule, seconds=seconds, draws=draws)
        except MultidriftError:
            continue  # no multilevel method does with this budget
        label = f"Multilevel {'+'.join(chosen.method.levels or ())}, {draws}, {rule}"
        found.append(Candidate(label, "ladder", chosen.method, prices.of(chosen.method)))
    return [candidate for candidate in found if candidate.seconds <= seconds * 1.02]  # midpoint draws round their calls


def least_seconds(ladder: Ladder, process: Process, calibration: Calibration) -> float:
    """Seconds a sample of two steps of the cheapest level, below which there is no candidate."""
    return Prices(ladder, process, calibration).of(_alone(ladder.names[0], 1, None)(2))


def _families(
    ladder: Ladder, process: Process, calibration: Calibration, quality: Quality
) -> Iterator[tuple[str, Kind, Callable[[int], Method], int]]:
    """Label, kind, the method with so many steps, and the fewest it takes."""
    top, diffusion = ladder.top, process.final_calls > 0
    for grid in _GRIDS if diffusion else (None,):
        yield f"Multistep {top}{f', {grid}' if grid else ''}", "top", partial(Multistep, grid=grid), 2
    yield f"Euler {top}", "top", Euler, 2
    if process.components == 1:
        yield f"Multistep 3 {top}", "top", lambda n: Multistep(n, order=3), 2
    if quality == "law":
        yield f"PoissonMidpoint {top}", "top", lambda n: PoissonMidpoint(n, substeps=_SUBSTEPS, draws="single"), 2
    for name in ladder.names[:-1]:
        yield f"Euler {name}", "level", _alone(name, 1, None), 2
        yield f"Multistep {name}", "level", _alone(name, 2, None), 2
    pairs = [(name, top) for name in ladder.with_gaussian() if name != top]
    for levels in [(top,), *pairs] if diffusion else pairs:
        kind: Kind = "ladder" if len(levels) == 2 and levels[0] != GAUSSIAN else "top"
        name = f"LadderMultistep {'+'.join(levels)}"
        cheap = len(levels) == 2 and calibration.cost(levels[0]) <= _WALKED * calibration.cost(top)
        for substeps in (1, 3) if cheap else (None,):
            label = name if substeps is None else f"{name}, {substeps} substep{'s' if substeps > 1 else ''}"
            yield label, kind, partial(LadderMultistep, levels=levels, substeps=substeps), 3


def _alone(name: str, order: int, grid: Grid | None) -> Callable[[int], Method]:
    """One level of the ladder by itself: Multilevel of one level is Euler, or with order 2 Multistep, on it."""
    return lambda n: Multilevel(n, grid, levels=(name,), probabilities=1.0, draws="midpoint", order=order)


def parallel(ladder: Ladder, process: Process, steps: int) -> list[Candidate]:
    """Many steps in few rounds of calls, whose price shows in a run: Picard, and with noise speculative sampling.

    Picard plain and over every level; speculative drafts are frozen, or those of the cheapest level.
    """
    below = [None, *(name for name in ladder.with_gaussian() if name != ladder.top)]
    found: list[tuple[str, Method]] = [
        (f"Picard {ladder.top}{f' over {name}' if name else ''}", Picard(steps, coarse=name)) for name in below
    ]
    if process.noisy:
        drafters = ("frozen", f"{ladder.names[0]}+held")
        found += [(f"Speculative {ladder.top}, {name}", Speculative(steps, drafter=name)) for name in drafters]
    return [Candidate(label, "parallel", method, 0.0) for label, method in found]
