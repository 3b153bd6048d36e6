"""What a network predicts, as one affine map: prediction = c_x·x + c_0·x_0, with x = α·x_0 + σ·ε."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats

Prediction = Literal["epsilon", "sample", "v_prediction", "flow", "score"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


def _affine(kind: Prediction, alpha: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """(c_x, c_0) of one kind of prediction."""
    one = np.ones_like(alpha)
    match kind:
        case "sample":
            return 0.0 * one, one
        case "epsilon":  # ε = (x − α x_0)/σ
            return 1.0 / sigma, -alpha / sigma
        case "v_prediction":  # v = α ε − σ x_0
            return alpha / sigma, -(alpha**2) / sigma - sigma
        case "flow":  # u = ε − x_0
            return 1.0 / sigma, -alpha / sigma - 1.0
        case "score":  # s = −ε/σ
            return -1.0 / sigma**2, alpha / sigma**2


def conversion(source: Prediction, target: Prediction, alpha: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """(a, b) with target = a·x + b·source, elementwise over times; exactly (0, 1) for equal kinds.

    Raises MultidriftError where the source says nothing of the data: ε and the score at α = 0.
    """
    if source == target:
        return np.zeros_like(alpha), np.ones_like(alpha)
    source_x, source_0 = _affine(source, alpha, sigma)
    target_x, target_0 = _affine(target, alpha, sigma)
    if np.any(source_0 == 0):
        raise MultidriftError(
            f"predicts: got {source!r} at a time where α = 0; there it takes 'sample', 'v_prediction' or 'flow'"
        )
    return target_x - target_0 * source_x / source_0, target_0 / source_0
