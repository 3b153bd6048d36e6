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
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.noise.counter import Keys
from multidrift.noise.descent import descend
from multidrift.noise.lattice import NoiseClock
from multidrift.noise.segments import Components, Segment, cut, halves, weighted

_ROOT, _TAIL = 0, -1  # draws of the whole tree's normals and of the cell below the lattice; node i draws i ≥ 1
_DRAWN_AT_ONCE = 1 << 20  # normals drawn in one go: enough to hide launch costs, small against a batch of states


class BrownianPath:
    """The path of a batch of samples on one process's noise clock.

    `keys` are the samples' keys, `shape` one sample's shape. `increment(a, b)` is the path's increment in the clock's
    units, [n, *shape] (of unit variance, for clocks with k = 1) or [n, *shape, 2]; its joint law over all queries is
    that of one Brownian motion. The object remembers where it stopped reading, so one thread reads it at a time;
    reading in order is fastest. Increments add up exactly for any points; they are independent as long as no two
    queries fall into one cell of the lattice.
    """

    def __init__(self, clock: NoiseClock, keys: Keys, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.clock, self.keys, self.shape, self.dtype = clock, keys, tuple(shape), dtype
        self.draws = 0  # normals of one whole batch drawn so far: what the path has cost
        self._ahead: list[Segment] = []  # the nearest last
        self._position = math.nan

    def increment(self, low: float, high: float) -> Tensor:
        """The path's increment from lattice coordinate `low` to `high`."""
        self._check(low, high)
        self._seek(low)
        passed = self._advance(high)
        totals = [torch.zeros((), dtype=self.dtype, device=self.keys.values.device)] * self.clock.components
        for segment, weights in zip(passed, self._weights(passed, low, high), strict=True):
            parts = (*segment.values, *segment.fresh)
            totals = [total + weighted(row, parts) for total, row in zip(totals, weights, strict=True)]
            segment.read_to = high
        return self._joined(totals)

    def _weights(self, passed: Sequence[Segment], low: float, high: float) -> list[list[list[float]]]:
        """For each interval passed in a query [low, high], the weights [k, k or 2k] of its normals."""
        ends = np.array([(segment.low, segment.high) for segment in passed])
        whole = self.clock.reach(ends[:, 0], ends[:, 1], low, high)
        found: list[list[list[float]]] = np.broadcast_to(whole, (len(passed), *whole.shape[-2:])).tolist()
        for index, segment in enumerate(passed):
            if segment.fresh:
                found[index] = cut(self.clock, segment, min(high, segment.high), low, high).tolist()
        return found

    def increments(self, low: float, points: Floats, rows: Tensor) -> Tensor:
        """The increments from `low` to points[r] > low of the samples rows[r], [m, *shape] (or [m, *shape, 2]).

        They are those that `increment` would give; the path may then be read on from `low`.
        """
        self._check(low, float(points.min()))
        self._check(low, float(points.max()))
        self._seek(low)
        return self._joined(descend(self.clock, self.keys, self.shape, self.dtype, self._ahead, low, points, rows))

    def _joined(self, totals: Sequence[Tensor]) -> Tensor:
        return totals[0] if len(totals) == 1 else torch.stack(list(totals), dim=-1)

    def _check(self, low: float, high: float) -> None:
        lattice = self.clock.lattice
        bottom = -math.inf if lattice.unbounded_below else lattice.low
        inside = bottom <= low < high <= lattice.high and (low >= lattice.low or low == -math.inf < lattice.low <= high)
        require(inside, "interval", (low, high), f"increasing ends between {lattice.low:g} and {lattice.high:g}")

    def _seek(self, position: float) -> None:
        """Start reading anew at `position`, unless that is where reading stopped."""
        if position == self._position:
            return
        lattice = self.clock.lattice
        self._ahead = [Segment(lattice.low, lattice.high, 1, 0, self._drawn([_ROOT])[0])]
        self._position = lattice.low
        if position == -math.inf:
            self._ahead.append(Segment(-math.inf, lattice.low, _TAIL, lattice.depth, self._drawn([_TAIL])[0]))
            self._position = position
        elif position > lattice.low:
            for segment in self._advance(position):
                segment.read_to = position

    def _advance(self, target: float) -> list[Segment]:
        """Move to `target`; returns the intervals passed, the last of which may be a cell that `target` cuts."""
        passed = []
        while self._position < target:
            if self._ahead[-1].high > target and self._ahead[-1].depth < self.clock.lattice.depth:
                self._descend(target)
                continue
            segment = self._ahead[-1]
            passed.append(segment)
            if segment.high > target and not segment.fresh:
                segment.fresh = self._drawn([segment.node])[0]
            self._position = min(target, segment.high)
            if segment.high <= target:
                self._ahead.pop()
        return passed

    def _descend(self, target: float) -> None:
        """Halve the nearest interval again and again until `target` is an end, or lies in a cell of the lattice."""
        parent = self._ahead.pop()
        lows, highs, nodes = [parent.low], [parent.high], [parent.node]
        for _ in range(parent.depth, self.clock.lattice.depth - 1):
            middle = 0.5 * (lows[-1] + highs[-1])
            if target == middle:
                break
            right = target > middle
            lows.append(middle if right else lows[-1])
            highs.append(highs[-1] if right else middle)
            nodes.append(2 * nodes[-1] + int(right))
        low, high = np.array(lows), np.array(highs)
        middles = 0.5 * (low + high)
        cells = parent.depth + len(nodes) == self.clock.lattice.depth and target != middles[-1]
        last = 2 * nodes[-1] + int(
            target > middles[-1]
        )  # where it is a cell, the target cuts it: drawn with the others
        rotations = np.broadcast_to(self.clock.rotation(low, middles, high), (len(low), *self._square)).tolist()
        fresh = self._in_chunks([*nodes, last] if cells else nodes)
        passed: list[Segment] = []  # left halves that end before the target, the first nearest to the cursor
        for step, (rotation, middle) in enumerate(zip(rotations, middles.tolist(), strict=True)):
            left, right_half = halves(rotation, (*parent.values, *fresh(step)))
            near = Segment(parent.low, middle, 2 * parent.node, parent.depth + 1, left)
            far = Segment(middle, parent.high, 2 * parent.node + 1, parent.depth + 1, right_half)
            if step == len(nodes) - 1:
                self._ahead += [far, near]
                if cells:
                    (near if target < middle else far).fresh = fresh(step + 1)
            elif target < middle:
                self._ahead.append(far)
                parent = near
            else:
                passed.append(near)
                parent = far
        self._ahead += reversed(passed)

    @property
    def _square(self) -> tuple[int, int]:
        """The shape of the clock's rotations."""
        return (2 * self.clock.components, 2 * self.clock.components)

    def _in_chunks(self, nodes: Sequence[int]) -> Callable[[int], Components]:
        """The normals of nodes[i] as a function of i that increases, drawn several at a time."""
        size = len(self.keys.values) * self.clock.components * max(1, math.prod(self.shape))
        most = max(1, _DRAWN_AT_ONCE // size)
        drawn: list[Components] = []

        def nth(index: int) -> Components:
            if index % most == 0:
                drawn[:] = self._drawn(nodes[index : index + most])
            return drawn[index % most]

        return nth

    def _drawn(self, nodes: Sequence[int]) -> list[Components]:
        """The k fresh normals of each node, [n, *shape] each."""
        self.draws += len(nodes)
        normals = self.keys.normals(nodes, (self.clock.components, *self.shape), self.dtype)
        return [node.unbind(1) for node in normals.unbind(0)]
