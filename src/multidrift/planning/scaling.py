"""How error falls with cost over the levels of a ladder: γ, its floor, and how well the data determine it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from multidrift.basics.errors import require
from multidrift.basics.json_files import entry
from multidrift.basics.numbers import Floats
from multidrift.basics.types import NotNegative

_FLOOR_SHARES = 1.0 - np.geomspace(1.0, 1e-5, 1500)  # floors tried, in units of the least error
_RATES = np.geomspace(1.0 / 200.0, 10.0, 4000)  # 1/γ tried; at the least of them nothing falls
_RESAMPLES = 400
_FEWEST = 4  # levels that three parameters need


@dataclass(frozen=True)
class ScalingFit:
    """γ: a drift within ε of the best one costs ε^−γ (ML-EM, Assumption 1; ε is a distance, not a squared one).

    - `interval`: 95%, resampling images or paths; what other networks would change is not in it
    - `floor`: the squared error that no cost takes away, where one was fitted, else 0
    """

    gamma: float
    interval: tuple[float, float]
    floor: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """As plain values; `from_dict` reads them back."""
        gamma, low, high = (None if math.isinf(v) else v for v in (self.gamma, *self.interval))  # JSON knows no ∞
        return {"gamma": gamma, "interval": [low, high], "floor": self.floor}

    @staticmethod
    def from_dict(values: Mapping[str, object]) -> ScalingFit:
        """What `to_dict` described; raises MultidriftError on anything else."""
        gamma = entry(values, "gamma", float | None, "scaling")
        interval = cast("Sequence[float | None]", entry(values, "interval", Sequence[float | None], "scaling"))
        require(len(interval) == 2, "scaling: 'interval'", interval, "two numbers")
        floor = cast("float", entry(values, "floor", NotNegative, "scaling"))
        found = [math.inf if v is None else v for v in (cast("float | None", gamma), *interval)]
        return ScalingFit(found[0], (found[1], found[2]), floor)


def power_law(errors: Sequence[float] | Floats, costs: Sequence[float] | Floats) -> tuple[float, float]:
    """(g, floor): error ≈ floor + constant·cost^(−1/g), by least squares in logarithms over a grid of floors.

    Three parameters: four levels at least. g is infinite where more cost makes nothing better. Of squared errors,
    which fall twice as fast as distances, g is half of γ; ML-EM reads 2.5 off its Figure 2, the floor chosen by hand.
    """
    values, x = np.asarray(errors, dtype=np.float64), np.log(np.asarray(costs, dtype=np.float64))
    floors = _FLOOR_SHARES * values.min()
    y = np.log(values - floors[:, None])
    x, centred = x - x.mean(), y - y.mean(axis=1, keepdims=True)
    slopes = centred @ x / (x @ x)
    unexplained = ((centred - slopes[:, None] * x) ** 2).sum(axis=1) / (centred**2).sum(axis=1)
    best = int(np.argmin(unexplained))
    return (float(-1.0 / slopes[best]) if slopes[best] < 0 else math.inf), float(floors[best])


def fit_errors(squares: Floats, costs: Sequence[float] | Floats) -> ScalingFit | None:
    """γ from squared denoising errors [levels, images] and costs [levels]; None of fewer than four levels."""
    if len(squares) < _FEWEST or squares.shape[1] == 0:
        return None

    def gamma(rows: Floats) -> tuple[float, float]:
        found, floor = power_law(rows.mean(axis=1), costs)
        return 2.0 * found, floor

    found, floor = gamma(squares)
    return ScalingFit(found, _resampled(squares, lambda rows: gamma(rows)[0]), floor)


def fit_differences(squares: Floats, costs: Sequence[float] | Floats) -> ScalingFit | None:
    """γ from the squared differences of neighbouring levels [levels − 1, paths] and the costs [levels].

    The differences are summed along the path, each place weighted by what an error there does to the result. Levels
    C_k^(−1/γ) from the truth, each by an error of its own, differ by V_k = constant·(C_k^(−2/γ) + C_{k−1}^(−2/γ)),
    without a floor: least squares in logarithms. None of fewer than two differences, or where some vanish.
    """
    if len(squares) < 2 or bool(np.any(squares.mean(axis=1) <= 0)):
        return None
    x = np.log(np.asarray(costs, dtype=np.float64))
    falls = np.exp(-2.0 * _RATES[:, None] * (x - x[0]))
    wanted = np.log(falls[:, 1:] + falls[:, :-1])
    wanted -= wanted.mean(axis=1, keepdims=True)

    def gamma(rows: Floats) -> float:
        y = np.log(np.maximum(rows.mean(axis=1), 1e-300))
        best = int(np.argmin(((y - y.mean() - wanted) ** 2).sum(axis=1)))
        return float(1.0 / _RATES[best]) if best > 0 else math.inf

    return ScalingFit(gamma(squares), _resampled(squares, gamma))


def _resampled(squares: Floats, statistic: Callable[[Floats], float]) -> tuple[float, float]:
    """The 95% percentile interval of a statistic over resampled columns."""
    rng, number = np.random.default_rng(0), squares.shape[1]
    drawn = [statistic(squares[:, rng.integers(number, size=number)]) for _ in range(_RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return float(low), float(high)
