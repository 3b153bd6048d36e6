"""Which substeps of a large step fire: three ways to draw, each a few numbers for all samples at once.

With q_i the probability that substep i fires, its kick stands for 1/q_i substeps. `independent` fires each substep by a
coin of its own, `single` exactly one of 1 … K−1 (at substep 0 there is nothing to correct), `midpoint` none: it kicks
with the whole step at the middle of its drift clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multidrift.basics.numbers import Floats

Integers = NDArray[np.intp]
SubstepDraws = Literal["independent", "single", "midpoint"]
Spread = Literal["clock", "steps"]
SUBSTEP_DRAWS: tuple[SubstepDraws, ...] = get_args(SubstepDraws)
_ALMOST_CERTAIN = 1.0 - 1e-12  # a coin of probability 1 would hold infinitely many points
SPREADS: tuple[Spread, ...] = get_args(Spread)


@dataclass(frozen=True)
class Fired:
    """Which samples fired at which substep: `rows`, `substeps` and `weights` (1/q), [m] each; a row may come often."""

    rows: Integers
    substeps: Integers
    weights: Floats


def probabilities(draws: SubstepDraws, spread: Spread, dtau: Floats) -> Floats:
    """Q of each substep, [K], from the substeps' lengths on the drift clock.

    `spread="clock"` draws in proportion to these, so that every kick has the size of the whole step; `"steps"` draws
    all alike, as the papers do. Of `single`, substep 0 never fires.
    """
    lengths = np.abs(dtau) if spread == "clock" else np.ones_like(dtau)
    if draws == "single":
        lengths = np.append(0.0, lengths[1:])
    return np.asarray(lengths / lengths.sum())


def fire_substeps(draws: SubstepDraws, q: Floats, count: int, uniforms: Callable[[int], Floats]) -> Fired:
    """The firings of `count` samples in one step.

    `uniforms(j)` gives the j-th uniform in (0, 1) of every sample, [count]. The cost is that of the firings, whatever
    K: coins of probability q_i are points of a Poisson process on the clock Σ −log(1 − q_i), and those are drawn by
    their gaps. A firing of substep 0 is left out, as it corrects nothing.
    """
    if draws == "single":
        chosen = np.searchsorted(np.cumsum(q)[:-1], uniforms(0), side="right")
        chosen = np.maximum(chosen, 1)  # q[0] = 0, and a uniform cannot be 0, but rounding may
        return Fired(np.arange(count), chosen, 1.0 / q[chosen])
    clock = np.cumsum(-np.log1p(-np.minimum(q, _ALMOST_CERTAIN)))
    place = np.zeros(count)
    alive = np.arange(count)
    last = np.zeros(count, dtype=np.intp)  # several points on one substep are one firing
    rows: list[Integers] = []
    substeps: list[Integers] = []
    turn = 0
    while len(alive):
        place[alive] -= np.log(uniforms(turn)[alive])
        at = np.searchsorted(clock, place[alive], side="left")
        inside = at < len(q)
        alive, at = alive[inside], at[inside]
        fresh = at > last[alive]
        rows.append(alive[fresh])
        substeps.append(at[fresh])
        last[alive] = at
        turn += 1
    every, where = np.concatenate(rows), np.concatenate(substeps)
    return Fired(every, where, 1.0 / q[where])
