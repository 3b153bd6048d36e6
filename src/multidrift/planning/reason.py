"""Why a method was chosen, in one paragraph."""

from __future__ import annotations

from collections.abc import Sequence

from multidrift.planning.trial import Measured


def reason(
    best: Measured, ranked: Sequence[Measured], unseen: Measured, top: str, asked: str, target: float | None = None
) -> str:
    """What it is, what it is better than, and how that is known.

    - `best`, of the `ranked` ones that were tried, the best first; `unseen`: what it did on samples of its own;
      `top`: name of the top level; `asked`: the budget in words; `target`: the error, where that was asked for
    """
    kind, label, steps = best.candidate.kind, best.candidate.label, best.candidate.method.number_of_evaluations
    others = {
        "the top level alone": _first(ranked, "top"),
        "a lower level alone": _first(ranked, "level"),
        "several levels": _first(ranked, "ladder"),
    }
    own = {"top": "the top level alone", "level": "a lower level alone", "ladder": "several levels"}.get(kind)
    heads = {
        "top": f"Fewer steps of {top} alone are better than any plan over the ladder",
        "level": f"A lower level alone is better than any use of {top}",
        "ladder": f"Several levels are better than fewer steps of {top} alone",
        "parallel": "All steps at once are better within this time",
    }
    head = heads[kind]
    if target is not None:
        head = "The cheapest of all that reach it"
    elif best is not ranked[0]:
        head = f"Fewer steps of {top} alone are as good as the best plan over the ladder, within what is told apart"
    head += f": {label}, {steps} steps"
    missed = " That is more than was asked for, and than it had where it was chosen." if _misses(unseen, target) else ""
    beside = [
        f"{name} ({other.candidate.label}) was {_beside(other, best)}"
        for name, other in others.items()
        if other is not None and name != own
    ]
    compared = f"; of the rest the best of {', the best of '.join(beside)}" if beside else ""
    compared += f" and this {_at(best)}" if beside and not _has_ratios(best) else ""
    apart = (
        "" if best.errors is None else f" (mean distance {unseen.distance:.3g} ± {unseen.distance_standard_error:.2g})"
    )
    return (
        f"For {asked}: {head}{compared}. {len(ranked)} settings were run on up to {best.samples} samples; on "
        f"{unseen.samples} samples that none of them had seen its error is {unseen.error:.3g} ± "
        f"{unseen.standard_error:.2g}{apart}, at {best.candidate.seconds:.3g} seconds a sample.{missed}"
    )


def _misses(unseen: Measured, target: float | None) -> bool:
    return target is not None and unseen.error > target


def _beside(other: Measured, best: Measured) -> str:
    """How far off one was beside the best."""
    return f"{other.distance / best.distance:.2f} times as far off" if _has_ratios(best) else _at(other)


def _at(measured: Measured) -> str:
    return f"at {measured.distance:.3g} ± {measured.distance_standard_error:.2g}"


def _has_ratios(best: Measured) -> bool:
    """A distance of laws is unbiased, so that it may be negative and has no ratios."""
    return best.errors is not None and best.distance > 0


def _first(ranked: Sequence[Measured], kind: str) -> Measured | None:
    return next((measured for measured in ranked if measured.candidate.kind == kind), None)
