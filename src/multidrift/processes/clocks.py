"""The clocks of a diffusion: one class for each quantity that can be held over a step.

With λ = log(α/σ) and κ = σ/α, each gives the coordinate z, its drift clock τ and its noise clock v. Everything is
divided by z's own factor at an anchor time, so that z = x there: anchored at the end of a step every number is of
order one, for any η and any schedule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.noise.lattice import Places
from multidrift.processes.predictions import Prediction
from multidrift.schedules.chain import Discrete
from multidrift.schedules.schedule import Schedule

Holds = Literal["data", "noise", "score", "ddpm"]


@dataclass(frozen=True)
class HeldClock(ABC):
    """The coordinate and clocks that belong to one held quantity, for a schedule and an amount of noise η."""

    schedule: Schedule
    eta: float

    variance_grows: ClassVar[bool] = False  # with λ, as ρ^(2η) does; κ² falls
    drift_is: ClassVar[Prediction]  # what D is, as a prediction of the network
    starts_from_pure_noise: ClassVar[bool] = False  # whether z exists where α = 0

    def check(self) -> None:  # noqa: B027 (most clocks suit every schedule)
        """Raise where the schedule or η does not suit what is held."""

    @abstractmethod
    def log_scale(self, lam: Floats) -> Floats:
        """log(z/x)."""

    @abstractmethod
    def dtau(self, start: Floats, stop: Floats, anchor: Floats) -> Floats:
        """τ(stop) − τ(start) over z's factor at the anchor; all three are values of λ."""

    @abstractmethod
    def log_variance(self, low: Places, high: Places) -> Floats:
        """log(v(high) − v(low)) from λ = low to λ = high; −inf where there is no noise."""


class DataClock(HeldClock):
    """D = x_0: z = ρ^η x/σ, τ = ρ^(1+η), v = ρ^(2η), ρ = e^λ. DDIM at η = 0, SDE-DPM-Solver++(1) at η = 1."""

    variance_grows = True
    drift_is = "sample"
    starts_from_pure_noise = True

    def log_scale(self, lam: Floats) -> Floats:
        sigma = self.schedule.log_sigma(lam)
        return self.eta * lam - sigma if self.eta else -sigma

    def dtau(self, start: Floats, stop: Floats, anchor: Floats) -> Floats:
        size = np.exp(stop + self.eta * (stop - anchor) + self.schedule.log_sigma(anchor))
        return size * -np.expm1(-(1.0 + self.eta) * (stop - start))

    def log_variance(self, low: Places, high: Places) -> Floats:
        if not self.eta:
            return _no_noise(low, high)
        return np.asarray(2.0 * self.eta * high + np.log(-np.expm1(-2.0 * self.eta * (high - low))))


def _no_noise(low: Places, high: Places) -> Floats:
    return np.full(np.broadcast_shapes(np.shape(low), np.shape(high)), -math.inf)


def _log_variance_of_kappa(eta: float, low: Places, high: Places) -> Floats:
    """Log of η(κ²(low) − κ²(high))."""
    if not eta:
        return _no_noise(low, high)
    return np.asarray(math.log(eta) - 2.0 * high + np.log(np.expm1(2.0 * (high - low))))


class EpsilonClock(HeldClock):
    """D = ε: z = x/α, τ = (1+η)κ, v = −ηκ². DPM-Solver-1 at η = 0, SDE-DPM-Solver-1 at η = 1."""

    drift_is = "epsilon"

    def log_scale(self, lam: Floats) -> Floats:
        return -self.schedule.log_alpha(lam)

    def dtau(self, start: Floats, stop: Floats, anchor: Floats) -> Floats:
        return -(1.0 + self.eta) * np.exp(self.schedule.log_alpha(anchor) - stop) * np.expm1(stop - start)

    def log_variance(self, low: Places, high: Places) -> Floats:
        return _log_variance_of_kappa(self.eta, low, high)


class ScoreClock(HeldClock):
    """D = score: z = x/α, dτ = −(1+η)σ dκ, v = −ηκ². PMM's V1 and PIADM's exponential integrator."""

    drift_is = "score"

    def log_scale(self, lam: Floats) -> Floats:
        return -self.schedule.log_alpha(lam)

    def log_variance(self, low: Places, high: Places) -> Floats:
        return _log_variance_of_kappa(self.eta, low, high)

    def dtau(self, start: Floats, stop: Floats, anchor: Floats) -> Floats:
        log_alpha = self.schedule.log_alpha
        first, last, unit = log_alpha(start), log_alpha(stop), log_alpha(anchor)
        inverse = np.exp(unit - last) * np.expm1(last - first)  # α(anchor)·(1/α(start) − 1/α(stop))
        match self.schedule.family:
            case "variance_preserving":  # τ = −(1+η)/α
                return (1.0 + self.eta) * inverse
            case "flow":  # τ = −(1+η)(1/α + ln α)
                return (1.0 + self.eta) * (inverse - np.exp(unit) * (last - first))
            case "variance_exploding":  # τ = −(1+η)σ²/2
                return 0.5 * (1.0 + self.eta) * np.exp(-2.0 * stop) * np.expm1(2.0 * (stop - start))


class ChainClock(HeldClock):
    """D = ε frozen along the training chain: z = x/α, PMM's K-step V2. The clocks are sums of the chain's own steps.

    A step t → t−1 has Δτ = −β_t/(√(1−β_t) α_{t−1} σ_t) and Δv = β̃_t/α²_{t−1}, β̃_t the posterior variance.
    """

    drift_is = "epsilon"

    def check(self) -> None:
        require(isinstance(self.schedule, Discrete), "holds", "ddpm", "a schedule with training steps (ddpm, cosine)")
        require(self.eta == 1, "eta", self.eta, "1 with holds='ddpm'")

    @cached_property
    def _tables(self) -> tuple[Floats, Floats]:
        """τ and v at the training steps, counted from the data end so that both are exact where they are small."""
        assert isinstance(self.schedule, Discrete)
        beta, kept = np.asarray(self.schedule.betas)[1:], self.schedule.alphas_cumprod
        alpha_before = np.sqrt(kept[:-1])
        dtau = -beta / (np.sqrt(1.0 - beta) * alpha_before * np.sqrt(1.0 - kept[1:]))
        dv = (1.0 - kept[:-1]) / (1.0 - kept[1:]) * beta / kept[:-1]
        return np.append(0.0, np.cumsum(dtau)), np.append(0.0, np.cumsum(dv))

    def _at(self, table: Floats, lam: Places) -> Floats:
        return np.interp(self.schedule.time(lam), np.arange(len(table), dtype=np.float64), table)

    def log_scale(self, lam: Floats) -> Floats:
        return -self.schedule.log_alpha(lam)

    def dtau(self, start: Floats, stop: Floats, anchor: Floats) -> Floats:
        tau, _ = self._tables
        return np.exp(self.schedule.log_alpha(anchor)) * (self._at(tau, start) - self._at(tau, stop))

    def log_variance(self, low: Places, high: Places) -> Floats:
        _, v = self._tables
        with np.errstate(divide="ignore"):
            return np.log(self._at(v, low) - self._at(v, high))


CLOCKS: dict[Holds, type[HeldClock]] = {
    "data": DataClock,
    "noise": EpsilonClock,
    "score": ScoreClock,
    "ddpm": ChainClock,
}
