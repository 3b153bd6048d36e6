"""How far the corrections of a Poisson midpoint step may throw a diffusion."""

from __future__ import annotations

import numpy as np

from multidrift.basics.numbers import Floats
from multidrift.processes.predictions import conversion
from multidrift.processes.process import Process


def largest_kicks(process: Process, times: Floats, places: Floats, kicks: Floats) -> Floats:
    """The state's share that the largest kick of each step replaces, [steps], of a process with a schedule.

    `places` [steps, K]: where a kick looks, at times from `times[n]` to `times[n + 1]`; `kicks` [steps, K]: its size on
    the drift clock, anchored at the step's end, 0 where it never fires. In units of the predicted data a kick is
    |kick·∂D/∂x_0|/α(end). What it corrects is at most what the start of the step leaves open of data of unit scale,
    κ/√(1 + κ²) of it: near the data a kick of many times the step does no harm.
    """
    schedule = process.model_schedule
    assert schedule is not None
    alpha, sigma = schedule.alpha(places), schedule.sigma(places)
    of_data = conversion("sample", process.drift_is, alpha, sigma)[1]
    start, end = times[:-1], schedule.alpha(times[1:])
    open_share = schedule.sigma(start) / np.hypot(schedule.alpha(start), schedule.sigma(start))
    return np.asarray(np.abs(kicks * of_data).max(axis=1) / end * open_share)
