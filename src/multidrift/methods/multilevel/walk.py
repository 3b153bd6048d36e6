"""Multilevel Euler-Maruyama: a randomised telescoping sum over a ladder of networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import ArrayLike
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, aligned, finite, moved
from multidrift.basics.types import Numbers, Takes
from multidrift.drifts.drift import Drift
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import Model, final_calls
from multidrift.methods.advice import PlanWarning, overshoot, resonance, silent
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.multilevel.draws import Draws, fire, unbiasing, weigh
from multidrift.methods.multilevel.probabilities import (
    Probabilities,
    expected_calls,
    from_calls,
    given,
)
from multidrift.methods.multistep import History
from multidrift.processes.intervals import Interval
from multidrift.processes.process import Process
from multidrift.runs import update
from multidrift.runs.plan import coefficients, counted_calls
from multidrift.runs.result import State
from multidrift.runs.run import Run


@dataclass(frozen=True)
class Multilevel(DrawingMethod):
    """Euler with D estimated by Σ_k (B_k/p_k)(D^k − D^{k−1}), D^0 = 0: the big networks are called rarely.

    - `levels`: names of the ladder's levels to use, cheapest first; all by default. "gaussian", the ladder's closed
      form, may be the lowest: it costs nothing
    - `calls`: expected number of times each level's difference fires, the final call of the top level included; or
      `probabilities`: one for all, one a level, or one a step and level, [increments, levels], without the final call
      (increments are steps − 1; of Langevin dynamics steps)
    - `draws`: "systematic" (evenly spread, random offset, unbiased), "independent" (the paper's Bernoulli draws),
      "midpoint" (evenly spread, no randomness) or "cells" (random offset, the weights of "midpoint")
    - `shared`: one draw for the whole batch, which is what saves time, or one for each sample
    - `order` 2 extrapolates the cheapest level's part as `Multistep` does; that level must then fire at every step

    Order 1 in the step; the error also falls with the calls. Each network is evaluated at most once a step, on only
    the samples that need it. Raises MultidriftError on levels out of order, calls above the steps, probabilities
    outside (0, 1] and a model that is no Ladder. Source: ML-EM (Jacot 2026), section 2 and Theorem 1; the evenly spread
    draws are ours.
    """

    steps_are_gaussian: ClassVar[bool] = True

    levels: Sequence[str] | None = None
    calls: Numbers | None = None
    probabilities: Probabilities | None = None
    draws: Draws = "systematic"
    shared: bool = True
    order: Annotated[int, Ge(1), Le(2), Takes("1 or 2")] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        either = (self.calls is None) != (self.probabilities is None)
        require(either, "calls", self.calls, "one number a level, or None with probabilities=")
        if self.levels is not None:
            object.__setattr__(self, "levels", tuple(self.levels))
        for name in ("calls", "probabilities"):
            object.__setattr__(self, name, _plain_numbers(name, getattr(self, name)))

    def levels_of(self, model: Model) -> dict[str, Drift]:
        """The chosen levels of a ladder, cheapest first."""
        if not isinstance(model, Ladder):
            raise MultidriftError(f"model: got {model!r}; Multilevel takes an md.Ladder of several networks")
        return model.choose(model.names if self.levels is None else self.levels)

    def probability_table(self, model: Model) -> Floats:
        """P of each step and level, float64 [increments, levels]."""
        names = tuple(self.levels_of(model))
        number = self.number_of_evaluations - final_calls(model)
        if self.calls is not None:
            table = from_calls(self.calls, number, names, final_calls(model))
        else:
            assert self.probabilities is not None
            table = given(self.probabilities, number, names)
        if self.order == 2:
            every = bool(np.all(table[:, 0] == 1))
            require(every, "order", 2, f"a cheapest level that fires at every step ({names[0]} does not)")
        return table

    def expected_calls(self, model: Model) -> dict[str, float]:
        names, final = tuple(self.levels_of(model)), final_calls(model)
        if self.draws == "midpoint" and (final or self.times is not None):
            return dict(self.plan(model).calls)
        if self.draws == "midpoint":  # of Langevin dynamics, whose steps are all as long whatever the process
            table = self.probability_table(model)
            columns = [weigh(self.draws, fire(self.draws, p, np.empty(0)), p, np.ones(len(table))) for p in table.T]
            found = self.planned_calls(np.stack(columns, axis=1)[None], final)
            return dict(zip(names, found.tolist(), strict=True))
        calls = expected_calls(self.probability_table(model), final, self.draws)
        if self.order == 2 and len(names) > 1:
            calls[0] = self.number_of_evaluations - final
        return dict(zip(names, calls.tolist(), strict=True))

    def weight_table(self, model: Model, process: Process, times: Floats, seed: int, samples: Sequence[int]) -> Floats:
        """The weights of a plan, float64 [1 or samples, increments, levels], drawn from (seed, level, sample)."""
        table = self.probability_table(model)
        lengths = process.relative_steps(times)
        weights = np.zeros((1 if self.shared else len(samples), *table.shape))
        factors = [unbiasing(p, lengths) if self.draws == "systematic" else None for p in table.T]
        for row in range(len(weights)):
            for k, p in enumerate(table.T):
                key = (seed % 2**65, k) if self.shared else (seed % 2**65, k, samples[row] + 1)
                fires = fire(self.draws, p, np.random.default_rng(key).random(len(p)))
                weights[row, :, k] = weigh(self.draws, fires, p, lengths, factors[k])
        self._advise(weights, table, lengths, tuple(self.levels_of(model)))
        return weights

    def _advise(self, weights: Floats, table: Floats, lengths: Floats, names: Sequence[str]) -> None:
        spread = self.draws != "independent"
        for message in (
            silent(weights, names),
            overshoot(weights, lengths, names),
            resonance(weights, table, lengths, names) if spread else None,
        ):
            if message is not None:
                warnings.warn(message, PlanWarning, stacklevel=7)

    @property
    def draws_are_shared(self) -> bool:
        return self.shared

    @property
    def luck_is_shared(self) -> bool:
        return self.shared and self.draws != "midpoint"

    def planned_calls(self, weights: Floats, final: int) -> Floats:
        calls = counted_calls(weights, final)
        if self.order == 2 and weights.shape[2] > 1:
            calls[0] = weights.shape[1]  # the extrapolation reads the cheapest level at every step
        return calls

    def walk(self, run: Run) -> Iterator[State]:
        """z_{n+1} = z_n + Δτ_n Σ_k w_{k,n} (D^k − D^{k−1})(x_n, t_n) + ΔW_n (ML-EM, section 2)."""
        x, telescope = run.start, _Telescope(run, self.order)
        for n, interval in enumerate(run.intervals):
            drift = telescope.drift(x, n, interval)
            noise = run.noise(interval)
            z = update.increment(interval.enter(x), interval.dtau, drift, noise)
            before, x = x, interval.leave(z)
            yield run.state(n, before, telescope.preview(drift), x, noise)
        yield from run.final(x)


def _plain_numbers(name: str, values: ArrayLike | None) -> object:
    """Nested tuples of floats, whatever kind of array they came as; one number stands for itself."""
    if values is None:
        return None
    array = finite(values, name)
    plain = array.tolist()
    return tuple(tuple(row) if isinstance(row, list) else row for row in plain) if array.ndim else plain


class _Telescope:
    """The telescoping sum, as one combination Σ_k c_k D^k that calls each network at most once a step."""

    def __init__(self, run: Run, order: int) -> None:
        self.run = run
        self.coefficients = coefficients(run.weights)
        self.cheapest = History(run.process, order) if order > 1 else None
        self.best: Tensor | None = None  # the best level's D seen last: what a preview should show

    def drift(self, x: Tensor, n: int, interval: Interval) -> Tensor:
        """Σ_k c_k D^k(x, t_n)."""
        total: Tensor | None = None
        for k, name in enumerate(self.run.levels):
            factors = self.coefficients[:, n, k]
            if k == 0 and self.cheapest is not None:
                part = self._extrapolated(x, n, interval, factors)
            elif not factors.any():
                continue
            else:
                part = self._part(x, n, name, factors)
            total = part if total is None else total + part
        return torch.zeros_like(x) if total is None else total

    def preview(self, drift: Tensor) -> Tensor:
        """The best D so far, or this one where no level was evaluated yet."""
        return drift if self.best is None else self.best

    def _part(self, x: Tensor, n: int, name: str, factors: Floats) -> Tensor:
        """c·D of one level, evaluated on the samples with c ≠ 0 alone."""
        if len(factors) == 1:
            self.best = self.run.drift(x, n, name)
            return self.best if factors[0] == 1 else self.best * float(factors[0])
        chosen = moved(np.flatnonzero(factors), x.device)
        drift = self.run.drift(x[chosen], n, name, chosen)
        empty = drift.new_zeros((len(x), *drift.shape[1:]))
        self.best = (empty if self.best is None else self.best).index_copy(0, chosen, drift)
        return empty.index_copy(0, chosen, drift * _rows(factors[factors != 0], drift))

    def _extrapolated(self, x: Tensor, n: int, interval: Interval, factors: Floats) -> Tensor:
        """The cheapest level's part with its own D replaced by the multistep extrapolation: c·D + (ahead − D)."""
        assert self.cheapest is not None
        self.best = drift = self.run.drift(x, n, self.run.levels[0])
        ahead = self.cheapest.extrapolate(drift, interval)
        return ahead if np.all(factors == 1) else ahead + _rows(factors - 1.0, x) * drift


def _rows(factors: Floats, like: Tensor) -> Tensor:
    """One factor a sample (or one for all), to multiply states with."""
    return aligned(moved(factors, like), like)
