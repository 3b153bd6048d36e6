"""How often each level's difference fires: from calls or given, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Numbers
from multidrift.methods.multilevel.draws import Draws

Probabilities = float | Numbers | Sequence[Sequence[float]]


def from_calls(calls: Sequence[float], increments: int, levels: Sequence[str], final: int = 1) -> Floats:
    """Probabilities [increments, levels] that give these expected calls of each difference.

    `final` calls after the last step are the top level's: p = (calls − final)/increments there, calls/increments, at
    most 1, below.
    """
    wanted = np.asarray(calls, dtype=np.float64)
    require(wanted.shape == (len(levels),), "calls", calls, f"one number for each of {', '.join(levels)}")
    require(
        bool(np.all(wanted <= increments + final)), "calls", calls, f"at most one call a step, {increments + final}"
    )
    enough = bool(np.all(wanted[:-1] > 0)) and wanted[-1] > final
    require(enough, "calls", calls, f"positive numbers, the last above {final}")
    wanted = np.append(wanted[:-1], wanted[-1] - final)
    return np.tile(np.minimum(wanted / increments, 1.0), (increments, 1))


def given(probabilities: Probabilities, increments: int, levels: Sequence[str]) -> Floats:
    """Probabilities [increments, levels] from one number, one a level, or one a step and level."""
    try:
        values = np.asarray(probabilities, dtype=np.float64)
    except ValueError:
        values = np.zeros(0)
    right = values.shape in ((), (len(levels),), (increments, len(levels)))
    require(
        right, "probabilities", values.shape, f"a number, or shape ({len(levels)},) or ({increments}, {len(levels)})"
    )
    inside = bool(np.all((values > 0) & (values <= 1)))
    require(inside, "probabilities", probabilities, "numbers in (0, 1]")
    return np.broadcast_to(values, (increments, len(levels))).copy()


def expected_calls(probabilities: Floats, final: int, draws: Draws) -> Floats:
    """Expected calls of each level, and `final` more of the top one.

    A network is needed where its own difference or the one above fires. Where both fire with equal weights, as two
    levels that always fire do, it cancels out of the telescoping sum and is not called: independent draws of equal p,
    and evenly spread ones where both levels weigh 1. (Evenly spread draws of two levels may also coincide with another
    weight by chance; that saves calls which are not counted here.)
    """
    above = np.concatenate([probabilities[:, 1:], np.zeros_like(probabilities[:, :1])], axis=1)
    needed = 1.0 - (1.0 - probabilities) * (1.0 - above)
    if draws == "independent":
        cancels = np.where(probabilities == above, probabilities * above, 0.0)
    else:
        cancels = _weighs_one(probabilities) * _weighs_one(above)
    calls = (needed - cancels).sum(axis=0)
    calls[-1] += final
    return np.asarray(calls)


def _weighs_one(probabilities: Floats) -> Floats:
    """P that an evenly spread draw fires at a step and at both its neighbours, so that the step weighs exactly 1.

    Steps left out are spread as evenly as firings are, so that three in a row miss one with the sum of their 1 − p.
    """
    missing = 1.0 - probabilities
    of_three = missing.copy()
    of_three[1:] += missing[:-1]
    of_three[:-1] += missing[1:]
    return np.maximum(1.0 - of_three, 0.0)
