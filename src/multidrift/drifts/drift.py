"""What is evaluated: a function with its name, its place and the schedule it belongs to."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self, TypeAlias

import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.foreign import users_code
from multidrift.basics.numbers import Floats
from multidrift.drifts.conditioning import cut_conditioning
from multidrift.drifts.modules import modules_behind, tensors_behind
from multidrift.drifts.weights import Weights
from multidrift.processes.predictions import Prediction
from multidrift.schedules.schedule import Schedule

_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")  # of torch.compile
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by a state's dimensions

Conditioning: TypeAlias = Mapping[str, object]


class HasSample(Protocol):
    """What diffusers' networks return."""

    sample: Tensor


# A function or a torch module; which conditioning it takes is its own matter.
Network: TypeAlias = Callable[..., Tensor | HasSample]  # type: ignore[explicit-any]  # any conditioning


class Drift(ABC):
    """A network, or another function, that methods call; see `Denoiser` and `LangevinDrift`."""

    net: Network
    name: str
    shape: tuple[int, ...] | None
    rows: int | None = None  # at most so many states in one call of the network, whose time a row grows beyond it
    _called: Network | None = None  # in the place of `net`: the same, compiled
    _channels_last: bool = False
    _run_dtype: tuple[torch.dtype | None] | None = None  # in a run: `dtype`, looked up once

    @property
    @abstractmethod
    def schedule(self) -> Schedule | None:
        """The noise schedule it was trained on; None for drifts of Langevin dynamics."""

    @abstractmethod
    def predict(self, x: Tensor, t: float | Floats, target: Prediction, conditioning: Conditioning) -> Tensor:
        """What it says at states x [n, …] and time t (or times [n]) as `target`, in x's dtype."""

    @abstractmethod
    def renamed(self, name: str) -> Drift:
        """The same function under another name."""

    def bind(self, conditioning: Conditioning, count: int) -> Bound:
        """The drift as one run of `count` samples evaluates it; what it remembers of a run lives there.

        `conditioning` is as `check_conditioning` lets it pass.
        """
        return Bound(self.for_a_run(), conditioning, count)

    def optimized(self, *, compiled: bool | str = False, channels_last: bool = False, rows: int | None = None) -> Self:
        """The same with ways to a faster call of its network, which change what it predicts by rounding alone.

        - `compiled`: True, or a mode of `torch.compile`; "reduce-overhead" takes CUDA graphs. It compiles at the first
          call and for every new number of rows
        - `channels_last`: keep the network's weights and its input in this memory format; the network itself is
          converted. For convolutions
        - `rows`: at most so many states in one call; `Ladder.measured` finds the fastest number

        Raises MultidriftError on settings of other types, and at the first call where torch cannot compile.
        """
        known = isinstance(compiled, bool) or compiled in _MODES
        require(known, "compiled", compiled, f"True, False or one of {', '.join(_MODES)}")
        require(isinstance(channels_last, bool), "channels_last", channels_last, "True or False")
        fits = rows is None or (type(rows) is int and rows >= 1)
        require(fits, "rows", rows, "None or a number of states of at least 1")
        other = copy.copy(self)
        other.rows = self.rows if rows is None else rows
        if channels_last:
            other._channels_last = True  # noqa: SLF001 (its own copy)
            for module in self.modules:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        if compiled:
            made = torch.compile(self.net, mode=None if compiled is True else str(compiled))
            other._called = made  # noqa: SLF001 (its own copy)
        return other

    def for_a_run(self) -> Self:
        """The same, with `dtype` looked up once: networks may walk through all their modules to tell it."""
        other = copy.copy(self)
        other._run_dtype = (self.dtype,)  # noqa: SLF001 (its own copy)
        return other

    def takes(self, x: Tensor) -> torch.dtype:
        """What states x are passed in."""
        (own,) = self._run_dtype or (self.dtype,)
        return own or x.dtype

    @property
    @abstractmethod
    def settings(self) -> list[object]:
        """All that tells it from another drift of the same network."""

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The torch modules behind this drift, to be put in eval mode for a run."""
        return self._modules

    @cached_property
    def _modules(self) -> tuple[torch.nn.Module, ...]:
        return modules_behind(self.net)

    @property
    def device(self) -> torch.device | None:
        """Where the network computes: where its parameters are, or are moved to for every call; None without any."""
        for module in self.modules:
            moved = getattr(getattr(module, "_hf_hook", None), "execution_device", None)  # offloaded by accelerate
            if moved is not None:
                return torch.device(moved)
        return next((p.device for module in self.modules for p in module.parameters()), None)

    @property
    def dtype(self) -> torch.dtype | None:
        """What states are passed in: as the network says itself, or by its first parameter; None where it has none."""
        for source in (self.net, *self.modules[:1]):
            own = getattr(source, "dtype", None)
            if isinstance(own, torch.dtype) and own.is_floating_point:
                return own
        return next((p.dtype for m in self.modules for p in m.parameters() if p.is_floating_point()), None)

    @property
    def fingerprint(self) -> str:
        """A hash of what this is: settings, and name, shape and all values of every parameter and buffer.

        Of a plain function they are the tensors that its code uses, and without any its name stands for them.
        """
        named = [item for module in self.modules for item in module.state_dict().items()]
        named += [(f"variable {n}", value) for n, value in enumerate(tensors_behind(self.net))]
        weights = [(name, value) for name, value in named if isinstance(value, Tensor) and not value.is_meta]
        shapes = {name: list(value.shape) for name, value in weights}
        digest = hashlib.sha256(json.dumps([*self.settings, shapes or self.name]).encode())
        if weights:
            digest.update(self._weights.sums([value for _, value in weights]))
        return digest.hexdigest()[:16]

    @cached_property
    def _weights(self) -> Weights:
        return Weights()

    def call(self, x: Tensor, *rest: Tensor, **conditioning: object) -> Tensor:
        """The network's answer at states x [n, …], in their dtype; what it raises says that it was the network.

        It is given a copy: it may work in place on what it gets, while x belongs to the run and to the caller.
        """
        form = _CHANNELS_LAST.get(x.ndim, torch.preserve_format) if self._channels_last else torch.preserve_format
        with users_code(self.name):
            network = self.net if self._called is None else self._called
            output = network(x.to(self.takes(x), copy=True, memory_format=form), *rest, **conditioning)
        return self.checked(output, x)

    def checked(self, output: Tensor | HasSample, x: Tensor) -> Tensor:
        """The network's output as a tensor shaped like x and in its dtype, or an error that says what is wrong."""
        tensor = output if isinstance(output, Tensor) else getattr(output, "sample", None)
        if isinstance(tensor, Tensor) and (tensor.shape, tensor.dtype, tensor.device) == (x.shape, x.dtype, x.device):
            return tensor.contiguous()  # states are, and sums with them are faster so
        if not isinstance(tensor, Tensor):
            raise MultidriftError(f"{self.name}: returned {type(output).__name__}; it takes a tensor or `.sample`")
        require(tensor.shape == x.shape, f"{self.name}'s output shape", tuple(tensor.shape), f"{tuple(x.shape)}")
        require(tensor.is_floating_point(), f"{self.name}'s output dtype", tensor.dtype, "a floating-point dtype")
        require(tensor.device == x.device, f"{self.name}'s output device", str(tensor.device), str(x.device))
        return tensor.to(x.dtype).contiguous()


@dataclass(frozen=True, eq=False)
class Bound:
    """A drift with the conditioning of a run of `count` samples."""

    drift: Drift
    conditioning: Conditioning
    count: int

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        """The drift's `predict` for the samples `rows` [n] that x [n, …] holds."""
        return self.drift.predict(x, t, target, cut_conditioning(self.conditioning, self.count, rows))

    def work(self, t: float | Floats, rows: int) -> list[tuple[str, int]]:
        """(name, rows) of every invocation of a network that `predict` makes on so many states."""
        del t
        return [(self.drift.name, rows)]
