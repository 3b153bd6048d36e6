"""Reading a Brownian path at a place of each row's own: all rows walk down the tree together, each to its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.numbers import Floats, moved
from multidrift.noise.counter import Keys
from multidrift.noise.lattice import NoiseClock
from multidrift.noise.segments import Components, Segment, Weight, cut, halves, prefix, weighted


def descend(
    clock: NoiseClock,
    keys: Keys,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    ahead: Sequence[Segment],
    low: float,
    points: Floats,
    rows: Tensor,
) -> list[Tensor]:
    """The k components [m, *shape] of the path from `low` to points[r] > low, for the samples rows[r].

    `ahead`: the intervals of the path from `low` on, the nearest last.
    """
    return _Descent(clock, keys[rows], shape, dtype, low, points).run(ahead, rows)


Bools = NDArray[np.bool_]
Rows = NDArray[np.intp]


class _Descent:
    """Where every row is: an interval [lows, highs] that holds its point, and the interval's normals."""

    def __init__(
        self, clock: NoiseClock, keys: Keys, shape: tuple[int, ...], dtype: torch.dtype, first: float, points: Floats
    ) -> None:
        self.clock, self.keys, self.shape, self.dtype = clock, keys, shape, dtype
        self.first, self.points = first, points
        count, device = len(points), keys.values.device
        self.totals = [torch.zeros((count, *shape), dtype=dtype, device=device) for _ in range(clock.components)]
        self.values = [torch.zeros_like(total) for total in self.totals]
        self.lows, self.highs = np.empty(count), np.empty(count)
        self.nodes, self.depths = np.zeros(count, dtype=np.int64), np.full(count, -1)  # −1: has arrived

    def run(self, ahead: Sequence[Segment], rows: Tensor) -> list[Tensor]:
        """The increments to all points."""
        for segment in reversed(ahead):
            if segment.low >= self.points.max():
                break
            self._pass_or_enter(segment, rows)
        for depth in range(int(self.depths.min(initial=0, where=self.depths >= 0)), self.clock.lattice.depth):
            self._halve(np.flatnonzero(self.depths == depth), depth)
        self._cut(np.flatnonzero(self.depths == self.clock.lattice.depth))
        return self.totals

    def _pass_or_enter(self, segment: Segment, rows: Tensor) -> None:
        """Add the interval for the rows whose points lie behind it; the rows whose points lie inside start there."""
        behind = np.flatnonzero(self.points >= segment.high)
        if len(behind):
            parts = tuple(v[rows[self._index(behind)]] for v in (*segment.values, *segment.fresh))
            last = self.points[behind]
            if segment.fresh:
                weights = cut(self.clock, segment, segment.high, self.first, last)
            else:
                weights = self.clock.reach(segment.low, segment.high, self.first, last)
            self._add(behind, weights, parts)
        inside = np.flatnonzero((self.points > segment.low) & (self.points < segment.high))
        if not len(inside):
            return
        if segment.fresh:
            parts = tuple(v[rows[self._index(inside)]] for v in (*segment.values, *segment.fresh))
            self._add(inside, cut(self.clock, segment, self.points[inside], self.first, self.points[inside]), parts)
            return
        self.lows[inside], self.highs[inside] = segment.low, segment.high
        self.nodes[inside], self.depths[inside] = segment.node, segment.depth
        index = self._index(inside)
        for mine, theirs in zip(self.values, segment.values, strict=True):
            mine[index] = theirs[rows[index]]

    def _halve(self, at: Rows, depth: int) -> None:
        """One level down for the rows `at`: past the left half, or into it."""
        if not len(at):
            return
        index, low, high, points = self._index(at), self.lows[at], self.highs[at], self.points[at]
        middle = 0.5 * (low + high)
        parts = (*(v[index] for v in self.values), *self._fresh(at))
        left, right = halves(self._factors(self.clock.rotation(low, middle, high)), parts)
        beyond = points >= middle
        passed = np.where(beyond[:, None, None], self.clock.reach(low, middle, self.first, points), 0.0)
        self._add(at, passed, left)
        turns = self._column(beyond)
        for mine, near, far in zip(self.values, left, right, strict=True):
            mine[index] = torch.where(turns, far, near)
        self.lows[at], self.highs[at] = np.where(beyond, middle, low), np.where(beyond, high, middle)
        self.nodes[at] = 2 * self.nodes[at] + beyond
        self.depths[at] = np.where(points == middle, -1, depth + 1)

    def _cut(self, at: Rows) -> None:
        """The rows whose points lie inside a cell of the lattice read a part of it."""
        if not len(at):
            return
        index, points = self._index(at), self.points[at]
        weights = prefix(self.clock, self.lows[at], points, self.highs[at], self.first, points)
        self._add(at, weights, (*(v[index] for v in self.values), *self._fresh(at)))

    def _fresh(self, at: Rows) -> Components:
        """The fresh normals of the rows' intervals."""
        index = self._index(at)
        draws = moved(self.nodes[at], index.device)
        return self.keys[index].normals_each(draws, (self.clock.components, *self.shape), self.dtype).unbind(1)

    def _add(self, at: Rows, weights: Floats, parts: Components) -> None:
        """Totals += weights·parts at some rows; weights […, k, k or 2k]."""
        index = self._index(at)
        for total, row in zip(self.totals, self._factors(weights), strict=True):
            total.index_add_(0, index, weighted(row, parts).expand(len(at), *self.shape))

    def _factors(self, matrices: Floats) -> list[list[Weight]]:
        """The entries of one matrix as numbers, or of one a row as tensors that multiply the rows' states."""
        if matrices.ndim == 2:
            return [list(row) for row in matrices.tolist()]
        size = matrices.shape[-2:]
        return [[self._column(matrices[:, i, j]) for j in range(size[1])] for i in range(size[0])]

    def _column(self, values: Floats | Bools) -> Tensor:
        """One value a row, shaped to multiply states [m, *shape], floats in the path's dtype."""
        column = moved(values, self.keys.values.device)
        column = column.to(self.dtype) if column.is_floating_point() else column
        return column.view(-1, *(1,) * len(self.shape))

    def _index(self, at: Rows) -> Tensor:
        return moved(at, self.keys.values.device)
