"""Memorised plans: the best of several draws on one batch, kept for all others."""

from __future__ import annotations

import statistics
import warnings
from dataclasses import dataclass

from multidrift.basics.checks import checked
from multidrift.basics.errors import require
from multidrift.basics.types import ShortSeed, Size, Steps
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import process_for
from multidrift.evaluation.coupled import squared_distances
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.method import Method
from multidrift.methods.multistep import Multistep
from multidrift.processes.process import Process
from multidrift.runs.plan import Plan
from multidrift.sampling import sample

_CALIBRATION, _VALIDATION = 1 << 44, 1 << 45  # seeds far from those that users take


@dataclass(frozen=True, eq=False)
class MemorisedPlan:
    """What `md.memorise_plan` kept: `md.sample(ladder, memorised.plan, process)` replays it.

    - `errors`: of each draw on the calibration batch, mean squared distance per coordinate to the reference; `plan` is
      that of the least
    - `error`: that plan's on other noise; `typical`: the mean over all draws there. The difference is what was gained
    """

    plan: Plan
    errors: tuple[float, ...]
    error: float
    typical: float


@checked
def memorise_plan(
    ladder: Ladder,
    method: Method,
    process: Process | None = None,
    *,
    draws: Size = 15,
    count: Size = 16,
    reference_steps: Steps = 200,
    seed: ShortSeed = 0,
) -> MemorisedPlan:
    """The best of so many `draws` of a method on `count` samples, and what it does on `count` others.

    - `method`: one whose draws are random and shared by the batch; its plan seeds are 0 to `draws` − 1
    - `reference_steps`: of the top level by Multistep, the path that errors are measured to

    The error on the calibration batch is too low, as the least of many; `error` is not. Raises MultidriftError on
    methods that draw nothing, or for each sample. Source: ML-EM (Jacot 2026), section 8, where the best of 15 is
    compared with Euler-Maruyama.
    """
    shared = isinstance(method, DrawingMethod) and method.luck_is_shared
    require(shared, "method", method, "a method with random draws that are shared by the batch")
    process = process_for(ladder, process)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plans = [method.plan(ladder, process, seed=number, count=count) for number in range(draws)]
        known, unseen = (
            _errors(ladder, plans, process, count, reference_steps, stream + seed)
            for stream in (_CALIBRATION, _VALIDATION)
        )
    best = min(range(draws), key=known.__getitem__)
    return MemorisedPlan(plans[best], tuple(known), unseen[best], statistics.fmean(unseen))


def _errors(
    ladder: Ladder, plans: list[Plan], process: Process, count: int, reference_steps: int, seed: int
) -> list[float]:
    """The mean error of each plan on the samples of a seed."""
    fine = Multistep(reference_steps)
    reference = sample(ladder, fine, process, count=count, seed=seed, progress=False).samples
    runs = [sample(ladder, plan, process, count=count, seed=seed, progress=False).samples for plan in plans]
    return [float(squared_distances(found, reference).mean()) for found in runs]
