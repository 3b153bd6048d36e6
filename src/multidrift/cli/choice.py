"""What several commands choose by the same options: a ladder, a method, a process."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import cast

from multidrift.basics.errors import MultidriftError, require
from multidrift.drifts.ladder import Ladder
from multidrift.methods.euler import Euler
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.methods.method import Method
from multidrift.methods.multilevel.draws import Draws
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.multistep import Multistep
from multidrift.methods.picard.walk import Picard
from multidrift.methods.poisson.substeps import SubstepDraws
from multidrift.methods.poisson.variants import Variant, pmm_variant
from multidrift.methods.poisson.walk import PoissonMidpoint
from multidrift.methods.speculative.walk import Speculative, Verification
from multidrift.processes.clocks import Holds
from multidrift.processes.diffusion import Diffusion
from multidrift.schedules.chain import Discrete
from multidrift.schedules.grids import Grid

_SUBSTEPS = 20  # of poisson, unless --substeps says otherwise


class MethodName(StrEnum):
    """The methods by the name the command line gives them."""

    euler = "euler"
    multistep = "multistep"
    ladder_multistep = "ladder-multistep"
    multilevel = "multilevel"
    picard = "picard"
    poisson = "poisson"
    speculative = "speculative"


def chosen_method(  # noqa: PLR0911 (one line a method)
    name: MethodName,
    steps: int,
    grid: str | None = None,
    *,
    levels: str | None = None,
    calls: str | None = None,
    draws: str | None = None,
    substeps: int | None = None,
    order: int = 2,
    blocks: int = 1,
    window: int | None = None,
    tolerance: float = 1e-3,
    coarse: str | None = None,
    coarse_every: int = 1,
    accelerate: str | None = None,
    drafter: str = "f1+held",
    verification: str = "step",
) -> Method:
    """The method of that name with the options that it has; the others are not looked at."""
    spacing = cast("Grid | None", grid)
    names = None if levels is None else tuple(levels.split(","))
    match name:
        case MethodName.euler:
            return Euler(steps, spacing)
        case MethodName.multistep:
            return Multistep(steps, spacing, order=order)
        case MethodName.ladder_multistep:
            return LadderMultistep(steps, spacing, levels=names, substeps=substeps)
        case MethodName.multilevel:
            how = cast("Draws", draws or "systematic")
            return Multilevel(steps, spacing, levels=names, calls=_numbers(calls), draws=how)
        case MethodName.picard:
            below = coarse.split(",") if coarse is not None and "," in coarse else coarse
            return Picard(
                steps, spacing, blocks=blocks, window=window, tolerance=tolerance, coarse=below,
                coarse_every=coarse_every, accelerate=accelerate,
            )  # fmt: skip
        case MethodName.poisson:
            firing = cast("SubstepDraws", draws or "independent")
            return PoissonMidpoint(steps, spacing, substeps=_SUBSTEPS if substeps is None else substeps, draws=firing)
        case MethodName.speculative:
            drafters = drafter.split(",") if "," in drafter else drafter
            return Speculative(
                steps, spacing, window=20 if window is None else window, drafter=drafters,
                verification=cast("Verification", verification),
            )  # fmt: skip


def _numbers(calls: str | None) -> tuple[float, ...]:
    """The numbers of a list such as 80,20."""
    try:
        return tuple(float(number) for number in (calls or "").split(","))
    except ValueError as error:
        raise MultidriftError(f"calls: got {calls!r}; it takes one number a level, such as 80,20") from error


def chosen_process(networks: Ladder, eta: float, holds: str, variant: str | None = None) -> Diffusion:
    """The reverse process of a ladder, with so much noise, or as a variant of the paper on Poisson midpoint."""
    assert networks.schedule is not None  # ladders in folders are Denoisers
    if variant is not None:
        require(eta == 1.0 and holds == "data", "variant", variant, "no --eta and no --holds beside it")
    if variant is None:
        return Diffusion(networks.schedule, eta, cast("Holds", holds))
    require(isinstance(networks.schedule, Discrete), "variant", variant, "a ladder with training steps")
    assert isinstance(networks.schedule, Discrete)
    return pmm_variant(cast("Variant", variant), networks.schedule)


def named_ladder(name: str) -> Ladder:
    """The ladder in a folder, or the one that comes with the package by that name."""
    return Ladder.load(name) if Path(name).is_dir() or "/" in name else Ladder.bundled(name)
