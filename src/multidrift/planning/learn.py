"""Learned plans: probabilities that change with time, fitted to this ladder's own paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Le

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Four, Paths, Positive, ShortSeed, Steps, Takes
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import process_for
from multidrift.methods.multilevel.draws import Draws
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.multistep import Multistep
from multidrift.planning.calibration import Calibration
from multidrift.planning.candidates import Candidate
from multidrift.planning.rules import Setting
from multidrift.planning.sigmoid import SigmoidPlan
from multidrift.planning.tangents import Problem, loss_and_gradient
from multidrift.planning.trial import Judge, Measured
from multidrift.processes.process import Process
from multidrift.sampling import sample
from multidrift.schedules.grids import Grid

_TRAINING, _VALIDATION = 1 << 42, 1 << 43  # seeds far from those that users take
_DRAWS = 4  # of the firings, for each step of the gradient; each one's baseline is the mean loss of the others
_RATE = 0.15  # of Adam, in units of α and β
_BOUND = 4.0  # of |α| and of differences of β in the search without derivatives
_SETTLED = 0.1  # relative change of the mean loss over the last two quarters below which a descent has converged
_RESAMPLES = 400
Shift: TypeAlias = Annotated[float, Ge(-3), Le(3), Takes("a number from −3 to 3")]


@dataclass(frozen=True, eq=False)
class LearnedPlan:
    """What `md.learn_plan` found.

    - `method`: a Multilevel with the learned probabilities; `plan`: their α and β; `seconds` of a sample
    - `error`, `standard_error`: mean squared distance per coordinate on noise and draws that were not learned from
    - `ratio`: that error over constant probabilities' at the same cost on the same noise, with its 95% interval over
      samples; below 1 the plan is better
    - `converged`: False where the search ended before its result settled
    """

    method: Multilevel
    plan: SigmoidPlan
    seconds: float
    error: float
    standard_error: float
    ratio: tuple[float, float, float]
    converged: bool

    @checked
    def shifted(self, shift: Shift) -> Multilevel:
        """The method with `shift`, between −3 and 3, added to every β: the same plan for another budget."""
        return replace(self.method, probabilities=self.plan.shifted(shift).table.tolist())


@checked
def learn_plan(
    ladder: Ladder,
    calibration: Calibration,
    process: Process | None = None,
    *,
    levels: Sequence[str],
    steps: Steps,
    seconds: Positive | None = None,
    calls: Positive | None = None,
    grid: Grid | None = None,
    draws: Draws = "independent",
    paths: Paths = 16,
    iterations: Four = 60,
    validation: Four = 64,
    reference_steps: Steps | None = None,
    seed: ShortSeed = 0,
    force: bool = False,
) -> LearnedPlan:
    """Fit p_k(t) = sigmoid(α_k τ(t) + β_k) to `paths` paths, at a cost of `seconds` a sample, or of so many `calls`.

    - `draws` "independent": stochastic gradient (Adam) with forward-mode derivatives through the networks and the score
      of the firings; each of the `iterations` takes 4 draws on all paths, at 2 to 4 times the cost of sampling them.
      Evenly spread draws: differential evolution (scipy) on the noise and draws of the training paths, of so many
      generations. Both stay on the budget: β is shifted back to it
    - `validation`: samples of other noise that the error is measured on; `reference_steps` of the top level, by default
      4 times `steps`
    - `force`: use a calibration of something else, with a warning

    It sets out from the plan nearest to the rule "time" of `md.allocate`. Of the constant, the rule's and the learned
    probabilities the best on the training paths is taken. Raises MultidriftError on
    fewer than two levels, a budget outside what the levels can cost, and processes with velocities. Source: ML-EM
    (Jacot 2026), section 8: forward gradients and the Bernoulli score.
    """
    process = process_for(ladder, process)
    require((seconds is None) != (calls is None), "seconds", seconds, "a number of seconds, or None with calls=")
    require(not process.has_velocity, "process", type(process).__name__, "a process without velocities")
    names = tuple(ladder.choose(levels))
    require(len(names) >= 2, "levels", levels, "at least two levels")
    calibration.check(ladder, process, force=force)
    if seconds is None:
        assert calls is not None  # one of them is given
        seconds = calls * (calibration.cost(ladder.top) + calibration.overhead) / calibration.batch
    method = Multilevel(steps, grid, levels=names, probabilities=1.0, draws=draws)
    setting = Setting(calibration, process, names, method.grid_for(process))
    zeros = np.zeros(len(names) - 1)
    constant = SigmoidPlan(setting, zeros, zeros).within(seconds)
    allocated = setting.within(setting.preferences("time"), seconds)
    start = constant if allocated is None else SigmoidPlan.near(setting, allocated).within(seconds)
    fine = reference_steps or 4 * steps
    judges = [Judge(ladder, process, "path", fine, base + seed, plan_seed=base) for base in (_TRAINING, _VALIDATION)]
    # Each sample draws for itself: so many paths are as many plans, and an interval over samples is one over plans.
    own = method if draws == "midpoint" else replace(method, shared=False)
    if draws == "independent":
        found, converged = _descend(ladder, method, process, start, seconds, paths, iterations, fine, _TRAINING + seed)
    else:
        found, converged = _search(judges[0], own, start, seconds, paths, iterations)
    best = min((found, start, constant), key=lambda plan: judges[0].measure(_candidate(own, plan), paths).error)
    unseen, beside = (judges[1].measure(_candidate(own, plan), validation) for plan in (best, constant))
    return LearnedPlan(
        method=replace(method, probabilities=best.table.tolist()),
        plan=best,
        seconds=best.seconds,
        error=unseen.error,
        standard_error=unseen.standard_error,
        ratio=_ratio(unseen, beside),
        converged=converged,
    )


def _candidate(method: Multilevel, plan: SigmoidPlan) -> Candidate:
    return Candidate("", "ladder", replace(method, probabilities=plan.table.tolist()), plan.seconds)


def _descend(
    ladder: Ladder,
    method: Multilevel,
    process: Process,
    start: SigmoidPlan,
    seconds: float,
    paths: int,
    iterations: int,
    fine: int,
    seed: int,
) -> tuple[SigmoidPlan, bool]:
    """(mean plan of the last half of the iterations, whether the loss had settled)."""
    reference = sample(ladder, Multistep(fine), process, count=paths, seed=seed, progress=False).samples
    problem = Problem.of(ladder, method, process, reference, seed, torch.float32)
    rng, parameters = np.random.default_rng(seed), torch.from_numpy(start.parameters.copy())
    optimiser = torch.optim.Adam([parameters], lr=_RATE)
    kept, losses = [], []
    for _ in range(iterations):
        plan = start.with_parameters(parameters.numpy().copy())
        loss, gradient = _estimate(problem, plan, rng)
        parameters.grad = torch.from_numpy(plan.along_the_budget(gradient) / max(loss, 1e-300))
        optimiser.step()
        bounded = start.with_parameters(np.clip(parameters.numpy(), -12.0, 12.0)).within(seconds)
        parameters.copy_(torch.from_numpy(bounded.parameters))
        kept.append(bounded.parameters)
        losses.append(loss)
    mean = start.with_parameters(np.mean(kept[iterations // 2 :], axis=0)).within(seconds)
    quarter = max(1, iterations // 4)
    last, before = (float(np.median(losses[a:b])) for a, b in ((-quarter, None), (-2 * quarter, -quarter)))
    return mean, abs(last - before) <= _SETTLED * before


def _estimate(problem: Problem, plan: SigmoidPlan, rng: np.random.Generator) -> tuple[float, Floats]:
    """(mean loss, gradient) over a few draws; the baseline of each is the mean loss of the others."""
    tables = [rng.random((len(plan.tau), len(plan.alpha))) < plan.table[:, 1:] for _ in range(_DRAWS)]
    plain = [loss_and_gradient(problem, plan, fires, 0.0) for fires in tables]
    losses = np.array([loss for loss, _ in plain])
    gradients = []
    for n, (fires, (_, gradient)) in enumerate(zip(tables, plain, strict=True)):
        baseline = (losses.sum() - losses[n]) / (_DRAWS - 1)
        misses = fires - plan.table[:, 1:]
        gradients.append(gradient - baseline * np.concatenate([plan.tau @ misses, misses.sum(axis=0)]))
    return float(losses.mean()), np.mean(gradients, axis=0)


def _search(
    judge: Judge, method: Multilevel, start: SigmoidPlan, seconds: float, paths: int, generations: int
) -> tuple[SigmoidPlan, bool]:
    """(best plan found, whether the search converged), on one set of noises and draws: the error is a function."""
    try:
        from scipy.optimize import differential_evolution  # an optional extra
    except ImportError as missing:
        raise MultidriftError("evenly spread plans need scipy: pip install 'multidrift[eval]'") from missing
    upper = len(start.alpha)

    def plan(values: Floats) -> SigmoidPlan:
        beta = np.append(0.0, values[upper:])  # the shift to the budget decides the first
        return start.with_parameters(np.concatenate([values[:upper], beta])).within(seconds)

    def error(values: Floats) -> float:
        return judge.measure(_candidate(method, plan(values)), paths).error

    size = 2 * upper - 1
    first = np.clip(np.append(start.alpha, start.beta[1:] - start.beta[0]), -_BOUND, _BOUND)
    result = differential_evolution(
        error, [(-_BOUND, _BOUND)] * size, maxiter=generations, popsize=max(5, 10 // size), tol=0.02,
        rng=judge.seed, polish=False, x0=first,
    )  # fmt: skip
    return plan(result.x), bool(result.success)


def _ratio(above: Measured, below: Measured) -> tuple[float, float, float]:
    """Mean error over mean error with its 95% interval over the samples, which both share."""
    one, other = (np.asarray(measured.errors) for measured in (above, below))
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(one), size=(_RESAMPLES, len(one)))
    ratios = one[drawn].mean(axis=1) / np.maximum(other[drawn].mean(axis=1), 1e-300)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(one.mean() / max(other.mean(), 1e-300)), float(low), float(high)
