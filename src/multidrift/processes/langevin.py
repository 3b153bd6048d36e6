"""Langevin dynamics: overdamped, and underdamped with its exact integrator."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property
from typing import ClassVar, Self, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from multidrift.basics.checks import check_fields, checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, finite
from multidrift.basics.types import Numbers, Positive
from multidrift.noise.lattice import Lattice, Places, VarianceClock, bridge
from multidrift.noise.pair import drift_pair, pair_reach, pair_rotation
from multidrift.processes.intervals import Intervals
from multidrift.processes.predictions import Prediction
from multidrift.processes.process import Process
from multidrift.schedules.grids import Grid

Nested: TypeAlias = Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]  # one factor a coordinate
Own = TypeVar("Own", bound="Langevin")
_CELLS = 2.0**-16  # of the horizon, unless `resolution` says otherwise
_DEEPEST = 48  # halvings of the horizon that float64 can still tell from each other
_LONGEST_BLOCK = 30.0  # γ·block: e^30 is as far apart as coordinates of one block may be
_EQUAL = ("blend", "linspace")  # names of grids that mean equal steps here


@dataclass(frozen=True)
class Langevin(Process):
    """What both dynamics share: time runs from 0 to `horizon`, and the model gives D = ∇ log density.

    - `horizon`: length of the run; `beta`: inverse temperature; the law sampled is density^β
    - `preconditioner`: a positive factor for each coordinate of a sample, or None for 1
    - `resolution`: width of the noise's cells, by default 2⁻¹⁶ of the horizon; no step may be shorter
    """

    horizon: Positive
    _: KW_ONLY
    beta: Positive = 1.0
    preconditioner: Numbers | Nested | None = None
    resolution: Positive | None = None

    drift_is: ClassVar[Prediction] = "score"
    noisy: ClassVar[bool] = True
    model_schedule: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_fields(self)
        require(
            self.resolution is None or self.resolution <= self.horizon, "resolution", self.resolution,
            f"None or at most the horizon, {self.horizon:g}",
        )  # fmt: skip
        least = self.horizon * 2.0**-_DEEPEST
        fine = self.resolution is None or self.resolution >= least
        require(fine, "resolution", self.resolution, f"None or at least 2^−{_DEEPEST} of the horizon, {least:g}")
        if self.preconditioner is None:
            return
        factors = finite(self.preconditioner, "preconditioner")
        require(bool(np.all(factors > 0)), "preconditioner", self.preconditioner,
                "positive numbers, one a coordinate")  # fmt: skip
        object.__setattr__(self, "preconditioner", _nested(factors.tolist()))

    @property
    def preconditioning(self) -> Floats | None:
        return None if self.preconditioner is None else np.asarray(self.preconditioner, dtype=np.float64)

    @cached_property
    def lattice(self) -> Lattice:
        """Cells of time; their number is a power of two."""
        high = 2.0 ** math.ceil(math.log2(self.horizon))
        cell = _CELLS * high if self.resolution is None else self.resolution
        return Lattice(low=0.0, high=high, depth=max(0, math.ceil(math.log2(high / cell))))

    @property
    def own_grid(self) -> Grid:
        return "linspace"

    def nodes(self, steps: int, grid: Grid, *, integer: bool) -> Floats:
        require(grid in _EQUAL, "grid", grid, "'linspace', equal steps of time, for Langevin dynamics; or take times=")
        require(not integer, "integer", integer, "False for Langevin dynamics, which has no training steps")
        return self._long_enough(np.linspace(0.0, self.horizon, steps + 1))

    def nodes_through(self, times: Sequence[float], *, integer: bool) -> Floats:
        require(not integer, "integer", integer, "False for Langevin dynamics, which has no training steps")
        nodes = np.append(finite(times, "times"), self.horizon)
        rising = nodes.ndim == 1 and len(nodes) >= 2 and nodes[0] >= 0 and bool(np.all(np.diff(nodes) > 0))
        require(rising, "times", list(times), f"increasing times from at least 0 to below the horizon {self.horizon:g}")
        return self._long_enough(nodes)

    def _long_enough(self, nodes: Floats) -> Floats:
        shortest = float(np.diff(nodes).min())
        if shortest < self.lattice.cell * (1 - 1e-9):
            raise MultidriftError(
                f"steps: got steps as short as {shortest:g}; it takes at least {self.lattice.cell:g}, the noise's "
                f"resolution (a {type(self).__name__} with resolution={shortest / 2:.3g} allows them)"
            )
        return nodes

    def refined(self, nodes: Floats, grid: Grid | None, substeps: int) -> Floats:
        del grid  # all grids are cut equally
        places = np.arange((len(nodes) - 1) * substeps + 1) / substeps
        fine = np.interp(places, np.arange(len(nodes)), nodes)
        fine[::substeps] = nodes
        return fine

    def place(self, t: ArrayLike) -> Floats:
        return np.asarray(t, dtype=np.float64)

    def time(self, place: ArrayLike) -> Floats:
        return np.asarray(place, dtype=np.float64)

    def relative_steps(self, nodes: Floats) -> Floats:
        """The share of the run that each step takes."""
        return np.asarray(np.diff(nodes) / (nodes[-1] - nodes[0]))

    def start_std(self, t: float) -> float:
        """Of a drawn position 1, as nothing is known of the target."""
        del t
        return 1.0

    def noise_size(self, times: Floats) -> Floats:
        """√(2h/β) of the step before each time, of the first one for the start."""
        steps = np.diff(times)
        return np.sqrt(2.0 / self.beta * np.append(steps[0], steps))

    @abstractmethod
    def intervals(self, start: ArrayLike, stop: ArrayLike, anchor: ArrayLike | None = None) -> Intervals: ...

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values; `from_dict` reads them back."""
        factors = None if self.preconditioning is None else self.preconditioning.tolist()
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"process": type(self).__name__} | settings | {"preconditioner": factors}

    @classmethod
    @checked
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The process that `to_dict` described."""
        known = {"process"} | {f.name for f in fields(cls)}
        right = set(values) == known and values["process"] == cls.__name__
        require(right, "process", sorted(values), f"the settings {sorted(known)} of {cls.__name__}")
        settings = {name: value for name, value in values.items() if name != "process"}
        return cls(**settings)  # type: ignore[arg-type]  # checked by the process itself


@dataclass(frozen=True)
class Overdamped(VarianceClock, Langevin):
    """dx = M·∇ log density dt + √(2M/β) dB: z = x, τ = t, v = 2t/β. Euler's step is Langevin Monte Carlo.

    Samples are positions. Raises MultidriftError on horizon, β, preconditioner or resolution that are not positive.
    """

    def log_variance(self, low: Places, high: Places) -> Floats:
        return np.log(2.0 / self.beta * (np.asarray(high) - low))

    def rotation(self, low: Places, middle: Places, high: Places) -> Floats:
        share = (np.asarray(middle) - low) / (np.asarray(high) - low)
        if share.ndim and np.all(share == share.flat[0]):
            share = np.asarray(share.flat[0])  # halves of equal cells are alike
        return bridge(share)

    def intervals(self, start: ArrayLike, stop: ArrayLike, anchor: ArrayLike | None = None) -> Intervals:
        del anchor  # z = x everywhere
        t, s = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, np.float64)) for v in (start, stop)))
        one = np.ones_like(t)
        std = np.sqrt(2.0 / self.beta * (s - t))
        return Intervals(t=t, s=s, low=t, high=s, enter_factor=one, leave_factor=one, dtau=s - t, std=std)


@dataclass(frozen=True)
class Underdamped(Langevin):
    """du = w dt, dw = (−γw + M·∇ log density) dt + √(2γM/β) dB, γ the `friction`, w ~ N(0, M/β) in equilibrium.

    z = (u + w/γ, e^{γt} w) and τ = (t/γ, e^{γt}/γ), so Euler's step is underdamped Langevin Monte Carlo with the exact
    integrator (PMM's A_h, G_h and Γ_h). States are pairs (position, velocity) on the last axis; samples are positions.
    Raises MultidriftError as `Overdamped` does, and on steps or blocks longer than 30/γ.
    """

    _: KW_ONLY
    friction: Positive = 1.0

    has_velocity: ClassVar[bool] = True
    components: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()

    @property
    def velocity_std(self) -> float | Floats:
        factors = self.preconditioning
        return math.sqrt(1.0 / self.beta) * (1.0 if factors is None else np.sqrt(factors))

    def position(self, states: Tensor) -> Tensor:
        return states[..., 0]

    def velocity(self, states: Tensor) -> Tensor | None:
        return states[..., 1]

    def joined(self, positions: Tensor, velocities: Tensor | None) -> Tensor:
        assert velocities is not None
        return torch.stack((positions, velocities), dim=-1)

    def lift(self, drift: Tensor, t: float | Floats) -> Tensor:
        """One D for both clocks, that of the position and that of the velocity."""
        del t
        return drift[..., None]

    def rotation(self, low: Places, middle: Places, high: Places) -> Floats:
        return pair_rotation(self.friction, low, middle, high)

    def reach(self, low: Places, high: Places, first: Places, last: Places) -> Floats:
        del first
        return pair_reach(self.friction, low, high, last)

    def intervals(self, start: ArrayLike, stop: ArrayLike, anchor: ArrayLike | None = None) -> Intervals:
        """See `Process.intervals`; `std` multiplies (∫dB, ∫e^{γ(r − s)} dB) over the step."""
        t, s = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, np.float64)) for v in (start, stop)))
        unit = np.broadcast_to(s if anchor is None else np.asarray(anchor, dtype=np.float64), s.shape)
        gamma = self.friction
        longest = gamma * float(np.max(np.maximum(np.abs(unit - t), s - t)))
        require(
            longest <= _LONGEST_BLOCK, "friction", f"γ·block = {longest:.1f}", "shorter steps or blocks, γ·block ≤ 30"
        )
        ahead = np.exp(gamma * (s - unit))
        spread = np.stack(
            (np.full_like(s, math.sqrt(2.0 / (gamma * self.beta))), math.sqrt(2.0 * gamma / self.beta) * ahead), -1
        )
        return Intervals(
            t=t,
            s=s,
            low=t,
            high=s,
            enter_factor=np.exp(gamma * (t - unit)),
            leave_factor=1.0 / ahead,
            dtau=drift_pair(gamma, s - t, ahead),
            std=spread,
            friction=gamma,
        )


def _nested(values: object) -> object:
    return tuple(_nested(v) for v in values) if isinstance(values, list) else values
