"""An interval of a Brownian path and what its normals become when it is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.noise.lattice import NoiseClock, Places

Components = tuple[Tensor, ...]  # one tensor for each of the k normals
Weight = float | Tensor


@dataclass
class Segment:
    """An interval ahead of the cursor with its normals; a cell that a query has cut has its fresh ones too."""

    low: float
    high: float
    node: int
    depth: int
    values: Components
    fresh: Components = ()
    read_to: float = -math.inf  # what of a cut cell was handed out already


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
    """[…, k, 2k]: the weights of a cut cell's normals between what was read of it and `point`."""
    ends = (segment.low, segment.high)
    if isinstance(point, float) and point == segment.high:
        whole = clock.reach(*ends, first, last)
        weights = np.concatenate((whole, np.zeros_like(whole)), axis=-1)
    else:
        weights = prefix(clock, segment.low, point, segment.high, first, last)
    if segment.read_to > segment.low:
        weights = weights - prefix(clock, segment.low, segment.read_to, segment.high, first, last)
    return weights
