"""One network, what it predicts, and on which schedule: the adapter between networks and processes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, aligned
from multidrift.drifts.diffusers.read import Clip, Reading, read
from multidrift.drifts.diffusers.source import source_of
from multidrift.drifts.drift import Conditioning, Drift, Network
from multidrift.processes.predictions import PREDICTIONS, Prediction, conversion
from multidrift.schedules.diffusers import is_scheduler
from multidrift.schedules.schedule import Schedule

_TINY = np.finfo(np.float64).tiny


class Denoiser(Drift):
    """A network with its schedule and what it predicts.

    - `net`: called as net(x, t, **conditioning) with x [n, …] and t [n] float in the schedule's units; returns a tensor
      shaped like x, or an object that holds one as `.sample`
    - `predicts`: "epsilon", "sample" (x_0), "v_prediction", "flow" (ε − x_0) or "score"
    - `clip`: the largest absolute value of the predicted data, or None
    - `shape`: one sample's shape; by default read from a diffusers network's config
    - `modules`: the torch modules behind `net`, which run in eval mode and whose dtype and device it takes; by default
      those found in it, or in the variables that a function uses

    The network computes in the dtype of its parameters, conversions in the state's. Raises MultidriftError on unknown
    predictions, and at every call on an output of another shape or dtype.
    """

    def __init__(
        self,
        net: Network,
        schedule: Schedule | None = None,
        predicts: Prediction = "epsilon",
        clip: float | None = None,
        name: str = "model",
        shape: tuple[int, ...] | None = None,
        modules: Sequence[torch.nn.Module] | None = None,
    ) -> None:
        _refuse_parts_of_pipelines(net, schedule)
        require(callable(net), "net", net, "a callable net(x, t, **conditioning)")
        require(isinstance(schedule, Schedule), "schedule", schedule, "a schedule of md.schedules")
        assert schedule is not None
        require(predicts in PREDICTIONS, "predicts", predicts, ", ".join(PREDICTIONS))
        require(clip is None or clip > 0, "clip", clip, "None or a positive number")
        self.net, self.predicts, self.clip, self.name = net, predicts, clip, name
        self._schedule = schedule
        self.shape = shape if shape is not None else _shape_from_config(net)
        if modules is not None:
            real = all(isinstance(module, torch.nn.Module) for module in modules)
            require(real, "modules", modules, "a list of the torch modules that net calls")
            self._modules = tuple(modules)

    @staticmethod
    def from_diffusers(
        model: object,
        scheduler: object | None = None,
        *,
        predicts: Prediction | None = None,
        clip: Clip = "scheduler",
        shape: tuple[int, ...] | None = None,
        shift: float | None = None,
        name: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Denoiser:
        """The network of a diffusers pipeline on the schedule of its scheduler.

        - `model`: a pipeline, a network (with `scheduler`), or the folder of either; of a pipeline's folder the network
          and the scheduler alone are read, in `dtype`
        - `scheduler`: a diffusers scheduler, in the place of the pipeline's own
        - `predicts`, `clip`: by default as the scheduler's config has them
        - `shape`: of one sample's latents, by default the network's own; those of Flux are unpacked,
          (channels, height, width)
        - `shift`: of a flow, by default the scheduler's: fixed, or by resolution for `shape`

        The network takes its conditioning by the names of its forward (`encoder_hidden_states`, …); a prompt of one row
        serves all samples. Raises MultidriftError on networks and schedulers of no known kind, naming them.
        """
        return denoiser_of(read(source_of(model, scheduler, dtype), predicts, clip, shape, shift), name)

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
        return self if name == self.name else self._changed(name=name)

    def on(self, schedule: Schedule) -> Denoiser:
        """The same network for runs on another schedule, asked at its own time of equal log-SNR.

        States are scaled to what it was trained on, so that networks of different schedules, of a flow and of a DDPM
        chain too, make one ladder. Beyond the noise levels it knows it is asked at the nearest of them.
        """
        require(isinstance(schedule, Schedule), "schedule", schedule, "a schedule of md.schedules")
        if schedule == self.schedule:
            return self
        if schedule.has_noise_of(self.schedule):
            return self._changed(schedule=schedule)
        return _Matched(self, schedule)

    def _changed(self, name: str | None = None, schedule: Schedule | None = None) -> Denoiser:
        other = copy.copy(self)
        other.name = self.name if name is None else name
        other._schedule = self.schedule if schedule is None else schedule  # noqa: SLF001 (its own copy)
        return other

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
        # A copy: a network may work in place on what it is given, while x belongs to the run and to the caller.
        dtype = self.dtype or x.dtype
        times = _on_device(t, x).to(dtype if dtype in (torch.float32, torch.float64) else torch.float32).expand(len(x))
        return self.checked(self.net(x.to(dtype, copy=True), times, **conditioning), x)


def denoiser_of(found: Reading, name: str | None = None) -> Denoiser:
    """The Denoiser of what was read of a pipeline."""
    named = found.name if name is None else name
    return Denoiser(found.net, found.schedule, found.predicts, found.clip, named, found.shape, found.modules)


class _Matched(Denoiser):
    """A denoiser on another schedule than its own; see `Denoiser.on`."""

    def __init__(self, inner: Denoiser, schedule: Schedule) -> None:
        super().__init__(inner.net, schedule, "sample", None, inner.name, inner.shape, inner.modules)
        self.inner = inner

    @property
    def settings(self) -> list[object]:
        return [*super().settings, self.inner.settings]

    def on(self, schedule: Schedule) -> Denoiser:
        return self.inner.on(schedule)

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, conditioning: Conditioning) -> Tensor:
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))
        own, alpha, sigma = self.inner.schedule, self.schedule.alpha(times), self.schedule.sigma(times)
        matched = np.clip(own.time(self.schedule.log_snr(times)), own.t_min, own.t_max)
        # Where the noise levels meet both ratios are one; beyond them the larger part of the state decides.
        scale = np.where(sigma >= alpha, own.sigma(matched) / sigma, own.alpha(matched) / np.maximum(alpha, _TINY))
        data = self.inner.predict(_scaled(x, scale), matched, "sample", conditioning)
        return _convert(x, data, conversion("sample", target, alpha, sigma))


def _scaled(x: Tensor, factors: Floats) -> Tensor:
    """States times one factor, or one a row."""
    return _convert(x, x, (np.zeros_like(factors), factors))


def _refuse_parts_of_pipelines(net: object, schedule: object) -> None:
    """Say what to call where a pipeline or a scheduler of diffusers was given in the place of a network or schedule."""
    if hasattr(net, "scheduler") and (hasattr(net, "unet") or hasattr(net, "transformer")):
        raise MultidriftError(
            f"net: got {type(net).__name__}, a pipeline; it takes a network. "
            "md.Denoiser.from_diffusers(pipeline) makes a Denoiser of a pipeline"
        )
    if is_scheduler(schedule):
        raise MultidriftError(
            f"schedule: got {type(schedule).__name__}; it takes a schedule of md.schedules: "
            "md.schedules.from_diffusers(scheduler), or md.Denoiser.from_diffusers(net, scheduler)"
        )


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
