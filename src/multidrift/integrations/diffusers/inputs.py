"""What a call of a pipeline gives, as the loop takes it: arguments by name, callbacks, seeds from generators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection
from typing import cast

import torch

from multidrift.basics.errors import require
from multidrift.integrations.diffusers.loop import Callback, Legacy, Loop


def inputs(pipe: object, call: inspect.BoundArguments) -> tuple[dict[str, object], Collection[str]]:
    """What a call gives by name, to be changed in place, and all that the pipeline takes; of modular ones by blocks."""
    blocks = getattr(pipe, "blocks", None)
    if blocks is None:
        return call.arguments, call.signature.parameters.keys()
    return call.arguments.setdefault("kwargs", {}), {parameter.name for parameter in blocks.inputs}


def with_callback(given: dict[str, object], takes: Collection[str], loop: Loop) -> None:
    """The user's callback after every step of the walk, in the place of every round of the pipeline's loop."""
    callback = given.get("callback_on_step_end")
    if callback is not None and "callback_on_step_end" in takes:
        tensors = getattr(callback, "tensor_inputs", None)
        if tensors is not None:
            given["callback_on_step_end_tensor_inputs"] = tensors
        given["callback_on_step_end"] = functools.partial(loop.report, cast("Callback", callback))
    legacy = given.get("callback")
    if legacy is not None and "callback_steps" in takes:  # PixArt's, which changes nothing
        every = cast("int", given.get("callback_steps", 1))
        given["callback"] = functools.partial(loop.tell, cast("Legacy", legacy), every)
        given["callback_steps"] = 1


def seeds(generator: object, count: int) -> int | list[int]:
    """A seed for all samples drawn from a generator, or one for each from its own."""
    if isinstance(generator, list | tuple):
        right = len(generator) == count
        require(right, "generator", f"{len(generator)} generators", f"one, or one for each of {count} samples")
        return [_seed(one) for one in generator]
    return _seed(generator)


def _seed(generator: object) -> int:
    kind = isinstance(generator, torch.Generator)
    require(
        kind or generator is None, "generator", type(generator).__name__, "None, a torch.Generator or a list of them"
    )
    own = generator if isinstance(generator, torch.Generator) else None
    device = "cpu" if own is None else own.device
    return int(torch.randint(0, 2**63 - 1, (), generator=own, device=device))
