"""Halving many intervals of a Brownian path at once, until the points that are read next are ends of some."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats, moved
from multidrift.noise.lattice import NoiseClock
from multidrift.noise.segments import Segment

Nodes = Sequence[int]
Draw = Callable[[Sequence[Nodes]], Iterator[Tensor]]  # groups of nodes -> of each its normals [nodes, n, k, *shape]
Family = tuple[list[Segment], list[Segment], list[Segment]]  # intervals of one depth, their left halves, their right


def opened(clock: NoiseClock, segments: Sequence[Segment], points: Sequence[float], draw: Draw) -> list[Segment]:
    """The same intervals, halved until each of the rising points is an end of one or lies in a cell of the lattice.

    Such a cell has its fresh normals then. The result rises, too.
    """
    layers: list[list[Segment]] = [[] for _ in range(clock.lattice.depth + 1)]
    for segment in segments:
        layers[segment.depth].append(segment)
    whole: list[Segment] = []
    families: list[Family] = []
    for layer, below in pairwise(layers):
        parents: list[Segment] = []
        for segment in layer:
            (parents if _holds(segment, points) else whole).append(segment)
        if parents:
            lefts, rights = _without_values(parents)
            families.append((parents, lefts, rights))
            below.extend(lefts + rights)
    cut = [cell for cell in layers[-1] if not cell.fresh and _holds(cell, points)]
    groups = [*(parents for parents, _, _ in families), cut]
    normals = draw([[segment.node for segment in group] for group in groups if group])
    for family, rotations in zip(families, _rotations(clock, families), strict=True):
        _fill(family, rotations, next(normals))
    for cell, fresh in zip(cut, next(normals) if cut else (), strict=True):
        cell.fresh = fresh.unbind(1)
    return sorted(whole + layers[-1], key=lambda segment: segment.low)


def _holds(segment: Segment, points: Sequence[float]) -> bool:
    """Whether one of the points lies inside."""
    place = bisect_right(points, segment.low)
    return place < len(points) and points[place] < segment.high


def _without_values(parents: Sequence[Segment]) -> tuple[list[Segment], list[Segment]]:
    """The left and the right halves of some intervals, their normals still to be found."""
    lefts, rights = [], []
    for segment in parents:
        middle = 0.5 * (segment.low + segment.high)
        lefts.append(Segment(segment.low, middle, 2 * segment.node, segment.depth + 1))
        rights.append(Segment(middle, segment.high, 2 * segment.node + 1, segment.depth + 1))
    return lefts, rights


def _rotations(clock: NoiseClock, families: Sequence[Family]) -> list[Floats]:
    """The rotations of each family's intervals, [intervals, 2k, 2k]."""
    ends = [(one.low, half.high, one.high) for family in families for one, half in zip(*family[:2], strict=True)]
    if not ends:
        return []
    size = 2 * clock.components
    matrices = np.empty((len(ends), size, size))
    matrices[:] = clock.rotation(*np.array(ends).T)  # one for all of them, where they are alike
    return np.split(matrices, np.cumsum([len(parents) for parents, _, _ in families])[:-1])


def _fill(family: Family, rotations: Floats, fresh: Tensor) -> None:
    """Give the halves their normals, from those of their wholes and the fresh ones [intervals, n, k, *shape]."""
    parents, *halves = family
    k = len(parents[0].values)
    parts = [torch.stack([segment.values[c] for segment in parents]) for c in range(k)]
    parts += fresh.unbind(2)
    factors = moved(rotations, fresh).view(*rotations.shape, *(1,) * (parts[0].ndim - 1))
    mixed = [_mixed(row.unbind(1), parts).unbind(0) for row in factors.unbind(1)]
    for side, rows in zip(halves, (mixed[:k], mixed[k:]), strict=True):
        for segment, *values in zip(side, *rows, strict=True):
            segment.values = tuple(values)


def _mixed(weights: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """Σ weight·part, one weight a row, rounded as `torch.add(total, part, alpha=weight)` rounds."""
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total.addcmul_(weight, part)
    return total
