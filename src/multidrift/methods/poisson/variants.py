"""The DDPM variants of the Poisson midpoint paper, as presets of `Diffusion`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from annotated_types import Ge

from multidrift.basics.checks import checked
from multidrift.basics.types import Takes
from multidrift.processes.diffusion import Diffusion
from multidrift.schedules.chain import Discrete

Variant = Literal["1a", "1b", "1c", "1d", "2", "3"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@checked
def pmm_variant(variant: Variant, schedule: Discrete) -> Diffusion:
    """The reverse SDE as variant 1a to 1d, 2 or 3 discretises it on the training chain of `schedule`.

    - "1a" … "1d": the score is held, with noise of variance β/(1 + iβ) a step, i = −1, 0, 1, 2 ("1a" is the exponential
      integrator itself)
    - "2": ε is held along the chain, with the posterior variance (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β, as DDIM with its η = 1
    - "3": as "2" with the lower variance (1 − ᾱ_{t−1})·β

    The paper finds less noise better with few calls and more with many: on CelebA-HQ "2" below 125 calls and "1a"
    above, on churches "3" up to 125 and "2" above, on bedrooms "2" always (`recommended_variant`). Raises
    MultidriftError on a schedule without training steps. Source: PMM, appendix A.1.
    """
    if variant == "1a":
        return Diffusion(schedule, 1.0, "score")
    if variant in ("1b", "1c", "1d"):
        return Diffusion(schedule, 1.0, "score", _ChainVariance(schedule, "bcd".index(variant[1])))
    return Diffusion(schedule, 1.0, "ddpm", 1.0 if variant == "2" else _NoiseVariance(schedule))


@checked
def recommended_variant(calls: Annotated[float, Ge(1), Takes("a count of at least 1")]) -> Variant:
    """The variant for a number of calls: "2" below 125, "1a" from there on (PMM, section 4, CelebA-HQ)."""
    return "2" if calls < 125 else "1a"


@dataclass(frozen=True)
class _ChainVariance:
    """(β/(1 + iβ)) / (β/(1 − β)) of the step t → t−1: what variants 1b to 1d make of the noise of 1a."""

    schedule: Discrete
    i: int

    def __call__(self, t: float) -> float:
        beta = self.schedule.betas[round(t)]
        return (1.0 - beta) / (1.0 + self.i * beta)


@dataclass(frozen=True)
class _NoiseVariance:
    """1 − ᾱ_t: what variant 3 makes of the noise of variant 2 in the step t → t−1."""

    schedule: Discrete

    def __call__(self, t: float) -> float:
        return 1.0 - float(self.schedule.alphas_cumprod[round(t)])
