"""Training chains of discrete steps: DDPM and its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Gt, Le
from numpy.typing import ArrayLike

from multidrift.basics.checks import checked
from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats, finite
from multidrift.basics.types import MOST_STEPS, NotNegative, Numbers, Positive, Steps, Takes
from multidrift.schedules.schedule import Family, Schedule


@dataclass(frozen=True)
class Discrete(Schedule):
    """A training chain of discrete steps 0 … N−1 (DDPM and its relatives), variance preserving.

    `betas` are the chain's β_0 … β_{N−1} as the training pipeline made them. Between steps λ is linear in t;
    in the last interval of a chain with zero terminal signal, α/σ is.
    """

    kind: ClassVar[str] = "discrete"
    family: ClassVar[Family] = "variance_preserving"
    betas: Numbers

    def __post_init__(self) -> None:
        values = finite(self.betas, "betas")
        require(values.ndim == 1, "betas", f"an array of shape {values.shape}", "a list of numbers")
        require(
            1 < len(values) <= MOST_STEPS, "betas", f"{len(values)} values", f"at least two, at most {MOST_STEPS:,}"
        )
        object.__setattr__(self, "betas", tuple(values.tolist()))
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


@checked
def ddpm(
    beta: Literal["linear", "scaled_linear"] = "linear",
    steps: Steps = 1000,
    start: Positive = 1e-4,
    end: Positive = 0.02,
) -> Discrete:
    """The DDPM chain; β runs linearly, or its square root does ("scaled_linear", latent diffusion).

    The betas are rounded to float32 as diffusers makes them, so that both walk the same chain.
    """
    if beta == "linear":
        values = torch.linspace(start, end, steps, dtype=torch.float32)
    else:
        values = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32) ** 2
    return Discrete(betas=tuple(values.double().tolist()))


@checked
def cosine(
    steps: Steps = 1000,
    offset: NotNegative = 0.008,
    largest: Annotated[float, Gt(0), Le(1), Takes("a number in (0, 1]")] = 0.999,
) -> Discrete:
    """The cosine chain of Nichol and Dhariwal 2021 (diffusers' "squaredcos_cap_v2")."""
    at = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    betas = np.minimum(1.0 - at[1:] / at[:-1], largest).astype(np.float32)
    return Discrete(betas=tuple(betas.astype(np.float64).tolist()))
