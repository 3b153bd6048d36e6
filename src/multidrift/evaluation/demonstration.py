"""The demonstration: one reference, and five methods at three budgets of equal measured seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from multidrift.basics.errors import require
from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.coupled import Contender, Outcome, compare, equal_cost
from multidrift.methods.euler import Euler
from multidrift.processes.diffusion import Diffusion
from multidrift.runs.result import Result, State
from multidrift.sampling import sample

REFERENCE_STEPS = 160  # of Euler
LEVELS = ("f1", "f5")  # of Multilevel
CORRECTED = ("f2", "f5")  # of LadderMultistep
SHOWN = 24.0  # the budget shown in the picture and the table
_STEPS = {10.0: 30, 16.0: 60, SHOWN: 80}  # of the cheap level for each budget, in calls of the biggest network


@dataclass(frozen=True)
class Demonstration:
    """The reference's result, and what each contender did at each budget (in calls of the biggest network)."""

    reference: Result
    outcomes: Mapping[float, list[Outcome]]

    def curves(self) -> dict[str, list[Outcome]]:
        """The outcomes by method, for a plot of error against seconds."""
        found: dict[str, list[Outcome]] = {}
        for group in self.outcomes.values():
            for outcome in group:
                found.setdefault(outcome.label, []).append(outcome)
        return found


def contenders(ladder: Ladder, process: Diffusion) -> dict[float, list[Contender]]:
    """Five methods for each budget; raises where the ladder's costs were not measured.

    The cheap level of Multilevel takes half of a budget at the most: on a busy machine, or for a sample or two, a call
    of it costs nearly what one of the biggest network does.
    """
    require(ladder.costs is not None, "ladder", ladder, "one with measured costs (Ladder.measured)")
    assert ladder.costs is not None
    ratio = ladder.costs.seconds[LEVELS[0]] / ladder.costs.seconds[LEVELS[1]]
    return {
        budget: equal_cost(
            ladder, process, budget, min(steps, int(budget / 2 / ratio)), LEVELS, CORRECTED, plan_seeds=(0,)
        )
        for budget, steps in _STEPS.items()
    }


def demonstrate(
    ladder: Ladder,
    process: Diffusion,
    count: int,
    seed: int,
    reference_tick: Callable[[State], bool | None],
    tick: Callable[[State], bool | None],
    stage: Callable[[str], None],
) -> Demonstration:
    """Run the reference and all contenders from the same noise.

    The ticks are called after every step, `stage` with what comes next.
    """
    stage(f"reference: {REFERENCE_STEPS} steps of {ladder.top}")
    reference = sample(
        ladder, Euler(REFERENCE_STEPS), process, count=count, seed=seed, progress=False, callback=reference_tick
    )
    outcomes = {}
    for budget, group in contenders(ladder, process).items():
        stage(f"{len(group)} methods in the seconds of {budget:.0f} calls of {ladder.top}")
        outcomes[budget] = compare(ladder, reference.samples, group, process, seed, tick=tick)
    return Demonstration(reference, outcomes)
