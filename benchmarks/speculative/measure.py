"""Speculative sampling: rounds, calls, critical path and acceptance, as measured and as forecast.

    python -m benchmarks.speculative              # about an hour on two idle cores, nearly all of it digits
    python -m benchmarks.speculative --resume     # goes on where a stopped run was, and where fewer samples were drawn
    python -m benchmarks.speculative --resume --problem digits --steps 400 --samples 2 --minutes 10

Rounds are those of each sample on its own, the final call not among them. The critical path counts calls one after
another, each at the recorded time of one of 16 images: 1 is the sequential run. No seconds are measured: windows are
evaluated in parts (`benchmarks.speculative.parts`), which changes neither rounds nor what is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import multidrift as md
from benchmarks.record import Record, machine
from benchmarks.speculative.parts import in_parts
from benchmarks.speculative.problems import PROBLEMS, Problem


def choices(problem: Problem, steps: int) -> Iterator[tuple[str, dict[str, object]]]:
    """(label, settings) of all that is measured, what was asked for first."""
    yield from (of_digits if problem.name == "digits" else of_closed_forms)(steps)


def plainly(*drafters: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Drafters by name, with the window that all choices share."""
    for drafter in drafters:
        yield f"{drafter}, window 20", {"drafter": drafter, "window": 20}


def by_blocks(*drafters: str) -> Iterator[tuple[str, dict[str, object]]]:
    """The same, verified by blocks."""
    for label, settings in plainly(*drafters):
        yield f"{label}, block", settings | {"verification": "block"}


def of_digits(steps: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Every kind of drafter; the windows of the one with the fewest rounds."""
    yield from plainly("f1+held", "f2+held", "frozen", "gaussian+held", "f1", "f2", "f1+extrapolated", "gaussian")
    yield "f1+held for f3+held, window 20", {"drafter": ("f1+held", "f3+held"), "window": 20}
    telescope = md.Multilevel(steps, levels=("f1", "f3"), calls=(steps, steps // 4))
    yield "Multilevel of f1 and f3 (a quarter), window 20", {"drafter": telescope, "window": 20}
    yield "f5 every 4th step, window 20", {"drafter": "f5", "window": 20, "every": 4}
    yield from by_blocks("f2+held", "f1+held", "frozen", "gaussian+held")
    for window, named in ((40, "40"), ((4, 40), "4 to 40"), (10, "10")):
        yield f"f2+held, window {named}", {"drafter": "f2+held", "window": window}


def of_closed_forms(steps: int) -> Iterator[tuple[str, dict[str, object]]]:
    """The drafters of a ladder of two."""
    yield from plainly("low+held", "low+extrapolated", "frozen", "low", "gaussian+held", "gaussian")
    yield from by_blocks("low+held", "frozen", "gaussian+held")
    for window, named in (((4, 40), "4 to 40"), (10, "10"), *([(40, "40")] if steps > 400 else [])):
        yield f"low+held, window {named}", {"drafter": "low+held", "window": window}
    yield "low+held every 2nd step, window 20", {"drafter": "low+held", "window": 20, "every": 2}


def measure(
    problem: Problem, ladder: md.Ladder, steps: int, label: str, settings: dict[str, object], count: int
) -> dict[str, object]:
    """One entry."""
    with in_parts() as difference:
        result = difference.counted(md.sample(ladder, md.Speculative(steps, **settings), count=count))
    found = result.speculation
    entry: dict[str, object] = {"problem": problem.name, "label": label, "steps": steps, "images": count}
    entry |= {
        "rounds": found.rounds.tolist(),
        "median": float(np.median(found.rounds)),
        "batch": int(found.rounds.max()),
    }
    entry |= {"calls": dict(result.calls), "acceptance": found.acceptance, "predicted": found.predicted}
    return entry | {"critical_path": md.critical_path(result, ladder, steps)}


def main(
    problem: Annotated[str | None, typer.Option(help="One problem by name; all by default.")] = None,
    steps: Annotated[str | None, typer.Option(help="Numbers of steps; all by default.")] = None,
    samples: Annotated[int | None, typer.Option(help="Draw at most so many; by default as many as wanted.")] = None,
    minutes: Annotated[float, typer.Option(help="Begin nothing new after so long.")] = float("inf"),
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is there, measure the rest.")] = False,
    name: Annotated[str, typer.Option(help="Name of the result, under benchmarks/results.")] = "speculative",
) -> None:
    """Measure every choice."""
    record = Record(name, {"benchmark": "speculative", "machine": machine("cpu")})
    if resume and record.path.is_file():
        record = Record.kept(name)
    console, began = Console(stderr=True, width=200), time.monotonic()
    for one in PROBLEMS:
        ladder = one.ladder() if problem in (None, one.name) else None
        for number, wanted in one.samples.items() if ladder is not None else ():
            if steps is not None and str(number) not in steps.split(","):
                continue
            count = min(samples or wanted, wanted)
            known = {
                e["label"]: e["images"] for e in record.entries if (e["problem"], e["steps"]) == (one.name, number)
            }
            for label, settings in choices(one, number):
                if known.get(label, 0) >= count or time.monotonic() - began > 60 * minutes:
                    continue
                entry = measure(one, ladder, number, label, settings, count)
                record.add(entry)
                short = {k: entry[k] for k in ("median", "critical_path", "acceptance", "predicted")}
                console.print(f"{one.name} {number} {label}: {short}")
