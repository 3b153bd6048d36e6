"""Time grids: `steps` distinct times of a schedule, from noise to data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, finite
from multidrift.basics.types import NotNegative, Steps
from multidrift.schedules.schedule import Schedule

Grid = Literal["blend", "logsnr", "leading", "trailing", "linspace", "karras", "piadm"]
GRIDS: tuple[Grid, ...] = get_args(Grid)


_PURE_NOISE = -7.0  # λ at the first time below which a schedule starts from pure noise: ddpm −5.1, cosine −9.9

_FLOAT32 = 1e-6  # relative: what float32 times are rounded by


def own_grid(schedule: Schedule, eta: float) -> Grid:
    """The grid that a schedule takes where none is named, for a process with this much noise.

    Flow, and chains that start from pure noise, such as cosine: "trailing"; noise added to unscaled data (VE, EDM):
    "logsnr"; other variance-preserving ones: "blend" for the ODE (η < 1/2), "linspace" for the SDE. Chosen by
    measurement on mixtures and digits (benchmarks/grids.py, docs/how-it-works.md).
    """
    if schedule.family == "variance_exploding":
        return "logsnr"
    if schedule.family == "flow" or float(schedule.log_snr(schedule.t_max)) < _PURE_NOISE:
        return "trailing"
    return "blend" if eta < 0.5 else "linspace"


@checked
def grid_times(
    schedule: Schedule, steps: Steps, grid: Grid | None = None, *, integer: bool = False, eta: NotNegative = 1.0
) -> Floats:
    """The times of a named grid, decreasing, float64 [steps]; by default the schedule's own for a process with `eta`.

    - `"blend"`: equal steps of half log-SNR, half t: no step is more than twice that of either
    - `"logsnr"`: equal steps of λ = log(α/σ)
    - `"karras"`: equal steps of (σ/α)^(1/7), Karras et al. 2022, equation 5
    - `"piadm"`: equal steps of the forward time of an Ornstein-Uhlenbeck process, s = log(1 + e^(−2λ)), down to s = 1,
      then shrinking in proportion to s, PIADM, section 3 (its early stopping is the schedule's smallest time; with
      its own T, η and step, `md.piadm`)
    - `"linspace"`, `"leading"`, `"trailing"`: equal steps of t, placed as diffusers' `timestep_spacing` does; of a
      flow with a shift, equal steps before it

    `integer=True` rounds to training steps. Raises where that, or the schedule, leaves equal times.
    """
    grid = own_grid(schedule, eta) if grid is None else grid
    match grid:
        case "blend":
            times = _blend(schedule, steps)
        case "logsnr":
            times = schedule.time(np.linspace(_first_log_snr(schedule), schedule.log_snr(schedule.t_min), steps))
        case "karras":
            roots = np.exp(-np.array([_first_log_snr(schedule), schedule.log_snr(schedule.t_min)]) / 7.0)
            times = schedule.time(-7.0 * np.log(np.linspace(roots[0], roots[1], steps)))
        case "piadm":
            ends = _shrinking(np.array([_first_log_snr(schedule), float(schedule.log_snr(schedule.t_min))]))
            places = np.linspace(ends[0], ends[1], steps)
            times = time_at(schedule, np.where(places > 0, places + 1.0, np.exp(np.minimum(places, 0.0))))
        case "linspace":
            times = schedule.spaced(np.linspace(schedule.t_max, _equal_t_min(schedule), steps))
        case "leading":
            times = schedule.spaced(_leading(schedule, steps))
        case "trailing":
            times = schedule.spaced(_trailing(schedule, steps))
    if grid in ("blend", "logsnr", "karras", "piadm", "linspace"):
        times[0], times[-1] = schedule.t_max, schedule.t_min  # exactly, whatever rounding the inverse did
    times = np.clip(np.round(times) if integer else times, schedule.t_min, schedule.t_max)  # rounding may overstep
    if not bool(np.all(np.diff(times) < 0)):
        what = (
            "fewer steps: rounded to training steps these coincide" if integer else f"fewer than {steps} on this grid"
        )
        raise MultidriftError(f"steps: got {steps} on grid {grid!r}; it takes {what}")
    return times


def check_times(schedule: Schedule, times: Sequence[float] | Floats, *, integer: bool = False) -> Floats:
    """Explicit times as a decreasing float64 array inside the schedule, or an error that says what is wrong."""
    values = finite(times, "times")
    require(values.ndim == 1 and len(values) >= 2, "times", times, "a list of at least two times")
    for end in (schedule.t_min, schedule.t_max):  # times that come from float32 may miss an end by their rounding
        values = np.where(np.isclose(values, end, rtol=_FLOAT32, atol=0.0), end, values)
    schedule.check_time(values, "times")
    if not bool(np.all(np.diff(values) < 0)):
        raise MultidriftError(f"times: got {np.array2string(values, threshold=12)}; it takes strictly decreasing times")
    if integer:
        require(bool(np.all(values == np.round(values))), "times", times, "integers, with integer=True")
    return values


def forward_time(log_snr: Floats) -> Floats:
    """The time s that an Ornstein-Uhlenbeck process dx = −x/2 dt + dB takes from the data to a λ: log(1 + e^(−2λ))."""
    return np.logaddexp(0.0, -2.0 * log_snr)


def time_at(schedule: Schedule, forward: Floats) -> Floats:
    """The times of a schedule at which an Ornstein-Uhlenbeck process has run for `forward`."""
    return schedule.time(-0.5 * np.log(np.expm1(forward)))


def _first_log_snr(schedule: Schedule) -> float:
    """λ at the first time, or just below it where the schedule starts from pure noise (λ = −∞)."""
    first = float(schedule.log_snr(schedule.t_max))
    return first if np.isfinite(first) else float(schedule.log_snr(schedule.t_max * (1.0 - 1e-3)))


def _shrinking(log_snr: Floats) -> Floats:
    """A measure of λ in which the steps of PIADM are equal: s − 1 above s = 1, log s below."""
    forward = forward_time(log_snr)
    return np.where(forward > 1.0, forward - 1.0, np.log(forward))


def _blend(schedule: Schedule, steps: int) -> Floats:
    """Solve ½ (λ's share of its range) + ½ (t's share of its range) = n/(steps−1) for t, by bisection."""
    first, last = _first_log_snr(schedule), float(schedule.log_snr(schedule.t_min))
    span = schedule.t_max - _equal_t_min(schedule)
    wanted = np.linspace(0.0, 1.0, steps)
    low, high = np.full(steps, schedule.t_min), np.full(steps, schedule.t_max)
    for _ in range(60):
        middle = 0.5 * (low + high)
        in_log_snr = np.clip((schedule.log_snr(middle) - first) / (last - first), 0.0, 1.0)
        progress = 0.5 * in_log_snr + 0.5 * (schedule.t_max - schedule.unspaced(middle)) / span
        low, high = np.where(progress > wanted, middle, low), np.where(progress > wanted, high, middle)
    return np.asarray(0.5 * (low + high))


def _leading(schedule: Schedule, steps: int) -> Floats:
    places = np.arange(steps, dtype=np.float64)[::-1]
    if schedule.training_steps is not None:
        return places * (schedule.training_steps // steps)
    first = _equal_t_min(schedule)
    return first + places * (schedule.t_max - first) / steps


def _trailing(schedule: Schedule, steps: int) -> Floats:
    places = np.arange(steps, 0, -1, dtype=np.float64)
    if schedule.training_steps is not None:
        return places * (schedule.training_steps / steps) - 1.0
    first = _equal_t_min(schedule)
    if schedule.family == "flow" and schedule.t_max / steps >= first:
        return places * (schedule.t_max / steps)  # to t = 0 in equal steps, as flow pipelines walk
    return first + places * (schedule.t_max - first) / steps


def _equal_t_min(schedule: Schedule) -> float:
    """The last time before a schedule's shift of its grids."""
    return float(schedule.unspaced(np.array([schedule.t_min]))[0])
