"""One network, what it predicts, and on which schedule: the adapter between networks and processes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Self, cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Dimensions, Numbers, Positive, Takes
from multidrift.drifts.affine import affine, on_device
from multidrift.drifts.diffusers.read import Clip, Reading, read
from multidrift.drifts.diffusers.source import source_of
from multidrift.drifts.drift import Bound, Conditioning, Drift, Network
from multidrift.drifts.guidance import Branches, Guidance
from multidrift.drifts.guider import Guider, GuiderLayer
from multidrift.drifts.layer import Layer
from multidrift.drifts.transform import Function, Transform
from multidrift.processes.predictions import Prediction, conversion
from multidrift.schedules.schedule import Schedule

_KNOWN = 4096  # factors of conversions that are kept at the most
_TINY = np.finfo(np.float64).tiny

_SCHEDULE = Takes("a schedule of md.schedules, such as md.schedules.from_diffusers(scheduler)")


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

    @checked
    def __init__(
        self,
        net: Network,
        schedule: Annotated[Schedule | None, _SCHEDULE] = None,
        predicts: Prediction = "epsilon",
        clip: Positive | None = None,
        name: str = "model",
        shape: Dimensions | None = None,
        modules: Sequence[torch.nn.Module] | None = None,
    ) -> None:
        _refuse_pipeline(net)
        require(schedule is not None, "schedule", schedule, _SCHEDULE.text)
        assert schedule is not None
        self.net, self.predicts, self.clip, self.name = net, predicts, clip, name
        self._schedule = schedule
        self._known: dict[tuple[Prediction, Prediction, float], tuple[Floats, Floats]] = {}  # factors on this schedule
        self.layers: tuple[Layer, ...] = ()
        self.shape = tuple(shape) if shape is not None else _shape_from_config(net)
        if modules is not None:
            self._modules = tuple(modules)

    @staticmethod
    @checked
    def from_diffusers(
        model: object,
        scheduler: object | None = None,
        *,
        predicts: Prediction | None = None,
        clip: Clip = "scheduler",
        shape: Dimensions | None = None,
        shift: Positive | None = None,
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
        return denoiser_of(
            read(source_of(model, scheduler, dtype), predicts, clip, None if shape is None else tuple(shape), shift),
            name,
        )

    def __repr__(self) -> str:
        layers = "".join(f", {type(layer).__name__.lower()}" for layer in self.layers)
        return f"Denoiser({self.name!r}, {self.schedule.kind}, predicts={self.predicts!r}, shape={self.shape}{layers})"

    @property
    def schedule(self) -> Schedule:
        """The noise schedule the network was trained on."""
        return self._schedule

    @property
    def trained_on(self) -> Schedule:
        """The schedule of the network itself, where this denoiser is one on another (`on`)."""
        return self.schedule

    @property
    def settings(self) -> list[object]:
        own = [self.predicts, self.clip, self.schedule.to_dict()]
        return [*own, *(setting for layer in self.layers for setting in layer.settings)]

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        return (*super().modules, *(module for layer in self.layers for module in layer.modules))

    @checked
    def renamed(self, name: str) -> Denoiser:
        """The same network under another name."""
        if name == self.name:
            return self
        other = copy.copy(self)
        other.name = name
        return other

    @checked
    def on(self, schedule: Annotated[Schedule, _SCHEDULE]) -> Denoiser:
        """The same network for runs on another schedule, asked at its own time of equal log-SNR.

        States are scaled to what it was trained on, so that networks of different schedules, of a flow and of a DDPM
        chain too, make one ladder. Beyond the noise levels it knows it is asked at the nearest of them.
        """
        if schedule == self.schedule:
            return self
        require(not self.layers, "on", self, "a denoiser without guidance or transforms, which come after it")
        if not schedule.has_noise_of(self.schedule):
            return _Matched(self, schedule)
        other = copy.copy(self)
        other._schedule, other._known = schedule, {}  # noqa: SLF001 (its own copy)
        return other

    @checked
    def guided(
        self,
        scale: Annotated[float | Guider, Takes("a number (1 is no guidance), or a guider")],
        conditional: Mapping[str, object] | None = None,
        unconditional: Mapping[str, object] | None = None,
        *,
        rescale: float = 0.0,
        interval: Numbers | None = None,
        weak: Denoiser | None = None,
    ) -> Denoiser:
        """The same network with its conditioning and guidance: w + scale·(c − w), c its conditional prediction.

        - `scale`: 1 is no guidance; or a guider of diffusers, whose `start` and `stop` then are shares of the
          schedule's time. A fresh one is made for every level and run
        - `conditional`, `unconditional` (a negative prompt, or nothing at all): what the network is given by name for c
          and for w, beside the `conditioning` of a run. Tensors have one row, which serves all samples, or a row a
          sample; where the two differ in nothing but their values, one call of twice the rows gives both
        - `rescale`: how far the standard deviation of a sample is taken back to that of c, 0 to 1 (Lin et al. 2024)
        - `interval`: (low, high), the noise levels σ/α between which there is guidance (Kynkäänniemi et al. 2024)
        - `weak`: another denoiser on this schedule, such as a smaller level, in the place of the unconditional
          prediction (autoguidance, Karras et al. 2024)

        Predictions are combined in the state's precision, as the network gives them and before `clip`. Every row that a
        network is passed is counted. Raises MultidriftError on settings out of range, on a denoiser that has guidance,
        and before a run on tensors with another number of rows than it has samples.
        """
        require(not self.layers, "guided", self, "a denoiser without guidance or transforms, which come after it")
        branches = Branches(conditional, unconditional)
        if isinstance(scale, Guider):
            plain = rescale == 0 and interval is None and weak is None
            require(plain, "scale", type(scale).__name__, "a number with rescale=, interval= or weak=")
            return self._with(GuiderLayer(scale, branches))
        if weak is not None:
            fits = not weak.layers and weak.schedule == self.schedule
            require(fits, "weak", weak, "a Denoiser on the same schedule, without guidance")
        return self._with(Guidance(scale, branches, rescale, interval, weak))

    @checked
    def transformed(self, function: Function, *, differentiable: bool = False, **given: object) -> Denoiser:
        """The same with `function(prediction, x, t, **given)` in the place of the data that it predicts.

        - `prediction` [n, …]: the data, guided and clipped; `x` [n, …] the states; `t` [n] their times, in the
          schedule's units. It returns a tensor of the same shape: with what is known put in (inpainting), or moved
          along a gradient (control, posterior sampling)
        - `given`: tensors with a row a sample (a mask, a measurement) are cut with the batch, as `conditioning` is
        - `differentiable`: x requires its gradient, and `prediction` has come from it, through the network

        Transforms are applied in the order in which they were added, after guidance.
        """
        return self._with(Transform(function, given, differentiable))

    def _with(self, layer: Layer) -> Denoiser:
        other = copy.copy(self)
        other.layers = (*self.layers, layer)
        return other

    def bind(self, conditioning: Conditioning, count: int) -> Bound:
        bare = self.for_a_run()
        bare.layers = ()
        bound = Bound(bare, conditioning, count)
        for layer in self.layers:
            bound = layer.bind(bare, bound, conditioning, count)
        return bound

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, conditioning: Conditioning) -> Tensor:
        """The prediction at states x [n, …] and time t (or times [n]), converted to `target`, in x's dtype."""
        if self.layers:
            return self.bind(conditioning, len(x)).predict(x, t, target, torch.arange(len(x), device=x.device))
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))  # one time for all rows, or one a row
        return self.converted(x, self.raw(x, times, conditioning), times, target)

    def converted(self, x: Tensor, raw: Tensor, times: Floats, target: Prediction, *, clipped: bool = True) -> Tensor:
        """What the network said at states x and these times (one, or one a row), as `target`, `clip` applied."""
        if self.clip is None or not clipped:
            return affine(x, raw, self._factors(self.predicts, target, times))
        data = affine(x, raw, self._factors(self.predicts, "sample", times)).clamp(-self.clip, self.clip)
        return affine(x, data, self._factors("sample", target, times))

    def _factors(self, source: Prediction, target: Prediction, times: Floats) -> tuple[Floats, Floats]:
        """What x and the prediction are multiplied with; at a single time of a grid it is worked out once."""
        key = (source, target, float(times[0]))
        found = self._known.get(key) if len(times) == 1 else None
        if found is None:
            found = conversion(source, target, self.schedule.alpha(times), self.schedule.sigma(times))
            if len(times) == 1 and len(self._known) < _KNOWN:
                self._known[key] = found
        return found

    def raw(self, x: Tensor, t: Floats, conditioning: Conditioning) -> Tensor:
        """What the network itself says, unclipped and in x's dtype, at times [1] or [n]."""
        dtype = self.takes(x)
        exact = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        return self.call(x, on_device(t, x.device, exact).expand(x.shape[0]), **conditioning)


