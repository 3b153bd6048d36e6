"""One network, what it predicts, and on which schedule: the adapter between networks and processes."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.numbers import Floats, aligned
from multidrift.basics.types import Dimensions, Positive
from multidrift.drifts.drift import Conditioning, Drift, Network
from multidrift.processes.predictions import Prediction, conversion
from multidrift.schedules.schedule import Schedule


class Denoiser(Drift):
    """A network with its schedule and what it predicts.

    - `net`: called as net(x, t, **conditioning) with x [n, …] and t [n] float in the schedule's units; returns a tensor
      shaped like x, or an object that holds one as `.sample`
    - `predicts`: "epsilon", "sample" (x_0), "v_prediction", "flow" (ε − x_0) or "score"
    - `clip`: the largest absolute value of the predicted data, or None
    - `shape`: one sample's shape; by default read from a diffusers network's config

    The network computes in the dtype of its parameters, conversions in the state's. Raises MultidriftError on unknown
    predictions, and at every call on an output of another shape or dtype.
    """

    @checked
    def __init__(
        self,
        net: Network,
        schedule: Schedule,
        predicts: Prediction = "epsilon",
        clip: Positive | None = None,
        name: str = "model",
        shape: Dimensions | None = None,
    ) -> None:
        self.net, self.predicts, self.clip, self.name = net, predicts, clip, name
        self._schedule = schedule
        self.shape = tuple(shape) if shape is not None else _shape_from_config(net)

    def __repr__(self) -> str:
        return f"Denoiser({self.name!r}, {self.schedule.kind}, predicts={self.predicts!r}, shape={self.shape})"

    @property
    def schedule(self) -> Schedule:
        """The noise schedule the network was trained on."""
        return self._schedule

    @property
    def settings(self) -> list[object]:
        return [self.predicts, self.clip, self.schedule.to_dict()]

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
        return self.call(x, times, **conditioning)


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
    a, b = (aligned(_on_device(values, x).to(x.dtype), x) for values in factors)
    return prediction * b + x * a


def _shape_from_config(net: Network) -> tuple[int, ...] | None:
    """(channels, height, width) where the network says so as diffusers' networks do."""
    config = getattr(net, "config", None)
    size, channels = getattr(config, "sample_size", None), getattr(config, "in_channels", None)
    if size is None or channels is None:
        return None
    height, width = (size, size) if isinstance(size, int) else tuple(cast("tuple[int, int]", size))
    return (int(channels), int(height), int(width))
