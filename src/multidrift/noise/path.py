"""One Brownian path per (seed, sample), read in increments at any points, in any order, on any grid.

The path is a binary tree over the process's fixed lattice. A node holds its interval's k standard normals (k = 1; a
position and a velocity moved by one Brownian motion have k = 2); those of its two halves follow from them and k fresh
ones by a rotation, the Brownian bridge. For k = 1:

    g_left = √f·g + √(1−f)·ξ        g_right = √(1−f)·g − √f·ξ        f = the left half's share of the variance

so no large sum is ever subtracted and nothing overflows however steep the clock is. A query inside a cell splits it
with the cell's own normals: increments add up exactly everywhere, and are Brownian down to one query a cell. A finer
grid than that sees a path that is smooth within cells, with the right increment over each.

Reading forward costs about 2 + log₂(cells/queries) draws a query and keeps a few states, the intervals still ahead.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.noise.counter import Keys
from multidrift.noise.descent import descend
from multidrift.noise.lattice import Lattice, NoiseClock
from multidrift.noise.opening import opened
from multidrift.noise.segments import Reading, Segment, readings, weighted

_ROOT, _TAIL = 0, -1  # draws of the whole tree's normals and of the cell below the lattice; node i draws i ≥ 1
_DRAWN_AT_ONCE = 1 << 21  # normals drawn in one go: enough to hide launch costs, small against a batch of states
_READ_AT_ONCE = 64  # coming points that are prepared together, at the most


class BrownianPath:
    """The path of a batch of samples on one process's noise clock.

    `keys` are the samples' keys, `shape` one sample's shape. `increment(a, b)` is the path's increment in the clock's
    units, [n, *shape] (of unit variance, for clocks with k = 1) or [n, *shape, 2]; its joint law over all queries is
    that of one Brownian motion. The object remembers where it stopped reading, so one thread reads it at a time;
    reading in order is fastest, and from one of the rising `coming` points to the next, where many steps are drawn at
    once: what is read is the same, bit for bit. Increments add up exactly for any points; they are independent as long
    as no two queries fall into one cell of the lattice.
    """

    def __init__(
        self, clock: NoiseClock, keys: Keys, shape: Sequence[int], dtype: torch.dtype, coming: Floats | None = None
    ) -> None:
        self.clock, self.keys, self.shape, self.dtype = clock, keys, tuple(shape), dtype
        self.draws = 0  # normals of one whole batch drawn so far: what the path has cost
        self._most = max(1, _DRAWN_AT_ONCE // (len(keys.values) * clock.components * max(1, math.prod(self.shape))))
        self._coming = np.empty(0) if coming is None else coming
        self._drawn_before = _draws_before(clock.lattice, self._coming)
        self._ahead: list[Segment] = []  # the nearest last
        self._ready: list[Reading] = []  # the next queries, if they go from point to coming point; the nearest last
        self._position = math.nan

    def increment(self, low: float, high: float) -> Tensor:
        """The path's increment from lattice coordinate `low` to `high`."""
        self._check(low, high)
        while self._ready and self._ready[-1].ends[1] <= low:
            self._ready.pop()
        if self._ready and self._ready[-1].ends != (low, high):
            self._stop_reading_ahead()
        if not self._ready:
            self._seek(low)
            points = self._points_from(low, high)
            self._ready = readings(self.clock, self._open(points), low, points)[::-1]
        reading = self._ready.pop()
        totals: list[Tensor] = []
        for segment, rows in zip(reading.passed, reading.weights, strict=True):
            parts = (*segment.values, *segment.fresh)
            terms = [weighted(row, parts) for row in rows]
            totals = [total.add_(term) for total, term in zip(totals, terms, strict=True)] if totals else terms
        self._pass(high)
        return self._joined(totals)

    def increments(self, low: float, points: Floats, rows: Tensor) -> Tensor:
        """The increments from `low` to points[r] > low of the samples rows[r], [m, *shape] (or [m, *shape, 2]).

        They are those that `increment` would give; the path may then be read on from `low`.
        """
        self._check(low, float(points.min()))
        self._check(low, float(points.max()))
        self._stop_reading_ahead()
        self._seek(low)
        return self._joined(descend(self.clock, self.keys, self.shape, self.dtype, self._ahead, low, points, rows))

    def _stop_reading_ahead(self) -> None:
        """The path is not read from point to coming point: forget what was prepared, and prepare no more.

        Intervals opened for points that are not read would leave another rounding in the sums of their parts.
        """
        self._coming = np.empty(0)
        if self._ready:
            self._ready, self._position = [], math.nan

    def _joined(self, totals: Sequence[Tensor]) -> Tensor:
        return totals[0] if len(totals) == 1 else torch.stack(list(totals), dim=-1)

    def _check(self, low: float, high: float) -> None:
        lattice = self.clock.lattice
        bottom = -math.inf if lattice.unbounded_below else lattice.low
        inside = bottom <= low < high <= lattice.high and (low >= lattice.low or low == -math.inf < lattice.low <= high)
        require(inside, "interval", (low, high), f"increasing ends between {lattice.low:g} and {lattice.high:g}")

    def _points_from(self, low: float, high: float) -> list[float]:
        """`high` and, where the path is read from point to coming point, those that are drawn together with it."""
        first = bisect_left(self._coming, high)
        if not 0 < first < len(self._coming) or tuple(self._coming[first - 1 : first + 1]) != (low, high):
            return [high]
        last = bisect_right(self._drawn_before, self._drawn_before[first] + self._most)
        points: list[float] = self._coming[first : min(max(last, first + 1), first + _READ_AT_ONCE)].tolist()
        return points

    def _seek(self, position: float) -> None:
        """Be at `position`: go on from where reading stopped, or from the start where that lies behind."""
        if position == self._position:
            return
        if not position > self._position:
            lattice = self.clock.lattice
            nodes = [_ROOT, _TAIL] if position == -math.inf else [_ROOT]
            values = [normals.unbind(1) for normals in next(self._drawn([nodes]))]
            self._ahead = [Segment(lattice.low, lattice.high, 1, 0, values[0])]
            if position == -math.inf:
                self._ahead.append(Segment(position, lattice.low, _TAIL, lattice.depth, values[1]))
            self._position = min(position, lattice.low)
        if position > self._position:
            self._open([position])
            self._pass(position)

    def _open(self, points: Sequence[float]) -> list[Segment]:
        """The intervals ahead up to the last of these rising points, rising, of which each ends one or cuts a cell."""
        taken = []
        while self._ahead and self._ahead[-1].low < points[-1]:
            taken.append(self._ahead.pop())
        found = opened(self.clock, taken, points, self._drawn)
        self._ahead += reversed(found)
        return found

    def _pass(self, position: float) -> None:
        """Leave the intervals behind that end before a position; a cell that it cuts stays."""
        while self._ahead and self._ahead[-1].high <= position:
            self._ahead.pop()
        self._position = position

    def _drawn(self, groups: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """The fresh normals of groups of nodes, [nodes, n, k, *shape] of one group after another; many in one go."""
        first = 0
        while first < len(groups):
            last, count = first + 1, len(groups[first])
            while last < len(groups) and count + len(groups[last]) <= self._most:
                count += len(groups[last])
                last += 1
            nodes = [node for group in groups[first:last] for node in group]
            self.draws += len(nodes)
            normals = self.keys.normals(nodes, (self.clock.components, *self.shape), self.dtype)
            ends = np.cumsum([0, *(len(group) for group in groups[first:last])]).tolist()
            yield from (normals[begin:end] for begin, end in pairwise(ends))
            first = last


def _draws_before(lattice: Lattice, points: Floats) -> list[int]:
    """How many draws reading from point to point takes before each of them: one for each halving not yet done."""
    cells = np.floor((np.maximum(points, lattice.low) - lattice.low) / lattice.cell).astype(np.int64)
    new = np.frexp((cells[1:] ^ cells[:-1]).astype(np.float64))[1] + 1  # and one in the cell that the point cuts
    return [0, *np.cumsum(new).tolist()] if len(points) else []
