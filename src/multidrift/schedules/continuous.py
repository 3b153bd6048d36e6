"""Schedules without training steps: continuous VP and VE, EDM and rectified flow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from multidrift.basics.checks import checked
from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Positive
from multidrift.schedules.schedule import Family, Schedule


@dataclass(frozen=True)
class VariancePreserving(Schedule):
    """The continuous variance-preserving process, β(t) linear from `beta_min` to `beta_max` on t in (0, 1]."""

    kind: ClassVar[str] = "vp"
    family: ClassVar[Family] = "variance_preserving"
    beta_min: Positive = 0.1
    beta_max: Positive = 20.0
    smallest: Positive = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.beta_min <= self.beta_max, "beta_min", self.beta_min, "0 < beta_min ≤ beta_max")
        require(0 < self.smallest < 1, "smallest", self.smallest, "a time in (0, 1)")

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def t_min(self) -> float:
        return self.smallest

    def log_snr(self, t: ArrayLike) -> Floats:
        times = np.asarray(t, dtype=np.float64)
        integral = times * (self.beta_min + 0.5 * times * (self.beta_max - self.beta_min))
        return np.asarray(-0.5 * np.log(np.expm1(integral)))  # ᾱ = exp(−∫β)

    def time(self, log_snr: ArrayLike) -> Floats:
        integral = np.logaddexp(0.0, -2.0 * np.asarray(log_snr, dtype=np.float64))
        slope = self.beta_max - self.beta_min
        return 2.0 * integral / (self.beta_min + np.sqrt(self.beta_min**2 + 2.0 * slope * integral))


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """Noise added to unscaled data, σ(t) = smallest·(largest/smallest)^t on t in [0, 1]."""

    kind: ClassVar[str] = "ve"
    family: ClassVar[Family] = "variance_exploding"
    smallest: Positive = 0.01
    largest: Positive = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.smallest < self.largest, "smallest", self.smallest, "0 < smallest < largest")

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def t_min(self) -> float:
        return 0.0

    def log_snr(self, t: ArrayLike) -> Floats:
        ratio = math.log(self.largest / self.smallest)
        return -math.log(self.smallest) - ratio * np.asarray(t, dtype=np.float64)

    def time(self, log_snr: ArrayLike) -> Floats:
        ratio = math.log(self.largest / self.smallest)
        return (-np.asarray(log_snr, dtype=np.float64) - math.log(self.smallest)) / ratio


@dataclass(frozen=True)
class KarrasEDM(Schedule):
    """Noise added to unscaled data with σ itself as time (Karras et al. 2022), σ from `largest` to `smallest`."""

    kind: ClassVar[str] = "edm"
    family: ClassVar[Family] = "variance_exploding"
    smallest: Positive = 0.002
    largest: Positive = 80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.smallest < self.largest, "smallest", self.smallest, "0 < smallest < largest")

    @property
    def t_max(self) -> float:
        return self.largest

    @property
    def t_min(self) -> float:
        return self.smallest

    def log_snr(self, t: ArrayLike) -> Floats:
        return -np.log(np.asarray(t, dtype=np.float64))

    def time(self, log_snr: ArrayLike) -> Floats:
        return np.exp(-np.asarray(log_snr, dtype=np.float64))


@dataclass(frozen=True)
class Flow(Schedule):
    """Rectified flow, α = 1 − t/scale and σ = t/scale; `scale` is the network's largest time (SD3, Flux: 1000).

    `shift` places grids alone: equal steps of t become σ = shift·u/(1 + (shift − 1)u) of equal steps of u, which lowers
    λ by log(shift) everywhere (Esser et al. 2024, equation 23).
    """

    kind: ClassVar[str] = "flow"
    family: ClassVar[Family] = "flow"
    scale: Positive = 1.0
    smallest: Positive = 1e-3
    shift: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.smallest < self.scale, "smallest", self.smallest, f"a time in (0, {self.scale:g})")

    @property
    def t_max(self) -> float:
        return self.scale

    @property
    def t_min(self) -> float:
        return self.smallest

    def log_snr(self, t: ArrayLike) -> Floats:
        sigma = np.asarray(t, dtype=np.float64) / self.scale
        with np.errstate(divide="ignore"):
            return np.log1p(-sigma) - np.log(sigma)

    def time(self, log_snr: ArrayLike) -> Floats:
        return self.scale * np.exp(-np.logaddexp(0.0, np.asarray(log_snr, dtype=np.float64)))

    def has_noise_of(self, other: Schedule) -> bool:
        return isinstance(other, Flow) and self.scale == other.scale

    def spaced(self, times: Floats) -> Floats:
        if self.shift == 1:
            return times
        return np.asarray(self.scale * self.shift * times / (self.scale + (self.shift - 1.0) * times))

    def unspaced(self, times: Floats) -> Floats:
        if self.shift == 1:
            return times
        return np.asarray(self.scale * times / (self.scale * self.shift - (self.shift - 1.0) * times))

    def to_dict(self) -> dict[str, object]:
        values = super().to_dict()
        return values if self.shift != 1 else {name: value for name, value in values.items() if name != "shift"}


@checked
def vp(beta_min: Positive = 0.1, beta_max: Positive = 20.0, smallest: Positive = 1e-3) -> VariancePreserving:
    """The continuous variance-preserving schedule of Song et al. 2021."""
    return VariancePreserving(beta_min, beta_max, smallest)


@checked
def ve(smallest: Positive = 0.01, largest: Positive = 50.0) -> VarianceExploding:
    """The variance-exploding schedule of Song et al. 2021, geometric in t."""
    return VarianceExploding(smallest, largest)


@checked
def edm(smallest: Positive = 0.002, largest: Positive = 80.0) -> KarrasEDM:
    """The schedule of Karras et al. 2022, whose time is σ."""
    return KarrasEDM(smallest, largest)


@checked
def flow(scale: Positive = 1.0, smallest: Positive | None = None, shift: Positive = 1.0) -> Flow:
    """Rectified flow (Liu et al. 2022, Lipman et al. 2022); `smallest` defaults to a thousandth of `scale`.

    `shift` moves the grids' times towards noise, as SD3 (3.0) and other models of high resolution do.
    """
    return Flow(scale, scale * 1e-3 if smallest is None else smallest, shift)
