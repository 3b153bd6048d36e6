"""The coefficients of LadderMultistep: in closed form, or fitted to how the ladder's drifts vary together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from multidrift.basics.checks import Settings, check_value
from multidrift.basics.numbers import Floats, moved
from multidrift.drifts.covariance import DriftCovariance
from multidrift.processes.intervals import Intervals
from multidrift.processes.process import Process

Factor = float | Tensor

_POINTS = 32  # of the quadrature over a cell
_SHRINK = 1e-3  # of a fit towards the closed form, in units of each value's own variance
_EMERGES = 2.3  # −λ at which the closed forms trust half of what the cheap level says of a change
_PAST_WITH_CHEAP = 0.25  # of the slope through the last two nodes, where a cheap level tells more
_SHARED = 0.7  # the share of the cheap level's defect of interpolation that the closed forms take for the top level's


@dataclass(frozen=True)
class CellWeights(Settings):
    """What multiplies which difference in one cell; see `LadderMultistep` for the formulas.

    Predicting: `past` (A − P) and `cheap`, the changes of the cheap level along the cell. Correcting: `top` (B − A),
    `before` (A − P), `defect` M and `change` (C' − C). At the end of a diffusion: `last` (E − C) and `last_past`
    (A − P).
    """

    past: Factor = 0.0
    cheap: Factor = 1.0
    top: Factor = 0.0
    before: Factor = 0.0
    defect: Factor = 0.0
    change: Factor = 0.0
    last: Factor = 0.0
    last_past: Factor = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, Tensor):
                check_value(value, float, name)


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: between which places it lies, its substeps, and the place before it (None: the first)."""

    process: Process
    times: Floats  # [substeps + 1]
    before: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """The places at which it begins and ends."""
        first, last = self.process.place(self.times[[0, -1]])
        return float(first), float(last)

    def steps(self) -> Intervals:
        """The substeps, in coordinates scaled to the end of the cell."""
        return self.process.intervals(self.times[:-1], self.times[1:], np.full(len(self.times) - 1, self.times[-1]))

    def shares(self) -> Floats:
        """How much of the cell's drift clock runs in each substep, [substeps, clocks]."""
        lengths = self.steps().dtau.reshape(len(self.times) - 1, -1)
        return np.asarray(lengths / lengths.sum(axis=0))

    def quadrature(self) -> tuple[Floats, Floats]:
        """Places inside the cell, [n], and how much of the drift clock runs around each, [n, clocks]."""
        edges = np.linspace(self.times[0], self.times[-1], 2 * _POINTS + 1)
        parts = self.process.intervals(edges[:-2:2], edges[2::2], np.full(_POINTS, edges[-1]))
        lengths = parts.dtau.reshape(_POINTS, -1)
        return self.process.place(edges[1::2]), lengths / lengths.sum(axis=0)


def closed_form(cell: Cell, like: Tensor, *, cheap: bool, known: bool) -> CellWeights:
    """Weights that need no data.

    `top` = θ integrates a drift that is linear in the place (Langevin: in time) exactly, `defect` takes a share of what
    the cheap level departs from its own straight line. Where the signal is weak, a network's prediction of the data is
    as wrong as 1/ρ is large: there cheap changes count for little, and a value at the start of the run (`known` False)
    for nothing. At the end a cheap level's change stands for the top's where noise hides the top's own past. `cheap`:
    whether there is a cheap level.
    """
    places, passed = cell.quadrature()
    first, last = cell.ends
    noisy, diffusion = cell.process.noisy, cell.process.final_calls > 0
    theta: Factor = 1.0
    walked: Factor = 0.0
    if np.isfinite(first):
        theta = _factor((places - first) / (last - first) @ passed, like)
        walked = _factor((cell.process.place(cell.times[:-1]) - first) / (last - first) @ cell.shares(), like)
    trust = 1.0 / (1.0 + float(np.exp(-2.0 * (first + _EMERGES)))) if diffusion else 1.0
    slope = 0.0 if cell.before is None or not np.isfinite(cell.before) else (last - first) / (first - cell.before)
    ahead = 0.0 if noisy else slope * (_PAST_WITH_CHEAP if cheap else 1.0)
    shared = _SHARED * trust if cheap else 0.0
    return CellWeights(
        past=ahead * theta,
        cheap=trust,
        top=theta if known else 1.0,
        defect=shared,
        change=-shared * walked,
        last=1.0 if cheap and noisy else 0.0,
        last_past=0.0 if noisy else _towards_the_data(cell),
    )


def _towards_the_data(cell: Cell) -> float:
    """The change of D over a last cell in units of that over the cell before: linear in σ²/α², as a Gaussian's is."""
    first, last = cell.ends
    if cell.before is None or not np.isfinite(cell.before) or cell.process.final_calls == 0:
        return 0.0
    return float(-np.expm1(2.0 * (first - last)) / np.expm1(2.0 * (first - cell.before)))


def fitted(cell: Cell, covariance: DriftCovariance, start: CellWeights, levels: Sequence[str]) -> CellWeights:
    """The weights that come nearest to the top level's mean over the cell on the paths that were measured.

    `levels`: the names of what A, P and C are values of: (top or what stands for it at the start, the same one node
    before, cheap or ""). Each step of the recursion is a regression of its own on what it has; `start`: the closed form
    that it shrinks towards.
    """
    now, then, cheap = levels
    places, passed = cell.quadrature()
    first, last = cell.ends
    top = covariance.levels[-1]
    mean = covariance.mean(top, places, passed[:, 0])
    a, b = covariance.value(now, first), covariance.value(top, last)
    past = {} if cell.before is None or not then else {"past": a - covariance.value(then, cell.before)}
    inside, change = {}, {}
    if cheap:
        c = covariance.value(cheap, first)
        change = {"change": covariance.value(cheap, last) - c}
        walked = covariance.mean(cheap, cell.process.place(cell.times[:-1]), cell.shares()[:, 0]) - c
        inside = {"defect": walked} if len(cell.times) > 2 else {}

    def regress(target: Floats, known: dict[str, Floats], names: dict[str, str]) -> dict[str, float]:
        called = [names.get(name, name) for name in known]
        before = [float(getattr(start, name)) for name in called]
        values = covariance.regress(target - a, list(known.values()), before, _SHRINK)
        return dict(zip(called, values, strict=True))

    predict = regress(mean, inside | past, {"defect": "cheap"})
    correct = regress(mean, {"top": b - a} | past | inside | (change if inside else {}), {"past": "before"})
    end = regress(b, change | past, {"change": "last", "past": "last_past"})
    return replace(start, **(predict | {"change": 0.0, "defect": 0.0} | correct | end))


def _factor(value: Floats, like: Tensor) -> Factor:
    """A number, or a pair to multiply the last axis of states with."""
    return float(value[0]) if len(value) == 1 else moved(value, like)
