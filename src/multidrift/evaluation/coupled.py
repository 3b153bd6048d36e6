"""Methods side by side on one noise path: how far from the reference, for how many seconds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.drifts.ladder import Ladder
from multidrift.methods.euler import Euler
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.methods.method import Method
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.multistep import Multistep
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.process import Process
from multidrift.runs.result import State
from multidrift.sampling import sample


@dataclass(frozen=True)
class Contender:
    """A method under a name; methods with random choices of their own run once for each of `plan_seeds`."""

    label: str
    method: Method
    plan_seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Outcome:
    """What a contender did.

    - `errors` [plan seeds, count]: each sample's mean squared distance per coordinate to the reference sample with the
      same noise; `samples` [count, …] of the first plan seed
    - `seconds`: median wall time of its runs; `calls`: mean calls of each level per sample
    - `planned`: the seconds that the ladder's measured costs forecast of such a run; None where there are none
    """

    label: str
    seconds: float
    calls: Mapping[str, float]
    errors: Tensor
    samples: Tensor
    planned: float | None = None

    @property
    def off_plan(self) -> bool:
        """Whether measured and planned seconds differ by more than a fifth of the plan."""
        return self.planned is not None and abs(self.seconds - self.planned) > 0.2 * self.planned

    @property
    def mean(self) -> float:
        """Mean error over plan seeds and samples."""
        return float(self.errors.mean())

    @property
    def median(self) -> float:
        """Median error over plan seeds and samples."""
        return float(self.errors.median())

    @property
    def spread(self) -> float:
        """Standard deviation, over plan seeds, of the mean error; 0 where there is one seed."""
        return float(self.errors.mean(dim=1).std()) if len(self.errors) > 1 else 0.0


def squared_distances(samples: Tensor, reference: Tensor) -> Tensor:
    """Mean squared distance per coordinate of each sample to its reference, [count]."""
    require(samples.shape == reference.shape, "samples", tuple(samples.shape), f"shape {tuple(reference.shape)}")
    return (samples - reference).square().flatten(1).mean(dim=1)


def compare(
    ladder: Ladder,
    reference: Tensor,
    contenders: Sequence[Contender],
    process: Diffusion,
    seed: int = 0,
    batch_size: int | None = None,
    tick: Callable[[State], bool | None] | None = None,
) -> list[Outcome]:
    """Run all contenders from the reference's noise, taking turns so that a slow moment hits all alike."""
    count = len(reference)
    runs: dict[str, list[tuple[float, Mapping[str, float], Tensor, Tensor]]] = {c.label: [] for c in contenders}
    for turn in range(max(len(c.plan_seeds) for c in contenders)):
        for contender in contenders:
            if turn < len(contender.plan_seeds):
                result = sample(
                    ladder, contender.method, process, count=count, seed=seed, plan_seed=contender.plan_seeds[turn],
                    batch_size=batch_size, callback=tick, progress=False,
                )  # fmt: skip
                error = squared_distances(result.samples, reference)
                runs[contender.label].append((result.seconds, result.calls, error, result.samples))
    planned = {c.label: c.method.cost(ladder).seconds for c in contenders}
    return [_outcome(label, done, planned[label]) for label, done in runs.items()]


def _outcome(
    label: str, runs: Sequence[tuple[float, Mapping[str, float], Tensor, Tensor]], planned: float | None
) -> Outcome:
    """What the runs of one contender say; `planned`: seconds a sample."""
    names = {name for _, calls, _, _ in runs for name in calls}
    calls = {name: statistics.fmean(c.get(name, 0) for _, c, _, _ in runs) for name in sorted(names)}
    errors = torch.stack([error for _, _, error, _ in runs])
    seconds = statistics.median(s for s, _, _, _ in runs)
    whole = None if planned is None else planned * len(runs[0][3])
    return Outcome(label, seconds, calls, errors, runs[0][3], whole)


def equal_cost(
    ladder: Ladder,
    process: Process,
    budget: float,
    steps: int,
    levels: tuple[str, str],
    corrected: tuple[str, str],
    plan_seeds: Iterable[int] = range(3),
) -> list[Contender]:
    """Contenders that all cost what `budget` calls of the top level cost, by the ladder's measured seconds.

    Euler and Multistep on the top level, Multilevel of two `levels` over `steps` steps with two draws (the paper's and
    ours), and LadderMultistep of two, `corrected`, with as many top calls as the budget pays. Raises where the
    budget does not even pay for the cheap levels' steps.
    """
    require(ladder.costs is not None, "ladder", ladder, "one with measured costs (Ladder.measured)")
    assert ladder.costs is not None
    seconds, seeds = ladder.costs.seconds, tuple(plan_seeds)
    left = budget - (steps - 1) * seconds[levels[0]] / seconds[levels[1]]
    require(left >= 2, "budget", budget, f"more than {budget - left + 2:.0f} calls, for {steps} steps of {levels[0]}")
    number = max(2, round(budget))
    calls = (float(steps), min(float(steps), left))
    return [
        Contender(f"Euler, {ladder.top} alone", Euler(number)),
        Contender(f"Multistep, {ladder.top} alone", Multistep(number)),
        Contender("Multilevel, independent", Multilevel(steps, levels=levels, calls=calls, draws="independent"), seeds),
        Contender("Multilevel, midpoint", Multilevel(steps, levels=levels, calls=calls, draws="midpoint")),
        Contender(f"LadderMultistep, {'+'.join(corrected)}", affordable(ladder, process, budget, corrected)),
    ]


def affordable(ladder: Ladder, process: Process, budget: float, levels: tuple[str, str]) -> LadderMultistep:
    """LadderMultistep with as many calls of the top level as cost no more than `budget` calls of it alone do.

    Everything that it leaves to the process is decided, so that its cost is that of this process. Raises where the
    budget does not pay for 3 calls, and on a ladder without measured costs.
    """
    one = Euler(2).cost(ladder).seconds
    require(one is not None, "ladder", ladder, "one with measured costs (Ladder.measured)")
    assert one is not None
    decided, found = LadderMultistep(3, levels=levels).for_model(ladder, process), None
    for number in range(3, math.floor(budget) + 1):
        method = replace(decided, steps=number)
        seconds = method.cost(ladder).seconds
        assert seconds is not None  # the costs were measured
        if seconds > budget * one / 2:
            break
        found = method
    require(found is not None, "budget", budget, f"more calls, for 3 of {levels[1]} and those of {levels[0]} between")
    assert found is not None
    return found
