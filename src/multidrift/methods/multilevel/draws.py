"""When a difference of levels fires: three ways to draw with P(fire at n) = p_n.

`independent` is the papers' Bernoulli draw. The other two spread the firings evenly: with P_n = p_1 + … + p_n they fire
where ⌊P_n + u⌋ > ⌊P_{n−1} + u⌋, for one uniform offset u (`systematic`) or u = 1/2 (`midpoint`).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multidrift.basics.numbers import Floats

Bools = NDArray[np.bool_]
Draws = Literal["independent", "systematic", "midpoint"]
DRAWS: tuple[Draws, ...] = get_args(Draws)


def fire(draws: Draws, probabilities: Floats, uniforms: Floats) -> Bools:
    """Which steps fire, bool [steps], for probabilities [steps] in (0, 1] and uniforms [steps] in (0, 1).

    `independent` uses one uniform a step, `systematic` the first alone, `midpoint` none.
    """
    if draws == "independent":
        return uniforms < probabilities
    offset = uniforms[0] if draws == "systematic" else 0.5
    # Rounding keeps sums such as ten times 0.1 on the whole numbers they stand for.
    sums = np.round(np.concatenate([[0.0], np.cumsum(probabilities)]), 9) + offset
    return np.diff(np.floor(sums)) > 0


def weigh(draws: Draws, fires: Bools, probabilities: Floats, lengths: Floats) -> Floats:
    """The weight of each step's difference, float64 [steps], 0 where it does not fire.

    `independent`: w_n = 1/p_n. The evenly spread draws give each firing a cell, half-way to the firings beside it or to
    the end of the run, and w_n h_n = Σ h over the cell, in step lengths h_n that say how much of the state a step
    replaces: a firing stands for the steps around it. So Σ w_n h_n = Σ h_n, cell by cell, and a step whose neighbours
    fire too weighs exactly 1. On the drift clock itself, which grows by orders of magnitude, the last steps of a cell
    would set its weight. Where less than one firing is expected the weight stays 1/p_n: it may not fire at all, and
    must make up for that when it does.
    """
    if draws == "independent" or not fires.any() or probabilities.sum() < 1.0:
        return np.where(fires, 1.0 / probabilities, 0.0)
    weights = np.zeros(len(fires))
    weights[fires] = shares(fires, probabilities) @ lengths / lengths[fires]
    return weights


def shares(fires: Bools, probabilities: Floats) -> Floats:
    """How much of each step belongs to the cell of each firing, float64 [firings, steps]; a step's shares add up to 1.

    Half-way is measured in P, the probability that lies between two firings; a step that an edge cuts is shared.
    """
    steps = len(fires)
    fired, sums = np.flatnonzero(fires), np.concatenate([[0.0], np.cumsum(probabilities)])
    middles = (sums[fired[:-1] + 1] + sums[fired[1:]]) / 2
    # In units of steps, where the edge between two firings that touch is a whole number exactly.
    edges = np.concatenate([[0.0], np.interp(middles, sums, np.arange(steps + 1.0)), [float(steps)]])
    before = np.clip(edges[:, None] - np.arange(steps), 0.0, 1.0)
    return np.diff(before, axis=0)
