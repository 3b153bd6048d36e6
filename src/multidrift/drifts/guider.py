"""diffusers' guiders as guidance of a level: a fresh one for every level and every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, moved
from multidrift.drifts.conditioning import cut_conditioning
from multidrift.drifts.drift import Bound, Conditioning
from multidrift.drifts.guidance import Branches
from multidrift.drifts.layer import Layer, Predictor
from multidrift.processes.predictions import Prediction

_STEPS = 1000  # what a guider is told of: steps of equal length in the schedule's time


class Batch(Protocol):
    """One of the calls that a guider asks for."""

    branch: str
    noise_pred: Tensor


class Guided(Protocol):
    """What a guider returns."""

    pred: Tensor


@runtime_checkable
class Guider(Protocol):
    """The part of diffusers' `BaseGuidance` that a run needs."""

    config: Mapping[str, object]

    def new(self) -> Guider: ...
    def get_state(self) -> Mapping[str, object]: ...
    def set_state(self, step: int, num_inference_steps: int, timestep: Tensor) -> None: ...
    def prepare_inputs(self, data: Mapping[str, tuple[str, str]]) -> Sequence[Batch]: ...
    def prepare_models(self, denoiser: torch.nn.Module | None) -> None: ...
    def cleanup_models(self, denoiser: torch.nn.Module | None) -> None: ...
    def __call__(self, data: Sequence[Batch]) -> Guided: ...

    @property
    def num_conditions(self) -> int: ...


@dataclass(frozen=True)
class GuiderLayer(Layer):
    """Guidance by a guider of diffusers; its `start` and `stop` are shares of the schedule's time from noise to data.

    Raises MultidriftError on a guider that has been in a run already.
    """

    guider: Guider
    branches: Branches

    def __post_init__(self) -> None:
        fresh = self.guider.get_state().get("step") is None
        require(fresh, "guider", f"{type(self.guider).__name__} with the state of another run", "a fresh one: .new()")

    @property
    def settings(self) -> list[object]:
        plain = {name: value for name, value in self.guider.config.items() if not name.startswith("_")}
        return ["guider", type(self.guider).__name__, repr(sorted(plain.items()))]

    def bind(self, network: Predictor, below: Bound, conditioning: Conditioning, count: int) -> Bound:
        given, without = self.branches.of(network.name, conditioning, count)
        return _ByGuider(below.drift, given, count, network, self.guider.new(), without)


@dataclass(frozen=True, eq=False)
class _ByGuider(Bound):
    """A guider in one run, with the conditioning of its two branches."""

    network: Predictor
    guider: Guider
    without: Conditioning

    def work(self, t: float | Floats, rows: int) -> list[tuple[str, int]]:
        calls = []
        for step, chosen in self._steps(np.atleast_1d(np.asarray(t, dtype=np.float64)), rows):
            self._set(step, float(np.max(t)))
            calls += [(self.network.name, len(chosen))] * self.guider.num_conditions
        return calls

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))
        groups = self._steps(times, len(x))
        if len(groups) == 1:
            return self.network.converted(x, self._raw(x, times, rows, groups[0][0]), times, target)
        if getattr(self.guider, "momentum_buffer", None) is not None:
            raise MultidriftError(
                f"guider: {type(self.guider).__name__} has momentum, which follows one step after another; it takes a "
                "method that does, not one that evaluates many times at once"
            )
        raw = torch.empty_like(x)
        for step, chosen in groups:
            at = moved(chosen, x.device)
            raw[at] = self._raw(x[at], times[chosen], rows[at.to(rows.device)], step)
        return self.network.converted(x, raw, times, target)

    def _steps(self, times: Floats, rows: int) -> list[tuple[int, np.ndarray[tuple[int], np.dtype[np.intp]]]]:
        """The step of the guider that rows are in, and which these are."""
        schedule = self.network.schedule
        share = (schedule.t_max - times) / (schedule.t_max - schedule.t_min)
        steps = np.broadcast_to(np.clip(share * _STEPS, 0, _STEPS - 1).astype(np.int64), (rows,))
        return [(int(step), np.flatnonzero(steps == step)) for step in np.unique(steps)]

    def _set(self, step: int, t: float) -> None:
        self.guider.set_state(step=step, num_inference_steps=_STEPS, timestep=torch.tensor(t))

    def _raw(self, x: Tensor, times: Floats, rows: Tensor, step: int) -> Tensor:
        """The guider's own combination of the calls that it asks for at one of its steps."""
        self._set(step, float(times.max()))
        module = self.network.modules[0] if self.network.modules else None
        branches = {"conditional": self.conditioning, "unconditional": self.without}
        batches = self.guider.prepare_inputs({"branch": ("conditional", "unconditional")})
        for batch in batches:
            given = cut_conditioning(branches[batch.branch], self.count, rows)
            self.guider.prepare_models(module)
            try:
                batch.noise_pred = self.network.raw(x, times, given)
            finally:
                self.guider.cleanup_models(module)
        return self.guider(batches).pred
