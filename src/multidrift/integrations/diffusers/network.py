"""What stands in a pipeline for its network during a run: it calls the level that the walk asks for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats

_TIME = ("timestep", "timesteps", "t")
# What has a row for a place in the image or the text, not for a sample.
_FOR_ALL = ("img_ids", "txt_ids", "image_rotary_emb", "rotary_emb", "attention_kwargs", "joint_attention_kwargs")

_ROUNDED = 5e-3  # bfloat16 rounds times by 4e-3

Output = Callable[[torch.nn.Module, tuple[object, ...], dict[str, object]], object]


class StandIn(torch.nn.Module):
    """The network in a pipeline's eyes, with all of its attributes; a call of it goes to `called`."""

    def __init__(self, network: torch.nn.Module, called: Output) -> None:
        super().__init__()
        self.network = network
        self.__dict__["called"] = called

    def __getattr__(self, name: str) -> Tensor | torch.nn.Module:
        try:
            return super().__getattr__(name)
        except AttributeError:
            found: Tensor | torch.nn.Module = getattr(super().__getattr__("network"), name)
            return found

    def forward(self, *args: object, **kwargs: object) -> object:
        """The prediction of whichever level the walk asked for."""
        called: Output = self.__dict__["called"]
        return called(self.network, args, kwargs)


class Call:
    """One call of a network as a pipeline makes it, with its arguments by name; `first`: those that have none there."""

    def __init__(self, network: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        bound = inspect.signature(network.forward).bind(*args, **kwargs)
        extra = next((p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
        self.network, self.given = network, dict(bound.arguments)
        self.given.update(self.given.pop(extra, {}) if extra else {})
        self.first = tuple(bound.signature.parameters)[: len(args)]
        self.x_is = next(iter(bound.arguments))
        self.time_is = next((name for name in _TIME if name in self.given), None)
        scale = getattr(network, "config", {}).get("timestep_scale")
        self.time_scale = float(scale) if isinstance(scale, int | float) else 1.0  # Sana's pipeline multiplies by it

    @property
    def x(self) -> Tensor:
        """The states as the pipeline passes them: of one branch of its guidance, or of all."""
        x = self.given[self.x_is]
        assert isinstance(x, Tensor)
        return x

    def time(self) -> float:
        """The one time that it is called at, in the pipeline's units; waits for the device."""
        value = self.given.get(self.time_is or "")
        return float(value.flatten()[0]) if isinstance(value, Tensor) else float(value)  # type: ignore[arg-type]

    def cut(self, rows: Tensor, count: int) -> None:
        """Give every row of x its own sample's conditioning, which has `count` samples in each branch."""
        branches = len(self.x) // len(rows)
        places = torch.cat([rows + count * branch for branch in range(branches)])
        for name, value in self.given.items():
            if name not in (self.x_is, self.time_is, *_FOR_ALL):
                self.given[name] = _rows(value, places, count * branches)

    def at_times(self, times: Floats) -> None:
        """Give every row its own time, in the pipeline's units."""
        branches = len(self.x) // len(times)
        old = self.given.get(self.time_is or "")
        dtype = old.dtype if isinstance(old, Tensor) and old.is_floating_point() else torch.float32
        values = torch.from_numpy(np.tile(times, branches))
        self.given[self.time_is or ""] = values.to(self.x.device, dtype)

    def run(self, network: torch.nn.Module) -> object:
        """The output of a network called so, its prediction in float32: guidance takes differences of it."""
        dtype = getattr(network, "dtype", None)
        if isinstance(dtype, torch.dtype) and dtype.is_floating_point and self.x.dtype != dtype:
            self.given[self.x_is] = self.x.to(dtype)
        named = {name: value for name, value in self.given.items() if name not in self.first}
        output = network(*(self.given[name] for name in self.first), **named)
        if isinstance(output, tuple):
            return (_float(output[0]), *output[1:])
        sample = getattr(output, "sample", None)
        if not isinstance(sample, Tensor):
            raise MultidriftError(f"{type(network).__name__}: returned {type(output).__name__}; it takes `.sample`")
        output["sample"] = _float(sample)
        return output


def _float(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16) else value


def _rows(value: object, places: Tensor, whole: int) -> object:
    """Those rows of every tensor, also within, that has one for each sample of each branch."""
    if isinstance(value, Tensor):
        return value[places.to(value.device)] if value.ndim > 0 and len(value) == whole else value
    if isinstance(value, Mapping):
        return {key: _rows(inner, places, whole) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        parts = [_rows(inner, places, whole) for inner in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


@contextmanager
def cast_to_dtype(network: object) -> Iterator[None]:
    """Meanwhile a network beside the loop's (a ControlNet) is given the float32 states in its own dtype."""
    if not isinstance(network, torch.nn.Module):
        yield
        return

    def cast_all(module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        dtype = next(module.parameters()).dtype
        return tuple(_to(value, dtype) for value in args), {name: _to(value, dtype) for name, value in kwargs.items()}

    hook = network.register_forward_pre_hook(
        cast("Callable[[torch.nn.Module, tuple[object, ...], dict[str, object]], None]", cast_all), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def _to(value: object, dtype: torch.dtype) -> object:
    """A floating tensor in this dtype, times aside, which are numbers."""
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1 else value


def time_map(seen: float, at: float, training: float, scale: float = 1.0) -> Callable[[Floats], Floats]:
    """How a pipeline passes times on, from one pair: times as they are, in 0…1, or either of them backwards.

    `scale`: what its network's config says that times are multiplied by.
    """
    maps: dict[str, Callable[[Floats], Floats]] = {
        "t": lambda t: t,
        "t·scale": lambda t: t * scale,
        "t/N": lambda t: t / training,
        "N − t": lambda t: training - t,
        "1 − t/N": lambda t: 1.0 - t / training,
    }
    fits = [f for f in maps.values() if abs(float(f(np.array(at))) - seen) <= _ROUNDED * max(abs(seen), 1e-3)]
    if not fits:
        raise MultidriftError(
            f"pipe: passes time {at:g} to its network as {seen:g}, in units that are not known; it takes a method that "
            "evaluates one time after another"
        )
    return fits[0]
