"""Rules for how often each level's difference should fire: the paper's, and what is measured put into its optimum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Positive
from multidrift.methods.multilevel.draws import Draws
from multidrift.methods.multilevel.probabilities import expected_calls
from multidrift.planning.calibration import Calibration
from multidrift.planning.paths import finite_places
from multidrift.processes.process import Process

Rule = Literal["constant", "gamma", "variance", "time"]
RULES: tuple[Rule, ...] = get_args(Rule)
LEAST = 1e-4  # probability: below, a firing would weigh more than ten thousand steps
_HALVINGS = 40


@dataclass(frozen=True)
class TheoremOne:
    """What ML-EM's Theorem 1 chooses for an error: levels `k_min` to `k_max`, p_k = min(1, C·2^{−(1+γ/2)k}).

    `probabilities`: those of the levels, k_min first; `variance`: σ², what the drift may scatter by.
    """

    k_min: int
    k_max: int
    constant: float
    probabilities: tuple[float, ...]
    variance: float


@checked
def theorem_one(
    error: Positive, gamma: Positive, *, lipschitz: Positive, horizon: Positive, step: Positive, size: Positive = 1.0
) -> TheoremOne:
    """The levels and probabilities of Theorem 1 for an error ε, from the constants of the equation.

    With δ = (L/2) e^{−L(T+η)} ε and σ² = L e^{−2LT} ε² / (2η) (Grönwall): k_min = −⌊log₂ c⌋, k_max = −⌊log₂ δ⌋ and
    C = 9 δ^{1−γ/2} / ((1 − 2^{1−γ/2}) σ²). `lipschitz` is L, `horizon` T, `step` η, `size` c in |f^k − f| ≤ 2^{−k},
    cost c^γ 2^{γk}. ε bounds the root mean square distance, over draws, to Euler's path with f itself on the same steps
    and noise. Grönwall's e^{−2LT} makes it far too careful where L·T is large, and then nearly all p_k are 1;
    `md.allocate(error=…)` puts what was measured in its place. Raises MultidriftError unless γ > 2, where it holds.
    Source: ML-EM (Jacot 2026), Theorem 1.
    """
    require(gamma > 2, "gamma", gamma, "a number above 2; below, several levels gain nothing by the theorem")
    delta = 0.5 * lipschitz * math.exp(-lipschitz * (horizon + step)) * error
    variance = lipschitz * math.exp(-2.0 * lipschitz * horizon) * error**2 / (2.0 * step)
    try:
        constant = 9.0 * delta ** (1.0 - gamma / 2.0) / ((1.0 - 2.0 ** (1.0 - gamma / 2.0)) * variance)
    except (ZeroDivisionError, OverflowError):
        constant = math.inf
    got = f"error = {error:g}, gamma = {gamma:g}, lipschitz·horizon = {lipschitz * horizon:g}"
    if not math.isfinite(constant):
        raise MultidriftError(f"error: got {got}; it takes numbers whose C is one of floating point")
    k_min = -math.floor(math.log2(size))
    k_max = max(-math.floor(math.log2(delta)), k_min)
    chosen = tuple(min(1.0, constant * 2.0 ** (-(1.0 + gamma / 2.0) * k)) for k in range(k_min, k_max + 1))
    return TheoremOne(k_min, k_max, constant, chosen, variance)


@dataclass(frozen=True, eq=False)
class Setting:
    """Levels and a grid, with what a calibration says of them: prices and predicts tables of probabilities.

    - `names`: the levels, cheapest first, the top one last; `times`: the grid
    """

    calibration: Calibration
    process: Process
    names: tuple[str, ...]
    times: Floats

    @property
    def increments(self) -> int:
        """Steps of the grid."""
        return len(self.times) - 1

    @cached_property
    def places(self) -> Floats:
        """Where each step begins, and the end, [increments + 1]."""
        return finite_places(self.process, self.times)

    @cached_property
    def carried(self) -> Floats:
        """How far an error of D in each step moves the result: Δτ(t)·S(t), [increments]."""
        return np.asarray(self.process.relative_steps(self.times) * self.calibration.sensitivities(self.places[1:]))

    @cached_property
    def variances(self) -> Floats:
        """V_k(t), [increments, levels]."""
        return self.calibration.variances(self.names, self.places[:-1]).T

    @cached_property
    def costs(self) -> Floats:
        """C_k: seconds of drawing the difference of each level, its own call and that of the one below, per sample."""
        own = np.array([self.calibration.cost(name) for name in self.names]) / self.calibration.batch
        return np.asarray(own + np.append(0.0, own[:-1]))

    def preferences(self, rule: Rule) -> Floats:
        """What a rule's probabilities are in proportion to, [increments, levels].

        - "constant": one probability for all levels above the cheapest
        - "gamma": 2^{−(1+γ/2)k} at a cost of 2^{γk}, that is C_k^{−(1/γ + 1/2)} (ML-EM, Theorem 1)
        - "variance": √(V_k/C_k) with V_k summed along the path as it moves the result (ML-EM, section 2)
        - "time": Δτ(t)·S(t)·√(V_k(t)/C_k), the optimum to first order (derived)
        """
        require(rule in RULES, "rule", rule, ", ".join(RULES))
        costs = np.maximum(self.costs, 1e-300)
        if rule == "constant":
            return np.ones((self.increments, len(self.names)))
        if rule == "gamma":
            fit = self.calibration.gamma
            if fit is None:
                raise MultidriftError("rule: got 'gamma', but the ladder has too few levels for a fit of γ")
            return np.tile((costs / costs[-1]) ** -(1.0 / fit.gamma + 0.5), (self.increments, 1))
        if rule == "variance":
            summed = self.carried**2 @ self.variances
            return np.tile(np.sqrt(summed / costs), (self.increments, 1))
        return self.carried[:, None] * np.sqrt(self.variances / costs)

    def table(self, preferences: Floats, knob: float) -> Floats:
        """Probabilities min(1, knob·preference), and 1 for the cheapest level, [increments, levels]."""
        chosen, upper = np.ones_like(preferences), preferences[:, 1:]
        chosen[:, 1:] = np.clip(knob * upper / upper.max(initial=1e-300), LEAST, 1.0)
        return chosen

    def seconds(self, table: Floats, draws: Draws = "independent") -> float:
        """Expected seconds of a sample, the final call and what a step costs beside its calls included."""
        calls = expected_calls(table, self.process.final_calls, draws)
        spent: float = sum(n * self.calibration.cost(name) for name, n in zip(self.names, calls.tolist(), strict=True))
        return (spent + self.calibration.overhead * self.increments) / self.calibration.batch

    def scatter(self, table: Floats) -> float:
        """Σ (Δτ S)² V_k (1/p − 1): the mean squared error that independent draws make, to first order."""
        return float((self.carried[:, None] ** 2 * self.variances * (1.0 / table - 1.0)).sum())

    @property
    def coarseness(self) -> float:
        """The mean squared error of so many steps of Euler on the top level."""
        steps, error, rate = self.calibration.coarse
        return float(error**2 * (steps / (self.increments + self.process.final_calls)) ** (2.0 * rate))

    def error(self, table: Floats) -> float:
        """Predicted mean squared distance per coordinate to the exact path of the top level."""
        return self.coarseness + self.scatter(table)

    def within(self, preferences: Floats, seconds: float, draws: Draws = "independent") -> Floats | None:
        """The table that costs so many seconds; None where even the rarest firings cost more."""

        def affordable(knob: float) -> bool:
            return self.seconds(self.table(preferences, knob), draws) <= seconds

        knob = _largest(affordable)
        return None if knob is None else self.table(preferences, knob)

    def reaching(self, preferences: Floats, error: float) -> Floats | None:
        """The cheapest table of predicted error at most `error`; None where no table is."""
        if self.coarseness > error:
            return None

        def too_few(knob: float) -> bool:
            return self.error(self.table(preferences, knob)) > error

        knob = _largest(too_few)
        found, always = self.table(preferences, knob or LEAST), self.table(preferences, math.inf)
        return always if self.seconds(always) <= self.seconds(found) else found  # levels that always fire cancel


def _largest(holds: Callable[[float], bool]) -> float | None:
    """The largest knob, between those that set all to the least and to 1, for which a monotone test holds."""
    low, high = math.log(LEAST), -3.0 * math.log(LEAST)
    if holds(math.exp(high)):
        return math.exp(high)
    if not holds(math.exp(low)):
        return None
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(math.exp(middle)) else (low, middle)
    return math.exp(low)


def subsets(names: Sequence[str], top: str) -> list[tuple[str, ...]]:
    """Choices of levels that end with the top one, two to four of them, cheapest first."""
    below = [name for name in names if name != top]
    found = [tuple(name for bit, name in enumerate(below) if mask >> bit & 1) for mask in range(1, 1 << len(below))]
    return [(*chosen, top) for chosen in found if len(chosen) <= 3]
