"""The gradient of a multilevel run's error with respect to its probabilities, in forward mode.

J(θ) = E_B L(B, θ): the derivative of the weights 1/p at fixed firings is carried along the path as tangents, one a
parameter (no activation is stored), and that of the firings' law is L times its score, Σ (B − p) for a sigmoid, with a
baseline that does not depend on the draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from multidrift.basics.numbers import Floats
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.drifts.ladder import Ladder
from multidrift.methods.multilevel.draws import Bools
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.planning.sigmoid import SigmoidPlan
from multidrift.prepare import Arguments, prepare
from multidrift.processes.predictions import Prediction
from multidrift.processes.process import Process
from multidrift.runs import update
from multidrift.runs.plan import coefficients
from multidrift.runs.run import Run


@dataclass(frozen=True, eq=False)
class Problem:
    """Starts, noise and reference of a batch: all that the error of a draw depends on, beside the draw."""

    run: Run
    noises: list[Tensor | float]
    reference: Tensor

    @staticmethod
    def of(
        ladder: Ladder, method: Multilevel, process: Process, reference: Tensor, seed: int, dtype: torch.dtype
    ) -> Problem:
        """The batch of samples 0, 1, … of `seed` along the method's grid."""
        _, run = prepare(
            Arguments(
                model=ladder, method=method, process=process, count=len(reference), seed=seed, first=0, start=None,
                velocities=None, shape=None, plan_seed=0, conditioning=None, batch_size=None, memory_limit=None,
                device=None, dtype=dtype, grad=False,
            )
        )  # fmt: skip
        return Problem(run, [run.noise(interval) for interval in run.intervals], reference.to(run.start))


def loss_and_gradient(problem: Problem, plan: SigmoidPlan, fires: Bools, baseline: float) -> tuple[float, Floats]:
    """(L, gradient estimate [2·(levels − 1)]) of one draw, fires [increments, levels − 1].

    L is the mean squared distance per coordinate to the reference. The estimate's mean over draws is the gradient of
    L's mean for every baseline that does not depend on this draw.
    """
    end, tangents = _walk(problem, plan, fires)
    away = end - problem.reference
    loss = float(away.square().mean())
    pathwise = 2.0 * (tangents * away).flatten(1).mean(dim=1).double().cpu().numpy()
    misses = fires - plan.table[:, 1:]
    score = np.concatenate([plan.tau @ misses, misses.sum(axis=0)])
    return loss, pathwise + (loss - baseline) * score


def _walk(problem: Problem, plan: SigmoidPlan, fires: Bools) -> tuple[Tensor, Tensor]:
    """(end [count, …], its derivatives [parameters, count, …]) of a multilevel run with these firings."""
    run, p = problem.run, plan.table
    fired = np.concatenate([np.ones((len(fires), 1), dtype=bool), fires], axis=1)
    weights = np.where(fired, 1.0 / p, 0.0)
    changes = -weights * (1.0 - p)  # dw/dβ at fixed firings; dw/dα is τ times that
    factors = coefficients(weights)
    number = fires.shape[1]
    x, tangents = run.start, run.start.new_zeros((2 * number, *run.start.shape))
    with torch.no_grad(), evaluation_mode(run.evaluator.levels.values()), sdpa_kernel(SDPBackend.MATH):
        for n, interval in enumerate(run.intervals):
            drift, moved = torch.zeros_like(x), torch.zeros_like(tangents)
            values: list[Tensor | None] = []
            for k, name in enumerate(run.levels):
                needed = fired[n, k] or (k < number and fired[n, k + 1])
                if not needed:
                    values.append(None)
                    continue
                pair = _evaluated(run, name, x, tangents, float(run.times[n]), run.process.drift_is)
                value, derivative = map(run.preconditioned, pair)
                values.append(value)
                drift = drift + float(factors[n, k]) * value
                moved = moved + float(factors[n, k]) * derivative
            for k in range(number):
                upper, lower = values[k + 1], values[k]
                if fires[n, k] and upper is not None and lower is not None:
                    by_beta = float(changes[n, k + 1]) * (upper - lower)
                    moved[number + k] += by_beta
                    moved[k] += float(plan.tau[n]) * by_beta
            x = interval.leave(update.increment(interval.enter(x), interval.dtau, drift, problem.noises[n]))
            tangents = interval.leave(update.increment(interval.enter(tangents), interval.dtau, moved, 0.0))
        if run.process.final_calls:
            x, tangents = _evaluated(run, run.levels[-1], x, tangents, float(run.times[-1]), "sample")
    return x, tangents


def _evaluated(run: Run, name: str, x: Tensor, tangents: Tensor, t: float, target: Prediction) -> tuple[Tensor, Tensor]:
    """A level at x, and its directional derivatives along all tangents in one call."""
    level = run.evaluator.levels[name]
    if not bool(tangents.any()):
        return level.predict(x, t, target, {}), torch.zeros_like(tangents)
    rows = x.expand(len(tangents), *x.shape).flatten(0, 1)
    # Dual tensors rather than torch.func.jvp, under which a drift could not read its times on the host.
    with forward_ad.dual_level():
        states = forward_ad.make_dual(rows, tangents.flatten(0, 1))  # type: ignore[no-untyped-call]
        value, derivative = forward_ad.unpack_dual(level.predict(states, t, target, {}))  # type: ignore[no-untyped-call]
    derivative = torch.zeros_like(rows) if derivative is None else derivative
    return value[: len(x)], derivative.view_as(tangents)
