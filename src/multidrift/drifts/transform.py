"""A function of the user's on the predicted data: inpainting, control, posterior sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.foreign import users_code
from multidrift.basics.numbers import Floats, moved
from multidrift.drifts.affine import affine
from multidrift.drifts.conditioning import check_conditioning, cut_conditioning
from multidrift.drifts.drift import Bound, Conditioning
from multidrift.drifts.layer import Layer, Predictor
from multidrift.processes.predictions import Prediction, conversion

Function: TypeAlias = Callable[..., Tensor]  # type: ignore[explicit-any]  # whatever it is given by name


@dataclass(frozen=True)
class Transform(Layer):
    """The data that a denoiser predicts becomes function(data, x, t, **given).

    - `given`: tensors with a row a sample, cut with the batch as conditioning is
    - `differentiable`: the data is a differentiable function of x when the function sees it
    """

    function: Function
    given: Mapping[str, object]
    differentiable: bool = False

    def __post_init__(self) -> None:
        require(callable(self.function), "transform", self.function, "a function of (prediction, x, t)")

    @property
    def settings(self) -> list[object]:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return ["transformed", name]

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        return (self.function,) if isinstance(self.function, torch.nn.Module) else ()

    def bind(self, network: Predictor, below: Bound, conditioning: Conditioning, count: int) -> Bound:
        del conditioning
        given = check_conditioning(self.given, count, f"level {network.name}: transform")
        return _Transformed(below.drift, given, count, network, below, self)


@dataclass(frozen=True, eq=False)
class _Transformed(Bound):
    """A transform in one run: `conditioning` is what its function is given by name."""

    network: Predictor
    inner: Bound
    transform: Transform

    def work(self, t: float | Floats, rows: int) -> list[tuple[str, int]]:
        return self.inner.work(t, rows)

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))
        data = self._transformed(x, times, rows)
        alpha, sigma = self.network.schedule.alpha(times), self.network.schedule.sigma(times)
        return affine(x, data, conversion("sample", target, alpha, sigma))

    def _transformed(self, x: Tensor, times: Floats, rows: Tensor) -> Tensor:
        given = cut_conditioning(self.conditioning, self.count, rows)
        t = moved(times, x).expand(len(x))
        through = self.transform.differentiable
        with torch.set_grad_enabled(through or torch.is_grad_enabled()):
            at = x.detach().clone().requires_grad_() if through else x.clone()  # the function may change its own
            said = self.inner.predict(at, times, "sample", rows)
            with users_code(f"level {self.network.name}: transform"):
                data = self.transform.function(said, at, t, **given)
        good = isinstance(data, Tensor) and data.shape == x.shape
        described = tuple(data.shape) if isinstance(data, Tensor) else type(data).__name__
        require(
            good, f"level {self.network.name}: transform", described, f"to return a tensor of shape {tuple(x.shape)}"
        )
        return (data.detach() if through else data).to(x.dtype)
