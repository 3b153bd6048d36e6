"""Speculative sampling: rounds, calls, critical path and acceptance, as measured and as forecast.

    python -m benchmarks.speculative              # about an hour on two idle cores, nearly all of it digits
    python -m benchmarks.speculative --resume     # goes on where a stopped run was
    python -m benchmarks.speculative --problem digits --steps 400 --only "f1+held, window 20"

Rounds are those of each sample on its own, the final call not among them. The critical path counts calls one after
another, each at the recorded time of one of 16 images: 1 is the sequential run. No seconds are measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import multidrift as md
from benchmarks.record import Record, machine
from benchmarks.speculative.problems import PROBLEMS, Problem

PILOT, PATHS = 40, 4  # steps and paths that a forecast is made from


def choices(problem: Problem, steps: int) -> Iterator[tuple[str, dict[str, object]]]:
    """(label, settings) of all that is measured, what was asked for first."""
    levels = ("f1", "f2") if problem.name == "digits" else ("low",)
    for window in (20, 40) if steps > 400 else (20,):
        for level in levels:
            yield f"{level}+held, window {window}", {"drafter": f"{level}+held", "window": window}
    for drafter in (*(f"{level}+held" for level in levels), "frozen", "gaussian+held"):
        yield f"{drafter}, window 20, block", {"drafter": drafter, "window": 20, "verification": "block"}
    for drafter in (f"{levels[0]}+extrapolated", "frozen", levels[0], "gaussian+held", "gaussian"):
        yield f"{drafter}, window 20", {"drafter": drafter, "window": 20}
    if problem.name == "digits":
        yield "f1+held for f3+held, window 20", {"drafter": ("f1+held", "f3+held"), "window": 20}
    yield f"{levels[0]}+held, window 4 to 40", {"drafter": f"{levels[0]}+held", "window": (4, 40)}
    yield f"{levels[0]}+held, window 10", {"drafter": f"{levels[0]}+held", "window": 10}
    yield f"{levels[0]}+held every 2nd step, window 20", {"drafter": f"{levels[0]}+held", "window": 20, "every": 2}


def measure(
    problem: Problem, ladder: md.Ladder, steps: int, label: str, settings: dict[str, object]
) -> dict[str, object]:
    """One entry."""
    method = md.Speculative(steps, **settings)
    count = problem.samples[steps]
    result = md.sample(ladder, method, count=count)
    found = result.speculation
    entry: dict[str, object] = {"problem": problem.name, "label": label, "steps": steps, "images": count}
    entry |= {"rounds": found.rounds.tolist(), "median": float(np.median(found.rounds)), "batch": result.rounds - 1}
    entry |= {"calls": dict(result.calls), "acceptance": found.acceptance, "predicted": found.predicted}
    entry["critical_path"] = md.critical_path(result, ladder, steps)
    plain = isinstance(settings["window"], int) and isinstance(settings["drafter"], str)
    if plain and not {"every", "verification"} & set(settings):
        ahead = method.forecast(ladder, pilot=PILOT, count=PATHS, seed=1)
        entry["forecast"] = ahead.rounds
    return entry


def main(
    problem: Annotated[str | None, typer.Option(help="One problem by name; all by default.")] = None,
    steps: Annotated[str | None, typer.Option(help="Numbers of steps; all by default.")] = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is there, measure the rest.")] = False,
    only: Annotated[str | None, typer.Option(help="Keep what is there, measure what has this in its label.")] = None,
    name: Annotated[str, typer.Option(help="Name of the result, under benchmarks/results.")] = "speculative",
) -> None:
    """Measure every choice."""
    record = Record(name, {"benchmark": "speculative", "machine": machine("cpu"), "pilot": [PILOT, PATHS]})
    if (resume or only) and record.path.is_file():
        record = Record.kept(name)
    console = Console(stderr=True)
    for one in PROBLEMS:
        ladder = one.ladder() if problem in (None, one.name) else None
        for number in one.samples if ladder is not None else ():
            if steps is not None and str(number) not in steps.split(","):
                continue
            for label, settings in choices(one, number):
                key = (one.name, label, number)
                there = any((e["problem"], e["label"], e["steps"]) == key for e in record.entries)
                if (only is not None and only not in label) or (only is None and resume and there):
                    continue
                entry = measure(one, ladder, number, label, settings)
                record.add(entry)
                short = {k: entry[k] for k in ("median", "critical_path", "acceptance", "predicted")}
                console.print(f"{one.name} {number} {label}: {short} forecast {entry.get('forecast')}")
