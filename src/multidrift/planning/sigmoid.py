"""Probabilities that change with time: p_k(t) = sigmoid(α_k τ(t) + β_k), and the shift of β that meets a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.planning.rules import LEAST, Setting

_WIDEST = 40.0  # shift of β that makes all probabilities 0 or 1 for any use
_HALVINGS = 60
_SURE = 1e-3  # probabilities nearer to 0 or 1 count as this near: their logits say nothing


@dataclass(frozen=True, eq=False)
class SigmoidPlan:
    """p_k(t_n) = sigmoid(α_k τ_n + β_k) for the levels above the cheapest, which always fires.

    - `setting`: levels and grid; `alpha`, `beta` [levels − 1]; τ is the place, scaled to run from −1 to 1

    Source: ML-EM (Jacot 2026), section 8, which learns α and β and shifts β to sweep the compute; its form of τ is not
    stated.
    """

    setting: Setting
    alpha: Floats
    beta: Floats

    @staticmethod
    def near(setting: Setting, table: Floats) -> SigmoidPlan:
        """The plan nearest to a table of probabilities [increments, levels]: least squares in their logits."""
        flat = np.zeros(table.shape[1] - 1)
        tau = SigmoidPlan(setting, flat, flat).tau
        upper = np.clip(table[:, 1:], _SURE, 1.0 - _SURE)
        terms = np.stack([tau, np.ones_like(tau)], axis=1)
        alpha, beta = np.linalg.lstsq(terms, np.log(upper / (1.0 - upper)), rcond=None)[0]
        return SigmoidPlan(setting, alpha, beta)

    @cached_property
    def tau(self) -> Floats:
        """The place of each step, from −1 to 1."""
        places = self.setting.places[:-1]
        spread = np.ptp(places)
        return np.asarray(2.0 * (places - places[0]) / spread - 1.0 if spread > 0 else np.zeros(len(places)))

    @cached_property
    def table(self) -> Floats:
        """Probabilities, [increments, levels]."""
        with np.errstate(over="ignore"):
            upper = 1.0 / (1.0 + np.exp(-(np.outer(self.tau, self.alpha) + self.beta)))
        return np.concatenate([np.ones((len(upper), 1)), np.clip(upper, LEAST, 1.0)], axis=1)

    @property
    def parameters(self) -> Floats:
        """α, then β."""
        return np.concatenate([self.alpha, self.beta])

    def with_parameters(self, parameters: Floats) -> SigmoidPlan:
        """The same with these α, then β."""
        half = len(parameters) // 2
        return replace(self, alpha=parameters[:half], beta=parameters[half:])

    def shifted(self, shift: float) -> SigmoidPlan:
        """The same with `shift` added to every β: more calls, or fewer."""
        return replace(self, beta=self.beta + shift)

    @property
    def seconds(self) -> float:
        """Expected seconds of a sample."""
        return self.setting.seconds(self.table)

    def within(self, seconds: float) -> SigmoidPlan:
        """The shift of it that costs so many seconds a sample; raises where even the rarest firings cost more."""
        low, high = -_WIDEST, _WIDEST
        least, most = self.shifted(low).seconds, self._dearest
        require(seconds >= least, "seconds", seconds, f"at least {least:.4g}, which the cheapest level's steps take")
        require(seconds <= most, "seconds", seconds, f"at most {most:.4g}, which every level at every step takes")
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.shifted(middle).seconds <= seconds else (low, middle)
        return self.shifted(low)

    @property
    def _dearest(self) -> float:
        """The cost with firings nearly everywhere: where all levels always fire, they cancel and cost less again."""
        return self.setting.seconds(self.table * 0.0 + 1.0 - 1e-6 * np.arange(self.table.shape[1]))

    def along_the_budget(self, gradient: Floats) -> Floats:
        """The gradient with respect to α and β of what the shift back to the budget leaves of them."""
        here, step, half = self.parameters, 1e-4, len(self.alpha)
        prices = np.zeros(len(here))
        for i in range(len(here)):
            up, down = here.copy(), here.copy()
            up[i] += step
            down[i] -= step
            prices[i] = (self.with_parameters(up).seconds - self.with_parameters(down).seconds) / (2 * step)
        by_shift = prices[half:].sum()
        return gradient - gradient[half:].sum() * prices / by_shift if by_shift > 0 else gradient
