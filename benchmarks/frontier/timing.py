"""Predicted seconds beside measured ones at batches of 1, 16 and 64: `python -m benchmarks.frontier.timing`.

For an idle machine, with the threads that runs will have: five minutes on two cores. At each batch the ladder is
calibrated, `md.auto` is asked for eight calls of f5, and its choice is timed beside five fixed methods: the median of
three whole runs of one batch, the methods taking turns, against what the calibration prices them at.
"""

from __future__ import annotations

import statistics
import warnings
from typing import Annotated

import torch
import typer
from rich.console import Console

import multidrift as md
from benchmarks.multilevel.measure import ETAS, digits
from benchmarks.record import RESULTS, Record, machine
from benchmarks.tables import machine as about
from benchmarks.tables import results, rows
from multidrift.methods.method import Method
from multidrift.planning.candidates import Prices

NAME, BATCHES, CALLS, RUNS = "frontier-seconds", (1, 16, 64), 8, 3
FIXED: dict[str, Method] = {
    "Euler f5": md.Euler(CALLS),
    "Multistep f5": md.Multistep(CALLS),
    "LadderMultistep f5": md.LadderMultistep(CALLS, levels=("f5",)),
    "LadderMultistep f2+f5": md.LadderMultistep(6, levels=("f2", "f5")),
    "Multilevel f2+f5": md.Multilevel(24, levels=("f2", "f5"), calls=(24, 5), draws="midpoint"),
}


def measure(ladder: md.Ladder, name: str, batch: int, record: Record, console: Console) -> None:
    """Seconds of whole runs of one batch, beside their prices."""
    process = md.Diffusion(ladder.schedule, ETAS[name])
    calibration = md.calibrate(ladder, process, batch, paths=4, steps=8)
    choice = md.auto(ladder, process, calls=CALLS, calibration=calibration, samples=8, reference_steps=64)
    methods = {"`md.auto`'s choice": choice.method, **FIXED}
    times: dict[str, list[float]] = {label: [] for label in methods}
    for _ in range(RUNS):
        for label, method in methods.items():
            times[label].append(md.sample(ladder, method, process, count=batch, progress=False).seconds)
    prices = Prices(ladder, process, calibration)
    for label, method in methods.items():
        entry: dict[str, object] = {"process": name, "label": label, "budget": batch}
        entry |= {"predicted": prices.of(method) * batch, "measured": statistics.median(times[label])}
        entry |= {"runs": times[label], "spread": max(calibration.spread.values())}
        if method is choice.method:
            entry |= {"method": type(method).__name__, "reason": choice.reason}
        record.add(entry)
        console.print(f"{name} {batch} {label}: {entry['predicted']:.3g} s predicted, {entry['measured']:.3g} measured")


def table() -> str:
    """Predicted over measured seconds, and the range of the single runs."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return "Not measured yet: `python -m benchmarks.frontier.timing`."
    record = results(NAME)
    found: dict[tuple[str, str], dict[int, str]] = {}
    for e in record["entries"]:
        low, high = (e["predicted"] / seconds for seconds in (max(e["runs"]), min(e["runs"])))
        cell = f"{e['predicted'] / e['measured']:.2f} ({low:.2f} to {high:.2f})"
        found.setdefault((e["process"], e["label"]), {})[e["budget"]] = cell
    lines = [
        [f"{process.upper()}, {label}", *(by.get(b, "–") for b in BATCHES)] for (process, label), by in found.items()
    ]
    header = ["predicted over measured seconds", *(f"batch {b}" for b in BATCHES)]
    off = [e for e in record["entries"] if not 1 / 1.3 <= e["predicted"] / e["measured"] <= 1.3]
    text = f"{len(record['entries']) - len(off)} of {len(record['entries'])} are within 30%. {about(record)}."
    return f"{rows(header, lines)}\n\n{text}"


SECTIONS = {"predicted-seconds": table}


def main(threads: Annotated[int | None, typer.Option(help="Threads of the processor; all by default.")] = None) -> None:
    """Measure every batch, SDE and ODE."""
    warnings.simplefilter("ignore")
    if threads is not None:
        torch.set_num_threads(threads)
    ladder, console = digits("cpu"), Console(stderr=True)
    record = Record(NAME, {"benchmark": NAME, "machine": machine("cpu"), "calls": CALLS})
    for name in ETAS:
        for batch in BATCHES:
            measure(ladder, name, batch, record, console)


if __name__ == "__main__":
    typer.run(main)
