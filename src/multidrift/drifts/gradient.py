"""Drifts of Langevin dynamics: the gradient of a log-density, given or by automatic differentiation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Dimensions
from multidrift.drifts.drift import Conditioning, Drift, Network
from multidrift.processes.predictions import Prediction

LogDensity: TypeAlias = Callable[..., Tensor]  # type: ignore[explicit-any]  # any conditioning


class LangevinDrift(Drift):
    """The gradient of a log-density, as `md.Overdamped` and `md.Underdamped` take it.

    - `net`: called as net(x, **conditioning) with positions x [n, …]; returns the gradient, shaped like x. It
      computes in the dtype of its parameters, if it has any
    - `shape`: one sample's shape, where it is known

    A plain function given to `md.sample` becomes one of these. Raises MultidriftError, at every call, on an output of
    another shape or dtype.
    """

    schedule = None

    @checked
    def __init__(self, net: Network, name: str = "drift", shape: Dimensions | None = None) -> None:
        self.net, self.name, self.shape = net, name, None if shape is None else tuple(shape)

    def __repr__(self) -> str:
        return f"LangevinDrift({self.name!r}, shape={self.shape})"

    @property
    def settings(self) -> list[object]:
        return ["Langevin"]

    @checked
    def renamed(self, name: str) -> LangevinDrift:
        other = copy.copy(self)
        other.name = name
        return other

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, conditioning: Conditioning) -> Tensor:
        """The gradient at positions x [n, …]; time and target have no say in it."""
        del t, target
        return self.call(x, **conditioning)


@dataclass(frozen=True)
class _Gradient:
    """∇ log density by automatic differentiation."""

    log_density: LogDensity

    def __call__(self, x: Tensor, **conditioning: object) -> Tensor:
        keep_graph = torch.is_grad_enabled()  # the caller differentiates through the run
        with torch.enable_grad():
            # Differentiated by a shift of x, which is no leaf then (in place on one torch refuses) and keeps what it
            # carries: a graph, or a forward-mode tangent.
            shift = torch.zeros_like(x, requires_grad=True)
            value = self.log_density(x + shift, **conditioning)
            described = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            scalar = isinstance(value, Tensor) and value.shape == (len(x),)
            require(scalar, "log_density", described, f"one scalar a chain, shape ({len(x)},)")
            if not value.requires_grad:
                raise MultidriftError("log_density: got a value without a gradient; it takes torch operations on x")
            (gradient,) = torch.autograd.grad(value.sum(), shift, create_graph=keep_graph, allow_unused=True)
        require(gradient is not None, "log_density", "a value that does not depend on x", "torch operations on x")
        return gradient


@checked
def potential(log_density: LogDensity, name: str = "potential", shape: Dimensions | None = None) -> LangevinDrift:
    """The drift of a log-density, by automatic differentiation.

    `log_density(x, **conditioning)` takes positions [n, …] and returns one number a chain, [n], each from its own row
    of x. Raises MultidriftError where it is no scalar a chain, or not differentiable in x.
    """
    return LangevinDrift(_Gradient(log_density), name, shape)
