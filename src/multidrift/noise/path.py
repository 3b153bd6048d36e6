"""One Brownian path per (seed, sample), read in increments at any points, in any order, on any grid.

The path is a binary tree over the process's fixed lattice. A node holds the increment over its interval, scaled to
unit variance; its two halves follow from it by a rotation with one fresh normal (the Brownian bridge):

    g_left = √f·g + √(1−f)·ξ        g_right = √(1−f)·g − √f·ξ        f = the left half's share of the variance

so no large sum is ever subtracted and nothing overflows however steep the clock is. A query inside a cell splits it
with the cell's own normal: increments add up exactly everywhere, and are Brownian down to one query a cell. A finer
grid than that sees a path that is smooth within cells, with the right increment over each.

Reading forward costs about 2 + log₂(cells/queries) draws a query and keeps a few states, the intervals still ahead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multidrift.noise.counter import Keys
from multidrift.processes.errors import require
from multidrift.processes.lattice import NoiseClock

_ROOT, _TAIL = 0, -1  # draws of the whole tree's increment and of the cell below the lattice; node i draws i ≥ 1
_DRAWN_AT_ONCE = 1 << 20  # normals drawn in one go: enough to hide launch costs, small against a batch of states


@dataclass
class _Segment:
    """An interval ahead of the cursor with its unit-variance increment; `bridge` once a query has cut the cell."""

    low: float
    high: float
    node: int
    depth: int
    value: Tensor
    bridge: Tensor | None = None
    share: float = 0.0  # the share of a cut cell's variance that was read already


class BrownianPath:
    """The path of a batch of samples on one process's noise clock.

    `keys` are the samples' keys, `shape` one sample's shape. `normal(a, b)` gives (W(b) − W(a)) / √(v(b) − v(a)),
    [n, *shape]: a standard normal, whose joint law over all queries is that of one Brownian motion. The object
    remembers where it stopped reading, so one thread reads it at a time; reading in order is fastest. Increments add up
    exactly for any points; they are independent normals as long as no two queries fall into one cell of the lattice.
    """

    def __init__(self, clock: NoiseClock, keys: Keys, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.clock, self.keys, self.shape, self.dtype = clock, keys, tuple(shape), dtype
        self.draws = 0  # normals of one whole batch drawn so far: what the path has cost
        self._ahead: list[_Segment] = []  # the nearest last
        self._drawn: dict[int, Tensor] = {}  # normals of nodes that the next cuts use
        self._position = math.nan

    def normal(self, low: float, high: float) -> Tensor:
        """The path's increment from lattice coordinate `low` to `high`, scaled to unit variance."""
        self._check(low, high)
        if low != self._position:
            self._seek(low)
        return self._advance(high, self.clock.log_variance(low, high))

    def _check(self, low: float, high: float) -> None:
        lattice = self.clock.lattice
        bottom = -math.inf if lattice.unbounded_below else lattice.low
        inside = bottom <= low < high <= lattice.high and (low >= lattice.low or low == -math.inf < lattice.low <= high)
        require(inside, "interval", (low, high), f"increasing ends between {lattice.low:g} and {lattice.high:g}")

    def _seek(self, position: float) -> None:
        """Start reading anew at `position`."""
        lattice = self.clock.lattice
        self._drawn.clear()
        self._ahead = [_Segment(lattice.low, lattice.high, 1, 0, self._draw([_ROOT])[0])]
        self._position = lattice.low
        if position == -math.inf:
            self._ahead.append(_Segment(-math.inf, lattice.low, _TAIL, lattice.depth, self._draw([_TAIL])[0]))
            self._position = position
        elif position > lattice.low:
            self._advance(position, math.inf)

    def _advance(self, target: float, log_variance: float) -> Tensor:
        """Move to `target` and return the sum of what was passed in units of exp(log_variance/2); inf: 0."""
        total = torch.zeros((), dtype=self.dtype, device=self.keys.values.device)
        while self._position < target:
            segment = self._ahead[-1]
            if segment.high > target and segment.depth < self.clock.lattice.depth:
                self._halve(target)
                continue
            unit = self._unit(segment, log_variance)
            for weight, normal in self._read(segment, target):
                if unit:
                    total = total + (weight * unit) * normal
            self._position = min(target, segment.high)
            if segment.high <= target:
                self._ahead.pop()
        return total

    def _unit(self, segment: _Segment, log_variance: float) -> float:
        """The standard deviation of an interval's increment in the units asked for; 0 where it has no noise."""
        own = self.clock.log_variance(segment.low, segment.high)
        return 0.0 if own == -math.inf or log_variance == math.inf else math.exp(0.5 * (own - log_variance))

    def _read(self, segment: _Segment, target: float) -> list[tuple[float, Tensor]]:
        """What of `segment` lies before `target` and was not handed out yet: weights of its two normals."""
        before, share = segment.share, 1.0
        if segment.high > target:
            share = self._share(segment.low, target, segment.high)
            segment.bridge = self._normal(segment, target) if segment.bridge is None else segment.bridge
        segment.share = share
        if segment.bridge is None:
            return [(share - before, segment.value)]
        spread = math.sqrt(share * (1.0 - share)) - math.sqrt(before * (1.0 - before))
        return [(share - before, segment.value), (spread, segment.bridge)]

    def _halve(self, target: float) -> None:
        """Replace the nearest interval by its two halves."""
        parent = self._ahead[-1]
        fresh = self._normal(parent, target)
        middle = 0.5 * (parent.low + parent.high)
        share = self._share(parent.low, middle, parent.high)
        near, far = math.sqrt(share), math.sqrt(1.0 - share)
        left = near * parent.value + far * fresh
        right = far * parent.value - near * fresh
        depth = parent.depth + 1
        self._ahead[-1:] = [
            _Segment(middle, parent.high, 2 * parent.node + 1, depth, right),
            _Segment(parent.low, middle, 2 * parent.node, depth, left),
        ]

    def _share(self, low: float, middle: float, high: float) -> float:
        """The share of an interval's variance that lies below `middle`; a half where there is none at all."""
        whole = self.clock.log_variance(low, high)
        return 0.5 if whole == -math.inf else min(1.0, math.exp(self.clock.log_variance(low, middle) - whole))

    def _normal(self, segment: _Segment, target: float) -> Tensor:
        """The fresh normal of this interval, drawn together with those that the way down to `target` will need."""
        if segment.node not in self._drawn:
            nodes = self._way_down(segment, target)
            self._drawn = dict(zip(nodes, self._draw(nodes).unbind(0), strict=True))
        return self._drawn.pop(segment.node)

    def _way_down(self, segment: _Segment, target: float) -> list[int]:
        """The nodes to be cut from `segment` down until `target` is an end, as many as are drawn in one go."""
        most = max(1, _DRAWN_AT_ONCE // max(1, len(self.keys.values) * math.prod(self.shape)))
        low, high, node = segment.low, segment.high, segment.node
        nodes = [node]
        for _ in range(min(self.clock.lattice.depth - segment.depth, most - 1)):
            middle = 0.5 * (low + high)
            if target == middle:
                break
            low, high, node = (low, middle, 2 * node) if target < middle else (middle, high, 2 * node + 1)
            nodes.append(node)
        return nodes

    def _draw(self, nodes: Sequence[int]) -> Tensor:
        self.draws += len(nodes)
        return self.keys.normals(nodes, self.shape, self.dtype)
