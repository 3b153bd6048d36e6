"""Two warnings a plan can give before anything is run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multidrift.basics.numbers import Floats


class PlanWarning(UserWarning):
    """A plan that will run, but is likely to disappoint."""


_MORE = "give it more calls, or the run more steps"


def overshoot(weights: Floats, relative: Floats, levels: Sequence[str], remedy: str = _MORE) -> str | None:
    """Where one kick (weight times relative step) moves the state further than its own goal.

    `weights` [draws, increments, levels]; `relative` [increments]: the share of the state that a step replaces;
    `remedy`: what to do about it.
    """
    kicks = weights * relative[None, :, None]
    worst = np.unravel_index(int(np.argmax(kicks)), kicks.shape)
    if kicks[worst] <= 1.0 + 1e-9:
        return None
    return (
        f"overshoot: level {levels[int(worst[2])]} fires with weight {weights[worst]:.1f} at step {int(worst[1])}, "
        f"where a step replaces {relative[worst[1]]:.0%} of the state; {remedy}"
    )


def silent(weights: Floats, levels: Sequence[str]) -> str | None:
    """Where a level never fires at all, `weights` [draws, increments, levels]."""
    for k, name in enumerate(levels):
        if not weights[:, :, k].any():
            return f"silent: the difference of level {name} never fires in this plan; give it more calls"
    return None


def resonance(fires: Floats, probabilities: Floats, lengths: Floats, levels: Sequence[str]) -> str | None:
    """Where evenly spread firings keep meeting the same phase of a grid whose steps alternate in length.

    Compares Σ (1/p_n) h_n over the firings with Σ h_n, for step lengths h (the share of the state a step replaces):
    evenly spread firings of a smooth grid agree to about one gap between firings, 1/firings of the whole.
    """
    for k, name in enumerate(levels):
        fired = fires[:, :, k] > 0
        for draw in fired:
            seen = float((lengths / probabilities[:, k])[draw].sum() / lengths.sum())
            if draw.any() and abs(seen - 1.0) > max(2.0 / draw.sum(), 0.1):
                return (
                    f"resonance: level {name} fires where steps are {seen:.0%} of the average length: its probability "
                    "keeps time with the grid; change the calls or the grid a little, or use draws='independent'"
                )
    return None
