"""One network, what it predicts, and on which schedule: the adapter between networks and processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.processes.errors import MultidriftError, require
from multidrift.processes.predictions import PREDICTIONS, Prediction, conversion
from multidrift.processes.schedule import Schedule

Floats = NDArray[np.float64]
Conditioning: TypeAlias = Mapping[str, object]


_FIRST_VALUES = 16  # of each parameter go into the fingerprint: enough to tell networks apart, quick to read


class HasSample(Protocol):
    """What diffusers' networks return."""

    sample: Tensor


# A function or a torch module, called as net(x, t, **conditioning); which conditioning is the network's own matter.
Network: TypeAlias = Callable[..., Tensor | HasSample]  # type: ignore[explicit-any]  # any conditioning


class Denoiser:
    """A network with its schedule and what it predicts.

    - `net`: called as net(x, t, **conditioning) with x [n, …] and t [n] float in the schedule's units; returns a tensor
      shaped like x, or an object that holds one as `.sample`
    - `predicts`: "epsilon", "sample" (x_0), "v_prediction", "flow" (ε − x_0) or "score"
    - `clip`: the largest absolute value of the predicted data, or None
    - `shape`: one sample's shape; by default read from a diffusers network's config

    The network computes in the dtype of its parameters, conversions in the state's. Raises MultidriftError on unknown
    predictions, and at every call on an output of another shape or dtype.
    """

    def __init__(
        self,
        net: Network,
        schedule: Schedule,
        predicts: Prediction = "epsilon",
        clip: float | None = None,
        name: str = "model",
        shape: tuple[int, ...] | None = None,
    ) -> None:
        require(callable(net), "net", net, "a callable net(x, t, **conditioning)")
        require(isinstance(schedule, Schedule), "schedule", schedule, "a schedule of md.schedules")
        require(predicts in PREDICTIONS, "predicts", predicts, ", ".join(PREDICTIONS))
        require(clip is None or clip > 0, "clip", clip, "None or a positive number")
        self.net, self.schedule, self.predicts, self.clip, self.name = net, schedule, predicts, clip, name
        self.shape = shape if shape is not None else _shape_from_config(net)

    def __repr__(self) -> str:
        return f"Denoiser({self.name!r}, {self.schedule.kind}, predicts={self.predicts!r}, shape={self.shape})"

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
        """A quick hash of what this is: settings, schedule, and name, shape and first values of every parameter.

        Of a plain function, which has no parameters, its name stands for them.
        """
        parameters = {name: value for module in self.modules for name, value in module.named_parameters()}
        shapes = {name: list(value.shape) for name, value in parameters.items()}
        settings = [self.predicts, self.clip, self.schedule.to_dict(), shapes or self.name]
        digest = hashlib.sha256(json.dumps(settings).encode())
        if parameters:
            firsts = torch.cat([value.detach().flatten()[:_FIRST_VALUES].float() for value in parameters.values()])
            digest.update(firsts.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def renamed(self, name: str) -> Denoiser:
        """The same network under another name."""
        if name == self.name:
            return self
        return Denoiser(self.net, self.schedule, self.predicts, self.clip, name, self.shape)

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, conditioning: Conditioning) -> Tensor:
        """The prediction at states x [n, …] and time t (or times [n]), converted to `target`, in x's dtype."""
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))  # one time for all rows, or one a row
        raw = self._raw(x, times, conditioning)
        alpha, sigma = self.schedule.alpha(times), self.schedule.sigma(times)
        if self.clip is None:
            return _convert(x, raw, conversion(self.predicts, target, alpha, sigma))
        data = _convert(x, raw, conversion(self.predicts, "sample", alpha, sigma)).clamp(-self.clip, self.clip)
        return _convert(x, data, conversion("sample", target, alpha, sigma))

    def _raw(self, x: Tensor, t: Floats, conditioning: Conditioning) -> Tensor:
        dtype = self.dtype or x.dtype
        times = _on_device(t, x).to(dtype if dtype in (torch.float32, torch.float64) else torch.float32).expand(len(x))
        output = self.net(x.to(dtype), times, **conditioning)
        tensor = output if isinstance(output, Tensor) else getattr(output, "sample", None)
        if not isinstance(tensor, Tensor):
            raise MultidriftError(f"{self.name}: returned {type(output).__name__}; it takes a tensor or `.sample`")
        require(tensor.shape == x.shape, f"{self.name}'s output shape", tuple(tensor.shape), f"{tuple(x.shape)}")
        require(tensor.is_floating_point(), f"{self.name}'s output dtype", tensor.dtype, "a floating-point dtype")
        require(tensor.device == x.device, f"{self.name}'s output device", str(tensor.device), str(x.device))
        return tensor.to(x.dtype)


def _on_device(values: Floats, like: Tensor) -> Tensor:
    """Host numbers as a tensor beside `like`; a single value is filled in without a transfer."""
    if len(values) == 1:
        return torch.full((1,), float(values[0]), dtype=torch.float64, device=like.device)
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)


def _convert(x: Tensor, prediction: Tensor, factors: tuple[Floats, Floats]) -> Tensor:
    """a·x + b·prediction with one pair (a, b) for all rows, or one a row."""
    of_x, of_prediction = factors
    if not of_x.any() and np.all(of_prediction == 1):
        return prediction
    if len(of_x) == 1:
        return prediction * float(of_prediction[0]) + x * float(of_x[0])
    rows = (-1,) + (1,) * (x.ndim - 1)
    a, b = (_on_device(values, x).to(x.dtype).view(rows) for values in factors)
    return prediction * b + x * a


def _shape_from_config(net: Network) -> tuple[int, ...] | None:
    """(channels, height, width) where the network says so as diffusers' networks do."""
    config = getattr(net, "config", None)
    size, channels = getattr(config, "sample_size", None), getattr(config, "in_channels", None)
    if size is None or channels is None:
        return None
    height, width = (size, size) if isinstance(size, int) else tuple(cast("tuple[int, int]", size))
    return (int(channels), int(height), int(width))
