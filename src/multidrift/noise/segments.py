"""An interval of a Brownian path and what its normals become when it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.noise.lattice import NoiseClock, Places

Components = tuple[Tensor, ...]  # one tensor for each of the k normals
Weight = float | Tensor


@dataclass(eq=False, slots=True)
class Segment:
    """An interval ahead of the cursor with its normals; a cell that a query cuts has its fresh ones too."""

    low: float
    high: float
    node: int
    depth: int
    values: Components = ()
    fresh: Components = ()


def halves(rotation: Sequence[Sequence[Weight]], parts: Components) -> tuple[Components, Components]:
    """The normals of an interval's two halves from its own and the fresh ones."""
    k = len(rotation) // 2
    mixed = tuple(weighted(row, parts) for row in rotation)
    return mixed[:k], mixed[k:]


def prefix(clock: NoiseClock, low: Places, point: Places, high: Places, first: Places, last: Places) -> Floats:
    """[…, k, 2k]: the increment from `low` to a `point` inside [low, high], from the whole's normals and fresh ones.

    In the units of a query [first, last].
    """
    k = clock.components
    return clock.reach(low, point, first, last) @ clock.rotation(low, point, high)[..., :k, :]


def weighted(weights: Sequence[Weight], parts: Components) -> Tensor:
    """Σ weight·part, without the parts of weight 0; a weight is a number or one for each row of the parts."""
    total: Tensor | None = None
    for weight, part in zip(weights, parts, strict=False):
        if isinstance(weight, Tensor) or weight != 0:
            total = weight * part if total is None else _added(total, weight, part)
    return torch.zeros_like(parts[0]) if total is None else total


def _added(total: Tensor, weight: Weight, part: Tensor) -> Tensor:
    """Total + weight·part, without a tensor in between where the weight is a number."""
    return total + weight * part if isinstance(weight, Tensor) else torch.add(total, part, alpha=weight)


def cut(clock: NoiseClock, segment: Segment, point: Places, first: float, last: Places) -> Floats:
    """[…, k, 2k]: the weights of a cut cell's normals between what was read of it, up to `first`, and `point`."""
    ends = (segment.low, segment.high)
    if isinstance(point, float) and point == segment.high:
        whole = clock.reach(*ends, first, last)
        weights = np.concatenate((whole, np.zeros_like(whole)), axis=-1)
    else:
        weights = prefix(clock, segment.low, point, segment.high, first, last)
    if first > segment.low:
        weights = weights - prefix(clock, segment.low, first, segment.high, first, last)
    return weights


@dataclass(frozen=True)
class Reading:
    """A query: the intervals that it passes, from its low end to its high one, and the weights of their normals.

    Of each interval [k, 2k], for its own normals and the fresh ones; these are 0 where it is passed as a whole.
    """

    ends: tuple[float, float]
    passed: Sequence[Segment]
    weights: Sequence[Sequence[Sequence[float]]]


def readings(clock: NoiseClock, segments: Sequence[Segment], low: float, points: Sequence[float]) -> list[Reading]:
    """The queries from `low` to the first of the rising points, from there to the second, …, along rising intervals.

    Every point is an end of an interval, or cuts one that has its fresh normals.
    """
    ends = list(zip([low, *points[:-1]], points, strict=True))
    passed: list[Sequence[Segment]] = []
    place = 0
    for _, high in ends:
        first = place
        while segments[place].high < high:
            place += 1
        passed.append(segments[first : place + 1])
        place += segments[place].high == high
    counts = [len(some) for some in passed]
    weights = _weights(
        clock, [segment for some in passed for segment in some], np.repeat(np.array(ends), counts, axis=0)
    )
    parts = np.split(weights, np.cumsum(counts)[:-1])
    return [Reading(*one) for one in zip(ends, passed, (part.tolist() for part in parts), strict=True)]


def _weights(clock: NoiseClock, segments: Sequence[Segment], queries: Floats) -> Floats:
    """[m, k, 2k]: what the normals of each interval add to the increment over a query [first, last], queries [m, 2]."""
    low, high = np.array([(segment.low, segment.high) for segment in segments]).T
    first, last = queries.T
    k = clock.components
    weights = np.zeros((len(segments), k, 2 * k))
    weights[..., :k] = clock.reach(low, high, first, last)
    for point, inside, sign in ((last, last < high, 1.0), (first, first > low, -1.0)):
        at = np.flatnonzero(inside)
        if len(at):
            part = prefix(clock, low[at], point[at], high[at], first[at], last[at])
            weights[at] = part if sign > 0 else weights[at] - part
    return weights
