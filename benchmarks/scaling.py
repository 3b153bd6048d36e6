"""How error falls with cost over the levels of a ladder: γ, and how well five networks determine it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multidrift.planning.scaling import power_law

Floats = NDArray[np.float64]
RESAMPLES = 1000


def report(per_image: Floats, costs: Sequence[float], names: Sequence[str]) -> dict[str, object]:
    """γ and floor of errors [levels, images], without each level in turn, and a 95% interval that resamples images."""
    gamma, floor = power_law(per_image.mean(axis=1), costs)
    without = {
        name: power_law(np.delete(per_image.mean(axis=1), k), np.delete(np.asarray(costs), k))[0]
        for k, name in enumerate(names)
    }
    rng, images = np.random.default_rng(0), per_image.shape[1]
    drawn = [
        power_law(per_image[:, rng.integers(images, size=images)].mean(axis=1), costs)[0] for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"gamma": gamma, "floor": floor, "without": without, "interval": [float(low), float(high)]}