def denoiser_of(found: Reading, name: str | None = None) -> Denoiser:
    """The Denoiser of what was read of a pipeline."""
    named = found.name if name is None else name
    return Denoiser(found.net, found.schedule, found.predicts, found.clip, named, found.shape, found.modules)


class _Matched(Denoiser):
    """A denoiser on another schedule than its network's, whose data it predicts; see `Denoiser.on`."""

    def __init__(self, inner: Denoiser, schedule: Schedule) -> None:
        super().__init__(inner.net, schedule, "sample", inner.clip, inner.name, inner.shape, inner.modules)
        self.inner, self.rows = inner, inner.rows

    @property
    def trained_on(self) -> Schedule:
        return self.inner.schedule

    @property
    def settings(self) -> list[object]:
        return [*super().settings, self.inner.settings]

    def optimized(self, *, compiled: bool | str = False, channels_last: bool = False, rows: int | None = None) -> Self:
        other = super().optimized(rows=rows)
        other.inner = self.inner.optimized(compiled=compiled, channels_last=channels_last)
        return other

    def for_a_run(self) -> Self:
        other = super().for_a_run()
        other.inner = self.inner.for_a_run()
        return other

    def on(self, schedule: Schedule) -> Denoiser:
        require(not self.layers, "on", self, "a denoiser without guidance or transforms, which come after it")
        return self.inner.on(schedule).renamed(self.name)

    def raw(self, x: Tensor, t: Floats, conditioning: Conditioning) -> Tensor:
        own, alpha, sigma = self.inner.schedule, self.schedule.alpha(t), self.schedule.sigma(t)
        matched = np.clip(own.time(self.schedule.log_snr(t)), own.t_min, own.t_max)
        # Where the noise levels meet both ratios are the same; beyond them the larger part of the state decides.
        scale = np.where(sigma >= alpha, own.sigma(matched) / sigma, own.alpha(matched) / np.maximum(alpha, _TINY))
        state = affine(x, x, (np.zeros_like(scale), scale))
        said = self.inner.raw(state, matched, conditioning)
        return self.inner.converted(state, said, matched, "sample", clipped=False)


def _refuse_pipeline(net: object) -> None:
    """Say what to call where a pipeline of diffusers was given in the place of a network."""
    if hasattr(net, "scheduler") and (hasattr(net, "unet") or hasattr(net, "transformer")):
        raise MultidriftError(
            f"net: got {type(net).__name__}, a pipeline; it takes a network. "
            "md.Denoiser.from_diffusers(pipeline) makes a Denoiser of a pipeline"
        )


def _shape_from_config(net: Network) -> tuple[int, ...] | None:
    """(channels, height, width) where the network says so as diffusers' networks do."""
    config = getattr(net, "config", None)
    size, channels = getattr(config, "sample_size", None), getattr(config, "in_channels", None)
    if size is None or channels is None:
        return None
    height, width = (size, size) if isinstance(size, int) else tuple(cast("tuple[int, int]", size))
    return (int(channels), int(height), int(width))
