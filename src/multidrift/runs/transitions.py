"""A step as the Gaussian it is: what whitens its noise, and the density of what it made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.numbers import Floats, aligned
from multidrift.processes.intervals import Intervals
from multidrift.processes.process import Process


@dataclass(frozen=True)
class Transition:
    """One step of all samples: states `before` and `after` step n, [count, …], and its ΔW about the mean."""

    n: int
    before: Tensor
    after: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Transitions:
    """The steps of a run, each a draw from a Gaussian that the state before it, the plan and earlier steps decide.

    - `times` [N + 1]; `states` [N + 1, count, …] (with velocities [N + 1, count, …, 2]); `means` [N, count, …] of the
      states after each step
    - `stds` [N], or [N, *one sample's shape] with a preconditioner; with velocities 2 on the last axis, of position
      and velocity, which are correlated: `log_prob` takes that into account
    - `log_prob` [N, count], float64: the log-density of each step; the last evaluation of a diffusion is no step
    """

    times: tuple[float, ...]
    states: Tensor
    means: Tensor
    stds: Tensor
    log_prob: Tensor

    @staticmethod
    def of(process: Process, times: Floats, steps: Sequence[Transition]) -> Transitions:
        """Those of the first steps of a grid."""
        intervals = process.intervals(times[:-1], times[1:])
        law, states = StepNoise(process, intervals), [step.after for step in steps]
        each = list(zip(steps, intervals.each(states[0]), strict=False))
        stds = torch.from_numpy(law.stds[: len(steps)]).to(states[0])
        numbers = [np.full(len(step.noise), step.n, dtype=np.intp) for step in steps]
        return Transitions(
            times=tuple(times[: len(steps) + 1].tolist()),
            states=torch.stack([steps[0].before, *states]),
            means=torch.stack([step.after - interval.leave(step.noise) for step, interval in each]),
            stds=stds,
            log_prob=torch.stack([law.log_density(s.noise, n) for s, n in zip(steps, numbers, strict=True)]),
        )


@dataclass(frozen=True)
class StepNoise:
    """The law of ΔW of every step of a grid, in the coordinate anchored at the step's end: N(0, C Cᵀ), times M.

    `process` mixes k standard normals of a coordinate by its `reach`, `steps.std` scales them, so that
    C = diag(std)·reach; M is the preconditioner. Everything is float64.
    """

    process: Process
    steps: Intervals

    @cached_property
    def factors(self) -> Floats:
        """C of each step, [N, k, k], lower triangular."""
        low, high, k = self.steps.low, self.steps.high, self.process.components
        reach = np.broadcast_to(self.process.reach(low, high, low, high), (len(low), k, k))
        return np.asarray(self.steps.std.reshape(len(low), -1, 1) * reach)

    @cached_property
    def _inverses(self) -> Floats:
        """C⁻¹ of each step; 0 where the step has no noise."""
        noisy = self.noisy
        inverses = np.zeros_like(self.factors)
        inverses[noisy] = np.linalg.inv(self.factors[noisy])
        return inverses

    @cached_property
    def noisy(self) -> NDArray[np.bool_]:
        """Which steps have noise, [N]."""
        return np.asarray(self.factors[:, 0, 0] > 0)

    def whitened(self, values: Tensor, steps: NDArray[np.intp]) -> Tensor:
        """ΔW [m, …] of these steps, or a shift of them, as standard normals [m, coordinates·k]."""
        values = values.double()
        if self.process.preconditioning is not None:
            root = torch.from_numpy(np.sqrt(self.process.preconditioning)).to(values.device)
            values = values / (root if self.process.components == 1 else root[..., None])
        inverses = torch.from_numpy(self._inverses[steps]).to(values.device)
        if self.process.components == 1:
            return (values * aligned(inverses[:, 0, 0], values)).flatten(1)
        return torch.einsum("mij,m...j->m...i", inverses, values).flatten(1)

    def coloured(self, normals: Tensor, steps: NDArray[np.intp]) -> Tensor:
        """ΔW [m, …] of these steps from standard normals [m, …, k]: what `whitened` undoes."""
        factors = torch.from_numpy(self.factors[steps]).to(normals)
        noise = torch.einsum("mij,m...j->m...i", factors, normals)
        if self.process.preconditioning is not None:
            noise = noise * torch.from_numpy(np.sqrt(self.process.preconditioning)).to(normals)[..., None]
        return noise if self.process.components > 1 else noise[..., 0]

    def log_density(self, noise: Tensor, steps: NDArray[np.intp]) -> Tensor:
        """The log-density [m] at which these steps made their states, from their ΔW [m, …]; +∞ without noise."""
        normals = self.whitened(noise, steps)
        coordinates = normals.shape[1] // self.process.components
        with np.errstate(divide="ignore"):
            volumes = coordinates * np.log(np.abs(np.diagonal(self.factors[steps], axis1=1, axis2=2))).sum(1)
        if self.process.preconditioning is not None:
            whole = np.broadcast_to(self.process.preconditioning, tuple(noise.shape[1 : 1 + self._own_axes(noise)]))
            volumes = volumes + 0.5 * self.process.components * float(np.log(whole).sum())
        constant = torch.from_numpy(volumes + 0.5 * normals.shape[1] * math.log(2.0 * math.pi)).to(normals.device)
        return -0.5 * normals.square().sum(1) - constant

    def _own_axes(self, noise: Tensor) -> int:
        """How many axes a sample's positions have."""
        return noise.ndim - 1 - (self.process.components > 1)

    @property
    def stds(self) -> Floats:
        """The standard deviation of each state after a step: see `Transitions`."""
        spread = self.factors
        if self.process.components > 1:  # z is anchored at the end of the step: leaving it mixes the two
            unit = torch.eye(self.process.components, dtype=torch.float64)
            ways = [interval.leave(unit).numpy().T for interval in self.steps.each(unit)]
            spread = np.stack(ways) @ spread
        own = np.sqrt(np.square(spread).sum(2))
        weight = self.process.preconditioning
        own = own if weight is None else own.reshape(len(own), *(1,) * weight.ndim, -1) * np.sqrt(weight)[..., None]
        return np.asarray(own if self.process.components > 1 else own[..., 0])

    def per_unit(self, steps: NDArray[np.intp] | None = None) -> Floats:
        """‖C⁻¹Δτ‖² of each step, [N]: how far a D that differs by 1 in one coordinate shifts the step, squared."""
        chosen = slice(None) if steps is None else steps
        dtau = self.steps.dtau[chosen].reshape(-1, self.process.components)
        shift = np.einsum("nij,nj->ni", self._inverses[chosen], dtau)
        return np.asarray(np.square(shift).sum(1))
