"""When a difference of levels fires, and with what weight: four ways to draw with P(fire at n) = p_n.

`independent` is the papers' Bernoulli draw. The others spread the firings evenly: with P_n = p_1 + … + p_n they fire
where ⌊P_n + u⌋ > ⌊P_{n−1} + u⌋, for one uniform offset u (`systematic`, `cells`) or u = 1/2 (`midpoint`). `systematic`
has unbiased weights; `cells` and `midpoint` weigh each firing by the steps around it, which is biased at the ends.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multidrift.basics.numbers import Floats

Bools = NDArray[np.bool_]
Draws = Literal["independent", "systematic", "cells", "midpoint"]
DRAWS: tuple[Draws, ...] = get_args(Draws)
_ROUNDING = 1e-9


def fire(draws: Draws, probabilities: Floats, uniforms: Floats) -> Bools:
    """Which steps fire, bool [steps], for probabilities [steps] in (0, 1] and uniforms [steps] in (0, 1).

    `independent` uses one uniform a step, `systematic` and `cells` the first alone, `midpoint` none.
    """
    if draws == "independent":
        return uniforms < probabilities
    offset = 0.5 if draws == "midpoint" else uniforms[0]
    # Rounding keeps sums such as ten times 0.1 on the whole numbers they stand for.
    sums = np.round(np.concatenate([[0.0], np.cumsum(probabilities)]), 9) + offset
    return np.diff(np.floor(sums)) > 0


def weigh(draws: Draws, fires: Bools, probabilities: Floats, lengths: Floats, factors: Floats | None = None) -> Floats:
    """The weight of each step's difference, float64 [steps], 0 where it does not fire.

    `independent`: w_n = 1/p_n. The evenly spread draws give each firing a cell, half-way to the firings beside it or to
    the end of the run, and w_n h_n = Σ h over the cell, in step lengths h_n that say how much of the state a step
    replaces: a firing stands for the steps around it. So Σ w_n h_n = Σ h_n, cell by cell, and a step whose neighbours
    fire too weighs exactly 1. On the drift clock itself, which grows by orders of magnitude, the last steps of a cell
    would set its weight. Where less than one firing is expected the weight stays 1/p_n: it may not fire at all, and
    must make up for that when it does.

    `systematic` multiplies these by `factors`, those of `unbiasing` (found here where they are None), so that every
    step weighs 1 on average over the offsets; cells alone do so far from the ends only.
    """
    if draws == "independent" or not fires.any() or probabilities.sum() < 1.0:
        return np.where(fires, 1.0 / probabilities, 0.0)
    weights = np.zeros(len(fires))
    weights[fires] = shares(fires, probabilities) @ lengths / lengths[fires]
    if draws == "systematic":
        beside, alone = unbiasing(probabilities, lengths) if factors is None else factors
        weights *= np.where(_beside_firings(fires), beside, alone)
    return weights


def unbiasing(probabilities: Floats, lengths: Floats) -> Floats:
    """What to multiply the weights of cells with, for E[w_n] = 1 over the offset, float64 [2, steps].

    Row 0 is for firings whose neighbours fire too, row 1 for the others. Those of row 0 weigh 1 and stay as they are,
    since levels that weigh the same cancel, if the others can make up for the rest by a factor of 2 at the most. The
    mean is exact, not sampled: firings change only where P_n + u is a whole number, between these offsets all weights
    are constant. Constant p with 1/p whole and even steps give w_n = 1/p; otherwise w_n stays below some 2/p_n.
    """
    sums, passed = np.cumsum(probabilities), np.concatenate([[0.0], np.cumsum(lengths)])
    offsets = np.unique(np.concatenate([[0.0, 1.0], np.round(-sums % 1.0, 9)]))
    ones, rest = np.zeros(len(probabilities)), np.zeros(len(probabilities))
    for low, high in pairwise(offsets.tolist()):
        fires = fire("cells", probabilities, np.array([0.5 * (low + high)]))
        beside, cells = _beside_firings(fires), np.zeros(len(fires))
        cells[fires] = np.diff(np.interp(_edges(fires, probabilities), np.arange(len(passed)), passed)) / lengths[fires]
        ones += (high - low) * beside
        rest += (high - low) * np.where(beside, 0.0, cells)
    missing = np.where(ones > 1.0 - _ROUNDING, 0.0, 1.0 - ones)
    kept = missing <= 2.0 * rest
    alone = np.where(kept, missing, 1.0) / np.maximum(np.where(kept, rest, ones + rest), _ROUNDING)
    return np.stack([np.where(kept, 1.0, alone), alone])


def shares(fires: Bools, probabilities: Floats) -> Floats:
    """How much of each step belongs to the cell of each firing, float64 [firings, steps]; a step's shares add up to 1.

    Half-way is measured in P, the probability that lies between two firings; a step that an edge cuts is shared.
    """
    before = np.clip(_edges(fires, probabilities)[:, None] - np.arange(len(fires)), 0.0, 1.0)
    return np.diff(before, axis=0)


def _edges(fires: Bools, probabilities: Floats) -> Floats:
    """Where the cells of the firings begin and end, float64 [firings + 1].

    In units of steps, where the edge between two firings that touch is a whole number exactly.
    """
    steps = len(fires)
    fired, sums = np.flatnonzero(fires), np.concatenate([[0.0], np.cumsum(probabilities)])
    middles = (sums[fired[:-1] + 1] + sums[fired[1:]]) / 2
    return np.concatenate([[0.0], np.interp(middles, sums, np.arange(steps + 1.0)), [float(steps)]])


def _beside_firings(fires: Bools) -> Bools:
    """The firings whose neighbours fire too, bool [steps]; beyond the ends everything does."""
    padded = np.concatenate([[True], fires, [True]])
    return np.asarray(padded[:-2] & fires & padded[2:])
