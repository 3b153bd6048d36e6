"""The noise schedules: training chains (DDPM, cosine), continuous VP and VE, EDM and rectified flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from multidrift.processes.errors import MultidriftError, require
from multidrift.processes.schedule import Family, Floats, Schedule


@dataclass(frozen=True)
class Discrete(Schedule):
    """A training chain of discrete steps 0 … N−1 (DDPM and its relatives), variance preserving.

    `betas` are the chain's β_0 … β_{N−1} as the training pipeline made them. Between steps λ is linear in t;
    in the last interval of a chain with zero terminal signal, α/σ is.
    """

    kind: ClassVar[str] = "discrete"
    family: ClassVar[Family] = "variance_preserving"
    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        values = np.asarray(self.betas)
        require(len(values) > 1, "betas", f"{len(values)} values", "at least two")
        inside = bool(np.all((values > 0) & (values <= 1)))
        require(inside, "betas", np.array2string(values, threshold=12), "values in (0, 1]")

    @property
    def t_max(self) -> float:
        return float(len(self.betas) - 1)

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def training_steps(self) -> int:
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> Floats:
        """ᾱ_t = Π_{s≤t} (1 − β_s), the signal's share of the variance after step t."""
        return np.cumprod(1.0 - np.asarray(self.betas, dtype=np.float64), dtype=np.float64)

    @cached_property
    def _table(self) -> Floats:
        with np.errstate(divide="ignore"):
            return 0.5 * (np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod))

    def log_snr(self, t: ArrayLike) -> Floats:
        times = np.asarray(t, dtype=np.float64)
        steps = np.arange(len(self.betas), dtype=np.float64)
        if np.isfinite(self._table[-1]):
            return np.interp(times, steps, self._table)
        inner = np.interp(times, steps[:-1], self._table[:-1])
        with np.errstate(divide="ignore"):
            last = self._table[-2] + np.log(np.clip(self.t_max - times, 0.0, 1.0))
        return np.where(times > steps[-2], last, inner)

    def time(self, log_snr: ArrayLike) -> Floats:
        lam = np.asarray(log_snr, dtype=np.float64)
        steps = np.arange(len(self.betas), dtype=np.float64)
        if np.isfinite(self._table[-1]):
            return np.interp(lam, self._table[::-1], steps[::-1])
        inner = np.interp(lam, self._table[-2::-1], steps[-2::-1])
        return np.where(lam < self._table[-2], self.t_max - np.exp(lam - self._table[-2]), inner)


@dataclass(frozen=True)
class VariancePreserving(Schedule):
    """The continuous variance-preserving process, β(t) linear from `beta_min` to `beta_max` on t in (0, 1]."""

    kind: ClassVar[str] = "vp"
    family: ClassVar[Family] = "variance_preserving"
    beta_min: float = 0.1
    beta_max: float = 20.0
    smallest: float = 1e-3

    def __post_init__(self) -> None:
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
    smallest: float = 0.01
    largest: float = 50.0

    def __post_init__(self) -> None:
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
    smallest: float = 0.002
    largest: float = 80.0

    def __post_init__(self) -> None:
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
    """Rectified flow, α = 1 − t/scale and σ = t/scale; `scale` is the network's largest time (SD3, Flux: 1000)."""

    kind: ClassVar[str] = "flow"
    family: ClassVar[Family] = "flow"
    scale: float = 1.0
    smallest: float = 1e-3

    def __post_init__(self) -> None:
        require(self.scale > 0, "scale", self.scale, "a positive number")
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


def ddpm(
    beta: Literal["linear", "scaled_linear"] = "linear",
    steps: int = 1000,
    start: float = 1e-4,
    end: float = 0.02,
) -> Discrete:
    """The DDPM chain; β runs linearly, or its square root does ("scaled_linear", latent diffusion).

    The betas are rounded to float32 as diffusers makes them, so that both walk the same chain.
    """
    if beta == "linear":
        values = torch.linspace(start, end, steps, dtype=torch.float32)
    elif beta == "scaled_linear":
        values = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32) ** 2
    else:
        raise MultidriftError(f"beta: got {beta!r}; it takes 'linear' or 'scaled_linear'")
    return Discrete(betas=tuple(values.double().tolist()))


def cosine(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Discrete:
    """The cosine chain of Nichol and Dhariwal 2021 (diffusers' "squaredcos_cap_v2")."""
    at = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    betas = np.minimum(1.0 - at[1:] / at[:-1], largest).astype(np.float32)
    return Discrete(betas=tuple(betas.astype(np.float64).tolist()))


def vp(beta_min: float = 0.1, beta_max: float = 20.0, smallest: float = 1e-3) -> VariancePreserving:
    """The continuous variance-preserving schedule of Song et al. 2021."""
    return VariancePreserving(beta_min, beta_max, smallest)


def ve(smallest: float = 0.01, largest: float = 50.0) -> VarianceExploding:
    """The variance-exploding schedule of Song et al. 2021, geometric in t."""
    return VarianceExploding(smallest, largest)


def edm(smallest: float = 0.002, largest: float = 80.0) -> KarrasEDM:
    """The schedule of Karras et al. 2022, whose time is σ."""
    return KarrasEDM(smallest, largest)


def flow(scale: float = 1.0, smallest: float | None = None) -> Flow:
    """Rectified flow (Liu et al. 2022, Lipman et al. 2022); `smallest` defaults to a thousandth of `scale`."""
    return Flow(scale, scale * 1e-3 if smallest is None else smallest)


_KINDS: tuple[type[Schedule], ...] = (Discrete, VariancePreserving, VarianceExploding, KarrasEDM, Flow)


def from_dict(values: Mapping[str, object]) -> Schedule:
    """The schedule that `Schedule.to_dict` described; unknown kinds and settings raise."""
    kinds = {kind.kind: kind for kind in _KINDS}
    kind = kinds.get(str(values.get("kind")))
    if kind is None:
        raise MultidriftError(f"schedule: got kind {values.get('kind')!r}; it takes {', '.join(kinds)}")
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"}
    known = {f.name for f in fields(kind)}
    require(set(settings) == known, "schedule", sorted(settings), f"the settings {sorted(known)}")
    return kind(**settings)
