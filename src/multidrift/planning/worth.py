"""Is a ladder worth it? What a calibration says before anything is tried."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from multidrift.basics.checks import checked
from multidrift.planning.calibration import Calibration
from multidrift.planning.scaling import ScalingFit

_EXPENSIVE = 0.5  # of the top level's cost: a cheapest level above it leaves nothing to save
_SIGNIFICANT = 2.0  # standard errors


@dataclass(frozen=True)
class Worth:
    """`answer`: "yes", "no" or "unclear"; `reason`: why, in a sentence or two."""

    answer: str
    reason: str


@checked
def worth(calibration: Calibration) -> Worth:
    """Whether calling several levels can pay on this ladder, by costs, errors and γ.

    "no" where the levels are equally good or equally expensive, and where γ < 2 (the upper end of its interval):
    there ML-EM's theorem promises no gain over a cheaper level. "unclear" where the interval of γ holds 2, or there
    are too few levels for one. A "yes" says that a gain is possible; `md.auto` measures whether one is made.
    """
    names = calibration.names
    bottom, top = names[0], names[-1]
    equal = _equally_good(calibration)
    if equal is not None:
        return Worth("no", f"{equal}: take {bottom} alone")
    share = calibration.cost(bottom) / calibration.cost(top) if calibration.cost(top) > 0 else 1.0
    if share > _EXPENSIVE:
        what = f"a call of {bottom} costs {share:.0%} of one of {top} at batches of {calibration.batch}"
        return Worth("no", f"{what}: there is little to save by calling it instead; take {top} alone, with fewer steps")
    gamma = calibration.gamma
    if gamma is None:
        return Worth("unclear", f"{len(names)} levels are too few for γ; md.auto measures what they give")
    found = f"γ = {gamma.gamma:.2f} ({gamma.interval[0]:.2f} to {gamma.interval[1]:.2f})"
    return _by_gamma(gamma, found)


def _by_gamma(gamma: ScalingFit, found: str) -> Worth:
    low, high = gamma.interval
    if high < 2:
        return Worth(
            "no",
            f"{found} is below 2: accuracy is so cheap here that the theorem promises nothing; take the best level "
            "alone, with fewer steps",
        )
    if low >= 2:
        return Worth("yes", f"{found} is above 2, where a path costs about what one call of the best level does")
    return Worth("unclear", f"the interval of {found} holds 2, below which the theorem promises nothing")


def _equally_good(calibration: Calibration) -> str | None:
    """What shows that the top level is no better than the cheapest one; None where it is better."""
    names = calibration.names
    bottom, top = (calibration.levels.index(name) for name in (names[0], names[-1]))
    between, square = calibration.differences[bottom, top].sum(), calibration.differences[top, top].sum()
    if between <= 1e-12 * square:
        return f"{names[0]} and {names[-1]} say the same"
    if calibration.errors.shape[1] < 2:
        return None
    gap = calibration.errors[0] - calibration.errors[-1]
    standard_error = float(gap.std(ddof=1)) / math.sqrt(len(gap))
    if float(np.mean(gap)) > _SIGNIFICANT * standard_error:
        return None
    return f"{names[-1]} denoises no better than {names[0]} on {len(gap)} images"
