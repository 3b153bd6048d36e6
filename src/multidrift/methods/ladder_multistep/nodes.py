"""Where LadderMultistep calls the top level: nodes that follow from the noise level alone, on any schedule."""

from __future__ import annotations

import math

import numpy as np

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.processes.diffusion import Diffusion
from multidrift.schedules.continuous import VariancePreserving

# The time in which nodes are evenly spread: that of the linear variance-preserving process at the same λ, whose
# training chain is DDPM's. On any schedule nodes then lie at the same noise levels.
_CLOCK = VariancePreserving()


def cell_nodes(process: Diffusion, inner: int) -> Floats:
    """The first time, `inner` nodes after it and the last time, decreasing, float64 [inner + 2].

    Without noise the nodes are evenly spread, and the first of them lies two gaps from the start, where little is
    decided; with noise, which forgets the start, they begin later and end earlier. How far they reach towards both
    ends grows with the logarithm of their number. Amounts of noise between 0 and 1 lie between both.
    """
    require(inner >= 1, "steps", inner, "at least 3 calls of the top level")
    schedule = process.schedule
    first, last = float(schedule.log_snr(schedule.t_max)), float(schedule.log_snr(schedule.t_min))
    noise, reach = min(process.eta, 1.0), math.log(inner)
    start = _CLOCK.t_max if not math.isfinite(first) else float(_CLOCK.time(first))
    without = _evenly(start, float(_CLOCK.time(1.1 + 0.65 * reach)), inner)
    with_noise = np.linspace(float(_CLOCK.time(-1.1 - 0.55 * reach)), float(_CLOCK.time(1.0 + 0.55 * reach)), inner)
    places = _CLOCK.log_snr((1.0 - noise) * without + noise * with_noise)
    # A schedule that covers less keeps the nodes' shares of what it covers.
    low, high = max(first, float(_CLOCK.log_snr(1.0))), last
    margin = (high - low) / (2.0 * inner + 2.0)
    if places[0] <= low or places[-1] >= high:
        places = np.interp(
            places, (places[0], places[-1]), (max(places[0], low + margin), min(places[-1], high - margin))
        )
    return np.concatenate([[schedule.t_max], schedule.time(places), [schedule.t_min]])


def _evenly(start: float, stop: float, inner: int) -> Floats:
    """`inner` values down to `stop`, evenly spread, the first two gaps below `start`."""
    gap = (start - stop) / (inner + 1)
    return np.asarray(start - gap * np.arange(2, inner + 2), dtype=np.float64)
