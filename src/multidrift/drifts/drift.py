"""What is evaluated: a function with its name, its place and the schedule it belongs to."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.foreign import users_code
from multidrift.basics.numbers import Floats, bit_sum
from multidrift.processes.predictions import Prediction
from multidrift.schedules.schedule import Schedule

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

    @property
    @abstractmethod
    def settings(self) -> list[object]:
        """All that tells it from another drift of the same network."""

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The torch modules behind this drift, to be put in eval mode for a run."""
        return (self.net,) if isinstance(self.net, torch.nn.Module) else ()

    @property
    def device(self) -> torch.device | None:
        """Where the network's parameters are; None for a network without any."""
        return next((p.device for module in self.modules for p in module.parameters()), None)

    @property
    def dtype(self) -> torch.dtype | None:
        """What the network computes in; None for a network without parameters."""
        return next((p.dtype for module in self.modules for p in module.parameters()), None)

    @property
    def fingerprint(self) -> str:
        """A hash of what this is: settings, and name, shape and all values of every parameter and buffer.

        Of a plain function, which has no parameters, its name stands for them.
        """
        weights = [
            (name, value)
            for module in self.modules
            for name, value in module.state_dict().items()
            if isinstance(value, Tensor) and not value.is_meta
        ]
        shapes = {name: list(value.shape) for name, value in weights}
        digest = hashlib.sha256(json.dumps([*self.settings, shapes or self.name]).encode())
        if weights:
            sums = torch.stack([bit_sum(value).cpu() for _, value in weights])
            digest.update(sums.numpy().tobytes())
        return digest.hexdigest()[:16]

    def call(self, x: Tensor, *rest: Tensor, **conditioning: object) -> Tensor:
        """The network's answer at states x [n, …], in their dtype; what it raises says that it was the network.

        It is given a copy: it may work in place on what it gets, while x belongs to the run and to the caller.
        """
        with users_code(self.name):
            output = self.net(x.to(self.dtype or x.dtype, copy=True), *rest, **conditioning)
        return self.checked(output, x)

    def checked(self, output: Tensor | HasSample, x: Tensor) -> Tensor:
        """The network's output as a tensor shaped like x and in its dtype, or an error that says what is wrong."""
        tensor = output if isinstance(output, Tensor) else getattr(output, "sample", None)
        if not isinstance(tensor, Tensor):
            raise MultidriftError(f"{self.name}: returned {type(output).__name__}; it takes a tensor or `.sample`")
        require(tensor.shape == x.shape, f"{self.name}'s output shape", tuple(tensor.shape), f"{tuple(x.shape)}")
        require(tensor.is_floating_point(), f"{self.name}'s output dtype", tensor.dtype, "a floating-point dtype")
        require(tensor.device == x.device, f"{self.name}'s output device", str(tensor.device), str(x.device))
        return tensor.to(x.dtype)
