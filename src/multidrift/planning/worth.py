"""Is a ladder worth it? What a calibration says before anything is tried."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from multidrift.basics.checks import checked
from multidrift.planning.calibration import Calibration
from multidrift.planning.scaling import ScalingFit

_EXPENSIVE = 0.5  # of the top level's cost: a cheapest level above it leaves nothing to save
_SIGNIFICANT = 2.0  # standard errors
_SAME = 0.01  # of the error: a gap that is surely below it is none
_NEARER = 1.5  # times: a top level that is not as much nearer to the truth than the cheapest is hardly better
_STRAIGHT = 1.5  # times the most that neighbours differ by: levels whose ends are farther apart go somewhere


@dataclass(frozen=True)
class Worth:
    """`answer`: "yes", "no" or "unclear"; `reason`: why, in a sentence or two."""

    answer: str
    reason: str


@checked
def worth(calibration: Calibration) -> Worth:
    """Whether calling several levels can pay on this ladder, by costs, errors and γ.

    "no" where the levels are equally good (their errors surely within 1%, or by γ the top one less than 1.5 times
    nearer to the truth, and no farther from the cheapest than neighbours are) or equally expensive, and where γ < 2
    (the upper end of its interval): there ML-EM's theorem promises no gain over a cheaper level. "unclear" where the
    intervals do not tell, or there are too few levels for γ. A "yes" says that a gain is possible; `md.auto` measures
    whether one is made.
    """
    names = calibration.names
    bottom, top = names[0], names[-1]
    alike, told = _gap(calibration)
    if alike == "same":
        return Worth("no", f"{told}: take {bottom} alone")
    share = calibration.cost(bottom) / calibration.cost(top) if calibration.cost(top) > 0 else 1.0
    if share > _EXPENSIVE:
        what = f"a call of {bottom} costs {share:.0%} of one of {top} at batches of {calibration.batch}"
        return Worth("no", f"{what}: there is little to save by calling it instead; take {top} alone, with fewer steps")
    gamma = calibration.gamma
    if gamma is None:
        return Worth("unclear", f"{len(names)} levels are too few for γ; md.auto measures what they give")
    if alike == "unclear" and calibration.held_out:
        return Worth("unclear", f"{told}; take more of them")
    return _by_gamma(gamma, calibration, wandering=alike != "better" and _wander(calibration))


def _by_gamma(gamma: ScalingFit, calibration: Calibration, *, wandering: bool) -> Worth:
    low, high = gamma.interval
    found = f"γ = {gamma.gamma:.2f} ({low:.2f} to {high:.2f})"
    bottom, top = calibration.names[0], calibration.names[-1]
    most, least = ((calibration.cost(top) / calibration.cost(bottom)) ** (1.0 / end) for end in (low, high))
    if high < 2:
        return Worth(
            "no",
            f"{found} is below 2: accuracy is so cheap here that the theorem promises nothing; take the best level "
            "alone, with fewer steps",
        )
    if least < _NEARER:
        what = f"by {found} {top} is {least:.2f} to {most:.2f} times nearer to the truth than {bottom}"
        if most < _NEARER and wandering:
            return Worth("no", f"{what}: take {bottom} alone")
        return Worth("unclear", f"{what}: too little is known")
    if low >= 2:
        return Worth("yes", f"{found} is above 2, where a path costs about what one call of the best level does")
    return Worth("unclear", f"the interval of {found} holds 2, below which the theorem promises nothing")


def _wander(calibration: Calibration) -> bool:
    """Whether cheapest and top level differ by no more than neighbours do: then each errs in a direction of its own.

    Where every level goes on in the direction of the one before, neighbours may differ by as much at the top, too.
    """
    at = [calibration.levels.index(name) for name in calibration.names]
    between = calibration.differences.sum(axis=2)
    return bool(between[at[0], at[-1]] <= _STRAIGHT * max(between[a, b] for a, b in pairwise(at)))


def _gap(calibration: Calibration) -> tuple[Literal["same", "better", "unclear"], str]:
    """Whether the top level is better than the cheapest one by their errors on images, and what shows it."""
    names = calibration.names
    bottom, top = (calibration.levels.index(name) for name in (names[0], names[-1]))
    between, square = calibration.differences[bottom, top].sum(), calibration.differences[top, top].sum()
    if between <= 1e-12 * square:
        return "same", f"{names[0]} and {names[-1]} say the same"
    if calibration.errors.shape[1] < 2:
        return "unclear", "there are no errors on images"
    gap = calibration.errors[0] - calibration.errors[-1]
    mean, half = float(np.mean(gap)), _SIGNIFICANT * float(gap.std(ddof=1)) / math.sqrt(len(gap))
    if mean > half:
        return "better", f"{names[-1]} denoises better than {names[0]}"
    if mean + half < _SAME * float(np.mean(calibration.errors[0])):
        return "same", f"{names[-1]} denoises no better than {names[0]} on {len(gap)} images"
    return "unclear", f"{len(gap)} images do not tell whether {names[-1]} denoises better than {names[0]}"
