"""What a noise schedule is: x_t = α(t)·x_0 + σ(t)·ε, given by λ(t) = log(α/σ) on the host in float64.

A schedule knows only its time axis. What is held over a step, and on which clock, is `Diffusion`'s business.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from multidrift.basics.checks import Settings, check_fields
from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats

Family = Literal["variance_preserving", "variance_exploding", "flow"]

# log α as a function of λ = log(α/σ), for each relation between α and σ; log σ = log α − λ.
_LOG_ALPHA: dict[Family, Callable[[Floats], Floats]] = {
    "variance_preserving": lambda lam: -0.5 * np.logaddexp(0.0, -2.0 * lam),  # α² + σ² = 1
    "variance_exploding": np.zeros_like,  # α = 1
    "flow": lambda lam: -np.logaddexp(0.0, -lam),  # α + σ = 1
}


@dataclass(frozen=True)
class Schedule(Settings):
    """The noise level at every time: a subclass gives λ(t), its inverse and the family that ties α to σ.

    Times are in the units the network was trained with (DDPM: training step index) and run from `t_max`
    (noise) down to `t_min` (data). Every method takes and returns float64 numbers or arrays of any shape.
    """

    kind: ClassVar[str]
    family: ClassVar[Family]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    @abstractmethod
    def t_max(self) -> float:
        """The noisiest time."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The cleanest time a run evaluates."""

    @abstractmethod
    def log_snr(self, t: ArrayLike) -> Floats:
        """λ(t) = log(α/σ); −inf where α = 0."""

    @abstractmethod
    def time(self, log_snr: ArrayLike) -> Floats:
        """The time at which λ has this value: the inverse of `log_snr`."""

    @property
    def training_steps(self) -> int | None:
        """Number of training steps where time is a training step index, else None."""
        return None

    def has_noise_of(self, other: Schedule) -> bool:
        """Whether α and σ of both are the same functions of t; what places grids may differ."""
        return self == other

    def spaced(self, times: Floats) -> Floats:
        """Where grids of equal steps of t place these times of equal steps; flows with a shift move them."""
        return times

    def unspaced(self, times: Floats) -> Floats:
        """The inverse of `spaced`."""
        return times

    def alpha(self, t: ArrayLike) -> Floats:
        """α(t), the factor of the data."""
        return np.exp(self.log_alpha(self.log_snr(t)))

    def sigma(self, t: ArrayLike) -> Floats:
        """σ(t), the standard deviation of the noise."""
        return np.exp(self.log_sigma(self.log_snr(t)))

    def log_alpha(self, log_snr: ArrayLike) -> Floats:
        """The logarithm of α as a function of λ."""
        return _LOG_ALPHA[self.family](np.asarray(log_snr, dtype=np.float64))

    def log_sigma(self, log_snr: ArrayLike) -> Floats:
        """The logarithm of σ as a function of λ."""
        lam = np.asarray(log_snr, dtype=np.float64)
        if self.family == "variance_exploding":
            return np.negative(lam)
        return _LOG_ALPHA[self.family](-lam)  # both other families are symmetric in α and σ

    def check_time(self, t: ArrayLike, argument: str) -> None:
        """Raise unless every time lies inside the schedule."""
        times = np.asarray(t, dtype=np.float64)
        inside = bool(np.all((times >= self.t_min) & (times <= self.t_max)))
        require(
            inside, argument, np.array2string(times, threshold=12), f"times between {self.t_min:g} and {self.t_max:g}"
        )

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values; `from_dict` reads them back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
