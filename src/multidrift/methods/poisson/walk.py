"""The Poisson midpoint method: one large step imitates K small ones with about two calls."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, aligned, moved
from multidrift.basics.types import Size
from multidrift.drifts.model import Model, final_calls
from multidrift.methods.advice import PlanWarning, overshoot
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.poisson.kicks import largest_kicks
from multidrift.methods.poisson.substeps import (
    Fired,
    Spread,
    SubstepDraws,
    fire_substeps,
    probabilities,
)
from multidrift.processes.intervals import Interval
from multidrift.processes.process import Process
from multidrift.runs import update
from multidrift.runs.result import State
from multidrift.runs.run import Run

_REMEDY = "take more steps, another grid, spread='clock' or a process that holds the data"
_ROUNDS = 1 << 20  # room for the uniforms of one step in the numbering of all


@dataclass(frozen=True)
class PoissonMidpoint(DrawingMethod):
    """Freeze D over a step of K `substeps`, then correct it at the few substeps that fire.

    - `draws`: "independent" (a coin for each substep: 2 − 1/K calls a step on average), "single" (one substep, two
      calls a step) or "midpoint" (no randomness: one correction at the middle of the drift clock, two calls a step)
    - `spread`: "clock" draws substeps in proportion to their length on the drift clock, so that every kick has the size
      of the step; "steps" draws all alike, as the papers do
    - `shared`: one draw for the whole batch in place of one for each sample; it correlates the samples
    - `reduce_noise`: take the variance that the corrections add, as estimated from them, off the step's noise

    It follows the law of K times as many Euler steps, not their paths, and no closer than that: with K fixed its weak
    order is 1, Euler's at 1/K of the step. With K in proportion to 1/step, which costs no calls, it is 2; "midpoint"
    has 2 at any K. Plans warn where a kick would overshoot (ε or the score held over large steps). All midpoints of
    a step and of all samples go through one network call. K = 1 is Euler. Source: PMM (Kandasamy and Nagaraj 2024),
    PS(A, G, Γ, b, α, K), options 1 and 2, and appendix A.1; `spread="clock"` and "midpoint" are ours.
    """

    substeps: Size = 10
    draws: SubstepDraws = "independent"
    spread: Spread = "clock"
    shared: bool = False
    reduce_noise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduce_noise and (self.shared or self.draws == "midpoint"):
            raise MultidriftError("reduce_noise: got True; it takes draws of each sample's own that are random")

    @property
    def draws_are_shared(self) -> bool:
        return self.shared or self.draws == "midpoint"

    @property
    def luck_is_shared(self) -> bool:
        return self.shared and self.draws != "midpoint"

    @property
    def order(self) -> int:
        return 2 if self.draws == "midpoint" and self.substeps > 1 else 1

    def calls_a_step(self) -> float:
        """Expected network calls of a step; of "independent" draws spread over equal substeps."""
        if self.substeps == 1:
            return 1.0
        return 2.0 - 1.0 / self.substeps if self.draws == "independent" else 2.0

    def expected_calls(self, model: Model) -> dict[str, float]:
        final = final_calls(model)
        calls = self.calls_a_step() * (self.number_of_evaluations - final) + final
        return dict.fromkeys(self.levels_of(model), calls)

    def planned_calls(self, weights: Floats, final: int) -> Floats:
        """Of "independent" draws what is expected: drawing them all beforehand would be half of the run."""
        return np.array([self.calls_a_step() * weights.shape[1] + final])

    def weight_table(self, model: Model, process: Process, times: Floats, seed: int, samples: Sequence[int]) -> Floats:
        """Ones: a plan holds no firings of substeps. Warns where a kick would overshoot."""
        del seed, samples
        if process.model_schedule is not None:  # how far a gradient kicks depends on a curvature that nobody told us
            cut, steps = _Cut(self, process, times), process.relative_steps(times)
            weights = largest_kicks(process, times, cut.places, cut.kicks()) / steps
            message = overshoot(weights[None, :, None], steps, tuple(self.levels_of(model)), remedy=_REMEDY)
            if message is not None:
                warnings.warn(message, PlanWarning, stacklevel=6)
        return np.ones((1, len(times) - 1, 1))

    def walk(self, run: Run) -> Iterator[State]:
        """z_K = z_0 + (τ_K − τ_0) D_0 + Σ_i (H_i/q_i) Δτ_i (D(x̂_i) − D_0) + W_K − W_0, x̂_i the path of frozen D_0."""
        substeps = _Substeps(self, run)
        x = run.start
        for n, interval in enumerate(run.intervals):
            drift = run.drift(x, n)
            corrected, kept = substeps.corrected(x, drift, n, interval)
            z = update.increment(interval.enter(x), interval.dtau, corrected, kept * run.noise(interval))
            before, x = x, interval.leave(z)
            yield run.state(n, before, drift, x)
        yield from run.final(x)


class _Cut:
    """The substeps of all steps: `places` [steps, K], where each starts, and `lengths` [steps, K, 1 or 2], its Δτ.

    Of "midpoint" draws the one place of each step, and its whole length.
    """

    def __init__(self, method: PoissonMidpoint, process: Process, times: Floats) -> None:
        self.method = method
        number = 1 if method.draws == "midpoint" else method.substeps
        fine = process.refined(times, method.spacing(process), number)
        self.places = _middles(process, times) if method.draws == "midpoint" else fine[:-1].reshape(-1, number)
        lengths = process.intervals(fine[:-1], fine[1:], anchor=np.repeat(times[1:], number)).dtau
        self.lengths = lengths.reshape(len(self.places), number, -1)

    def kicks(self) -> Floats:
        """Δτ_i/q_i of every substep, [steps, K], 0 where it never fires or corrects nothing."""
        lengths = self.lengths[..., 0]
        if self.method.draws == "midpoint" or self.method.substeps == 1:
            return lengths * (self.method.substeps > 1)
        q = np.stack([probabilities(self.method.draws, self.method.spread, row) for row in lengths])
        return np.concatenate([np.zeros((len(q), 1)), lengths[:, 1:] / q[:, 1:]], axis=1)


class _Substeps:
    """The substeps of all steps of a run: where they are, how long, and what D becomes where they fire."""

    def __init__(self, method: PoissonMidpoint, run: Run) -> None:
        one_clock = not method.reduce_noise or run.process.components == 1
        require(one_clock, "reduce_noise", True, "False for a process with velocities")  # noqa: FBT003
        self.method, self.run = method, run
        cut = _Cut(method, run.process, run.times)
        self.places, self.lengths = cut.places, cut.lengths

    def corrected(self, x: Tensor, drift: Tensor, n: int, interval: Interval) -> tuple[Tensor, float | Tensor]:
        """D_0 + Σ_i (H_i/q_i) (Δτ_i/Δτ) (D(x̂_i) − D_0), and the factor of the step's noise, 1 unless it is reduced."""
        fired = self._fired(n, len(x))
        if not len(fired.rows):
            return drift, 1.0
        rows = moved(fired.rows, x.device)
        times = self.places[n, fired.substeps]
        frozen = self._frozen(x[rows], drift[rows], n, times, rows)
        change = self.run.drift_at(frozen, times, n, rows=rows) - drift[rows]
        kicks = self._kicks(n, fired, interval, change) * change
        total = drift.expand(*drift.shape[:-1], kicks.shape[-1]).index_add(0, rows, kicks)
        if not self.method.reduce_noise:
            return total, 1.0
        return total, self._kept(kicks, fired, rows, interval, len(x))

    def _fired(self, n: int, count: int) -> Fired:
        """The samples and substeps that fire in step n."""
        if self.method.substeps == 1:
            return Fired(*(np.zeros(0, dtype=np.intp),) * 2, np.zeros(0))
        if self.method.draws == "midpoint":
            return Fired(np.arange(count), np.zeros(count, dtype=np.intp), np.ones(count))
        q = probabilities(self.method.draws, self.method.spread, self.lengths[n, :, 0])
        keys = self.run.choices
        return fire_substeps(self.method.draws, q, count, lambda j: keys.uniforms(n * _ROUNDS + j).cpu().numpy())

    def _frozen(self, x: Tensor, drift: Tensor, n: int, times: Floats, rows: Tensor) -> Tensor:
        """x̂ at one time a row: D_0 held from the start of step n on the rows' own noise."""
        hops = self.run.process.intervals(np.full_like(times, self.run.times[n]), times)
        hop = hops.together(x)
        z = update.increment(hop.enter(x), hop.dtau, drift, self.run.noise_to(hop, hops.high, rows))
        return hop.leave(z)

    def _kicks(self, n: int, fired: Fired, interval: Interval, like: Tensor) -> Tensor:
        """(1/q_i) Δτ_i/Δτ of every firing, shaped to multiply D; of a midpoint the whole step."""
        whole = np.asarray(interval.dtau, dtype=np.float64).reshape(-1)
        if self.method.draws == "midpoint":
            shares = np.ones((len(fired.rows), len(whole)))
        else:
            shares = fired.weights[:, None] * self.lengths[n, fired.substeps] / whole
        return moved(shares, like).view(len(shares), *(1,) * (like.ndim - 2), len(whole))

    def _kept(self, kicks: Tensor, fired: Fired, rows: Tensor, interval: Interval, count: int) -> Tensor:
        """√(1 − variance added by the corrections / variance of the noise) of each sample, at least 0.

        One coin of weight w adds an expected (1 − 1/w)·kick². A single firing adds w Σ (Δτ_i Δ_i)² − (Σ Δτ_i Δ_i)²;
        with changes Δ that grow as a Brownian path does, the second sum is two thirds of the first, estimated by kick².
        """
        coin = self.method.draws == "independent"
        share = 1.0 - 1.0 / fired.weights if coin else np.full(len(fired.rows), 1.0 / 3.0)
        size = kicks.square().flatten(1).mean(dim=1) * moved(share, kicks)
        added = kicks.new_zeros(count).index_add(0, rows, size) * float(interval.dtau) ** 2
        kept = (1.0 - added / max(float(interval.std) ** 2, 1e-300)).clamp(min=0.0).sqrt()
        return aligned(kept, kicks)


def _middles(process: Process, times: Floats) -> Floats:
    """The times, [steps, 1], at which the drift clock has run half of each step, by bisection."""
    first, last = process.place(times[:-1]), process.place(times[1:])
    first = np.where(np.isneginf(first), process.lattice.low, first)

    def run_until(stop: Floats) -> Floats:
        # Of a process with velocities, the position's clock.
        clock = process.intervals(times[:-1], stop, anchor=times[1:]).dtau
        return np.abs(clock.reshape(len(stop), -1)[:, 0])

    half = 0.5 * run_until(times[1:])
    for _ in range(60):
        middle = 0.5 * (first + last)
        early = run_until(np.asarray(process.time(middle))) < half
        first, last = np.where(early, middle, first), np.where(early, last, middle)
    return np.asarray(process.time(0.5 * (first + last)))[:, None]
