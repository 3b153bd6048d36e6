"""Why a method was chosen, in one paragraph."""

from __future__ import annotations

from collections.abc import Sequence

from multidrift.planning.trial import Measured


def reason(best: Measured, ranked: Sequence[Measured], unseen: Measured, top: str, asked: str) -> str:
    """What it is, what it is better than, and how that is known.

    - `best`, of the `ranked` ones that were tried, the best first; `unseen`: what it did on samples of its own;
      `top`: name of the top level; `asked`: the budget in words
    """
    kind, label, steps = best.candidate.kind, best.candidate.label, best.candidate.method.number_of_evaluations
    others = {
        "the top level alone": _first(ranked, "top"),
        "a lower level alone": _first(ranked, "level"),
        "several levels": _first(ranked, "ladder"),
    }
    own = {"top": "the top level alone", "level": "a lower level alone", "ladder": "several levels"}.get(kind)
    heads = {
        "top": f"Fewer steps of {top} alone are better than any plan over the ladder: {label}, {steps} steps",
        "level": f"A lower level alone is better than any use of {top}: {label}, {steps} steps",
        "ladder": f"Several levels are better than fewer steps of {top} alone: {label}, {steps} steps",
        "parallel": f"All steps at once are better within this time: {label}, {steps} steps",
    }
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
        f"For {asked}: {heads[kind]}{compared}. {len(ranked)} settings were run on up to {best.samples} samples; on "
        f"{unseen.samples} samples that none of them had seen its error is {unseen.error:.3g} ± "
        f"{unseen.standard_error:.2g}{apart}, at {best.candidate.seconds:.3g} seconds a sample."
    )


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
