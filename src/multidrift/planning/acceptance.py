"""By how much a difference of drifts moves a step, in standard deviations of its noise: what speculation lives on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from multidrift.basics.numbers import Floats
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.langevin import Overdamped


def kicks(process: Mapping[str, object], places: Floats) -> Floats | None:
    """|Δτ|/√v of steps between places [n] of a described process, [n − 1]; None where there is no such number.

    That is without noise, with velocities, whose noise is correlated, with a preconditioner, which makes it another one
    for each coordinate, and with noise scaled by a function of time, which a description cannot bring back.
    """
    low, high = places[:-1], places[1:]
    if process["process"] == "Overdamped":
        overdamped = Overdamped.from_dict(process)
        steps = overdamped.intervals(low, high)
        return None if overdamped.preconditioning is not None else np.asarray(steps.dtau / steps.std)
    if process["process"] != "Diffusion" or isinstance(process["noise_scale"], list):
        return None
    diffusion = Diffusion.from_dict(process)
    if not diffusion.noisy:
        return None
    clock = diffusion.clock
    log_std = 0.5 * diffusion.log_variance(low, high) - clock.log_scale(high)
    return np.abs(clock.dtau(low, high, high)) * np.exp(-log_std)
