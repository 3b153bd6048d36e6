"""What a pipeline or its network does by the rounds of its loop, and which methods that leaves."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from multidrift.basics.errors import MultidriftError
from multidrift.integrations.diffusers.levels import SECOND
from multidrift.methods.euler import Euler
from multidrift.methods.method import Method
from multidrift.methods.multistep import Multistep

STEP_BY_STEP = "it takes a method that goes step by step, such as md.Euler, md.Multistep or md.Multilevel"
_ONE_CALL = "it takes a method of one round a step, md.Euler or md.Multistep"
# Arguments of pipelines that act by the number of the round, or by the one time of a round, and what they do so.
_COUNTED: Mapping[str, str] = {
    "skip_guidance_layers": "leaves out layers in a part of the rounds",
    "use_dynamic_cfg": "changes the guidance from round to round",
    "pag_adaptive_scale": "changes the guidance from round to round",
}
_WHOLE = "adapter_conditioning_factor"  # 1 where an adapter acts in every round


def refuse_by_rounds(
    pipe: object, method: Method, networks: Mapping[str, torch.nn.Module], given: Mapping[str, object]
) -> None:
    """Raise where a method's rounds are no steps of the pipeline, and the pipeline or a cache goes by them."""
    if isinstance(method, Euler | Multistep):
        return
    name = type(method).__name__
    for level, network in networks.items():
        if getattr(network, "is_cache_enabled", False):
            raise MultidriftError(
                f"level {level}: has a cache enabled (enable_cache), which reuses what the step before left; "
                f"{name} skips calls or makes them at many times at once; it takes disable_cache(), or md.Euler or "
                "md.Multistep"
            )
    if isinstance(getattr(pipe, "controlnet", None), torch.nn.Module):
        raise MultidriftError(
            f"pipe: has a ControlNet, which its loop weighs by the number of the round; {name} has other rounds than "
            f"steps; {_ONE_CALL}"
        )
    for argument, does in _COUNTED.items():
        if given.get(argument):
            raise MultidriftError(
                f"{argument}: got {given[argument]!r}, which {does}; {name} has other rounds than steps; {_ONE_CALL}"
            )
    part = given.get(_WHOLE)
    if part is not None and part != 1:
        raise MultidriftError(f"{_WHOLE}: got {part!r} with {name}, whose rounds are no steps; it takes 1")


def one_time(pipe: object) -> str | None:
    """Why each round of a pipeline can be about one time only; None where it may be about many."""
    second = any(isinstance(getattr(pipe, name, None), torch.nn.Module) for name in SECOND)
    return "has two networks, for more and for less noise" if second else None
