"""Reverse diffusion as one affine equation, dz = D dτ + dW(v)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike

from multidrift.basics.checks import check_fields, checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import NotNegative
from multidrift.noise.lattice import Lattice, Places, VarianceClock
from multidrift.processes.clocks import CLOCKS, HeldClock, Holds
from multidrift.processes.intervals import Intervals
from multidrift.processes.noise_scale import ScaledVariance, scale_at
from multidrift.processes.predictions import Prediction
from multidrift.processes.process import Process
from multidrift.schedules.catalogue import from_dict
from multidrift.schedules.grids import Grid, check_times, grid_times, own_grid
from multidrift.schedules.schedule import Schedule

# One lattice for every schedule: cells of λ 2⁻¹⁰ wide, a fifth of the smallest step of the 1000-step DDPM chain.
_LATTICE = Lattice(low=-64.0, high=64.0, depth=17, unbounded_below=True)


@dataclass(frozen=True)
class Diffusion(VarianceClock, Process):
    """Generate data by running a schedule backwards.

    - `eta`: amount of noise; 0 is the probability-flow ODE, 1 the reverse SDE (DDPM)
    - `holds`: what is constant over a step: `"data"` (x_0), `"noise"` (ε), `"score"`, or `"ddpm"` (ε along the
      training chain, where K steps at once equal the chain's own K steps)
    - `noise_scale`: a factor on the noise's variance, a number or a function of t; the drift keeps its η

    Frozen and thread-safe. Raises MultidriftError on settings that do not fit each other.
    """

    final_calls: ClassVar[int] = 1
    sample_is_called: ClassVar[str] = "sample"

    schedule: Schedule
    eta: NotNegative = 1.0
    holds: Holds = "data"
    noise_scale: NotNegative | Callable[[float], float] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        self.clock.check()

    @cached_property
    def clock(self) -> HeldClock:
        """The coordinate and clocks of the held quantity."""
        return CLOCKS[self.holds](self.schedule, self.eta)

    @property
    def drift_is(self) -> Prediction:
        """What D is, as a prediction of the network."""
        return self.clock.drift_is

    @property
    def noisy(self) -> bool:
        """Whether the equation has noise at all."""
        return self.eta > 0 and self.noise_scale != 0

    @property
    def model_schedule(self) -> Schedule:
        return self.schedule

    @property
    def own_grid(self) -> Grid:
        return own_grid(self.schedule, self.eta)

    def nodes(self, steps: int, grid: Grid, *, integer: bool) -> Floats:
        return grid_times(self.schedule, steps, grid, integer=integer)

    def nodes_through(self, times: Sequence[float], *, integer: bool) -> Floats:
        return check_times(self.schedule, times, integer=integer)

    def refined(self, nodes: Floats, grid: Grid | None, substeps: int) -> Floats:
        """A grid of equal steps of t, or of explicit times, is cut equally in t; any other in its own measure.

        Every step is cut inside its own ends, so that the cuts keep their order where the nodes were rounded.
        """
        steps = len(nodes) - 1
        if grid in ("blend", "logsnr", "karras", "piadm"):
            fine = grid_times(self.schedule, steps * substeps + 1, grid)
        else:
            fine = np.linspace(1.0, 0.0, steps * substeps + 1)
        starts, ends = fine[:-1:substeps, None], fine[substeps::substeps, None]
        shares = (fine[:-1].reshape(steps, substeps) - starts) / (ends - starts)
        inside = nodes[:-1, None] + shares * np.diff(nodes)[:, None]
        return np.append(inside.ravel(), nodes[-1])

    def place(self, t: ArrayLike) -> Floats:
        return self.schedule.log_snr(t)

    def time(self, place: ArrayLike) -> Floats:
        return self.schedule.time(place)

    def relative_steps(self, nodes: Floats) -> Floats:
        """The share of the state that each step of a grid replaces, 1 − exp(−(1+η)Δλ), in (0, 1]."""
        return np.asarray(-np.expm1(-(1.0 + self.eta) * np.diff(self.schedule.log_snr(nodes))))

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values; of a `noise_scale` function, its values at 33 times in their place."""
        scale: object = self.noise_scale
        if callable(self.noise_scale):
            times = np.linspace(self.schedule.t_max, self.schedule.t_min, 33)
            scale = scale_at(self.noise_scale, times).tolist()
        settings = {"eta": self.eta, "holds": self.holds, "noise_scale": scale}
        return {"process": "Diffusion", "schedule": self.schedule.to_dict()} | settings

    @staticmethod
    @checked
    def from_dict(values: Mapping[str, object]) -> Diffusion:
        """The process that `to_dict` described; one with a `noise_scale` function cannot be read back."""
        known = {"process", "schedule", "eta", "holds", "noise_scale"}
        right = set(values) == known and values["process"] == "Diffusion" and isinstance(values["schedule"], Mapping)
        require(right, "process", sorted(values), f"the settings {sorted(known)} of a Diffusion")
        scale = values["noise_scale"]
        require(not isinstance(scale, list), "noise_scale", "the values of a function", "a number")
        return Diffusion(
            from_dict(cast("Mapping[str, object]", values["schedule"])),
            cast("float", values["eta"]),
            cast("Holds", values["holds"]),
            cast("float", scale),
        )

    def start_std(self, t: float) -> float:
        """Standard deviation of a drawn start at time t: 1, or σ(t) where noise is added to unscaled data."""
        return float(self.schedule.sigma(t)) if self.schedule.family == "variance_exploding" else 1.0

    def noise_size(self, times: Floats) -> Floats:
        """σ(t)."""
        return self.schedule.sigma(times)

    @property
    def lattice(self) -> Lattice:
        """The lattice of λ that the Brownian path is built on."""
        return _LATTICE

    @cached_property
    def _scaled(self) -> ScaledVariance | None:
        return ScaledVariance(self.clock, self.noise_scale) if callable(self.noise_scale) else None

    def log_variance(self, low: Places, high: Places) -> Floats:
        """log(v(high) − v(low)) from λ = low to λ = high, with `noise_scale`; −inf where there is no noise."""
        if self._scaled is not None:
            return self._scaled.log_variance(low, high)
        assert not callable(self.noise_scale)
        factor = math.log(self.noise_scale) if self.noise_scale else -math.inf
        return self.clock.log_variance(low, high) + factor

    def intervals(self, start: ArrayLike, stop: ArrayLike, anchor: ArrayLike | None = None) -> Intervals:
        """The steps from times `start` to times `stop`, with z = x at the times `anchor` (None: at `stop`).

        All are numbers or float64 arrays of one length n, and so are the fields of the result. Raises MultidriftError
        where the held quantity does not exist (ε and the score at α = 0).
        """
        t, s = np.atleast_1d(np.asarray(start, np.float64)), np.atleast_1d(np.asarray(stop, np.float64))
        low, high = self.schedule.log_snr(t), self.schedule.log_snr(s)
        unit = high if anchor is None else np.broadcast_to(self.schedule.log_snr(anchor), high.shape)
        if not self.clock.starts_from_pure_noise and np.any(np.isneginf(low)):
            raise MultidriftError(f"holds: got {self.holds!r} where α = 0 (t = {t[0]:g}); there it takes 'data'")
        scale = self.clock.log_scale(unit)
        return Intervals(
            t=t,
            s=s,
            low=low,
            high=high,
            enter_factor=np.exp(self.clock.log_scale(low) - scale),
            leave_factor=np.exp(scale - self.clock.log_scale(high)),
            dtau=self.clock.dtau(low, high, unit),
            std=np.exp(0.5 * self.log_variance(low, high) - scale),
        )
