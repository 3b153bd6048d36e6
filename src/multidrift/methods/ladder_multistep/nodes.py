"""Where LadderMultistep calls the top level: nodes that follow from the noise level alone, on any schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from multidrift.basics.checks import check_fields, checked
from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Count
from multidrift.processes.diffusion import Diffusion
from multidrift.schedules.continuous import VariancePreserving

# The time in which nodes are evenly spread: that of the linear variance-preserving process at the same λ, whose
# training chain is DDPM's. On any schedule nodes then lie at the same noise levels.
_CLOCK = VariancePreserving()
_POINTS = 1025  # of the table that turns shares of the measure into λ


@dataclass(frozen=True)
class CellNodes:
    """Where the calls of the top level lie: from λ = `first` to λ = `last`, λ = log(α/σ).

    They are evenly spread in a measure of which `straight`, at most 1, is λ itself and the rest the time of the linear
    variance-preserving process; below 0 they gather where its time runs faster still. `md.search_nodes` finds the three
    for a ladder. Raises MultidriftError where they do not increase.
    """

    first: float
    last: float
    straight: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.first < self.last, "nodes", (self.first, self.last), "first < last, values of λ = log(α/σ)")
        require(-1.0 <= self.straight <= 1.0, "straight", self.straight, "a number from -1 to 1")
        increasing = bool(np.all(np.diff(self._table()[0]) > 0))
        require(increasing, "straight", self.straight, "a number nearer to 0: the nodes would not increase")

    @checked
    def places(self, inner: Count) -> Floats:
        """λ of `inner` nodes, increasing, float64 [inner]."""
        measure, places = self._table()
        return np.interp(np.linspace(0.0, 1.0, inner), measure, places)

    def _table(self) -> tuple[Floats, Floats]:
        places = np.linspace(self.first, self.last, _POINTS)
        passed = float(_CLOCK.time(self.first)) - _CLOCK.time(places)
        share = np.linspace(0.0, 1.0, _POINTS)
        return self.straight * share + (1.0 - self.straight) * passed / passed[-1], places


def default_nodes(process: Diffusion, inner: int) -> CellNodes:
    """The nodes that suit digits, and the closed-form problems, at any number of them.

    Without noise they begin early; with noise, which forgets the start, they begin later and end earlier. How far they
    reach towards both ends grows with the logarithm of their number. Amounts of noise between 0 and 1 lie between both.
    """
    first = float(process.schedule.log_snr(process.schedule.t_max))
    noise, reach = min(process.eta, 1.0), math.log(inner)
    start = _CLOCK.t_max if not math.isfinite(first) else float(_CLOCK.time(first))
    stop = float(_CLOCK.time(1.1 + 0.65 * reach))
    gap = (start - stop) / (inner + 1)
    without = (start - 2.0 * gap, stop)  # the first node two gaps from the start, where little is decided
    with_noise = (float(_CLOCK.time(-1.1 - 0.55 * reach)), float(_CLOCK.time(1.0 + 0.55 * reach)))
    ends = [(1.0 - noise) * a + noise * b for a, b in zip(without, with_noise, strict=True)]
    low, high = (float(place) for place in _CLOCK.log_snr(np.array(ends)))
    return CellNodes(low, max(high, low + 1e-6))


def cell_nodes(process: Diffusion, inner: int, nodes: CellNodes | None = None) -> Floats:
    """The first time, `inner` nodes after it and the last time, decreasing, float64 [inner + 2]."""
    require(inner >= 1, "steps", inner, "at least 3 calls of the top level")
    schedule = process.schedule
    first, last = float(schedule.log_snr(schedule.t_max)), float(schedule.log_snr(schedule.t_min))
    places = (nodes or default_nodes(process, inner)).places(inner)
    # A schedule that covers less keeps the nodes' shares of what it covers.
    low, high = max(first, float(_CLOCK.log_snr(1.0))), last
    margin = (high - low) / (2.0 * inner + 2.0)
    if places[0] <= low or places[-1] >= high:
        places = np.interp(
            places, (places[0], places[-1]), (max(places[0], low + margin), min(places[-1], high - margin))
        )
    return np.concatenate([[schedule.t_max], schedule.time(places), [schedule.t_min]])
