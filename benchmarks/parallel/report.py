"""The tables of docs/picard.md and docs/results/parallel.md, from what `benchmarks.parallel` has measured."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.bootstrap import first_below
from benchmarks.tables import Entry, machine, results, rows
from multidrift.report.comparison import write_figure

ERRORS = ("0.01", "0.001", "0.0001")
SHORT = (
    "plain Picard", "gaussian", "gaussian, secant", "f2", "f2, every 16th step", "f3",
    "diffusers' parallel scheduler, window 20",
)  # fmt: skip
TOGETHER = (
    "With an interval: the mean over images that ran each by itself. Without: all ran together, so that the images of "
    "diffusers' schedulers waited for each other, and rounds of ours are those of the slowest."
)
FIRST = ("plain", "secant", "Anderson", "window", "gaussian", "f1", "f2", "f3", "f4", "diffusers", "parareal")


def entries() -> list[Entry]:
    """All entries: what calls no cheap level, then the levels by cost, then the peers."""

    def place(entry: Entry) -> tuple[int, str]:
        return next(i for i, first in enumerate(FIRST) if entry["label"].startswith(first)), entry["label"]

    return sorted(results("parallel")["entries"], key=place)


def _reached(entry: Entry, error: str) -> str:
    found = entry["reached"][error]
    if found is not None:
        return f"{_rounds(entry, error)} ({found['calls']:.0f}; {found['critical_path']:.2f})"
    if float(error) < entry.get("goal", 0.0):
        return "not tried"
    return f"not by {_number(entry['history'][-1]['rounds'])}"


def _rounds(entry: Entry, error: str) -> str:
    """Rounds to an error, with their interval where the errors of each image were kept."""
    known = interval(entry, float(error))
    between = "" if known is None else f" [{_number(known[0])}, {_number(known[1])}]"
    return f"{_number(entry['reached'][error]['rounds'])}{between}"


def _number(value: float) -> str:
    """Rounds: whole ones, and means over images, which need not be; ∞ where a resample never got there."""
    return "∞" if math.isinf(value) else f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def interval(entry: Entry, error: float) -> tuple[float, float] | None:
    """The 95% interval over images of the rounds to an error; None of entries from before each image's was kept."""
    if "error_of_images" not in entry["history"][0]:
        return None
    errors = np.array([found["error_of_images"] for found in entry["history"]])
    taken = [found.get("rounds_of_images", [found["rounds"]] * errors.shape[1]) for found in entry["history"]]
    return first_below(errors, np.array(taken, dtype=np.float64), error)


def by_steps(steps: int) -> str:
    """Rounds, calls of f5 an image and critical path to each error, ODE and SDE."""
    lines = []
    for eta, name in ((0.0, "ODE"), (1.0, "SDE")):
        chosen = [e for e in entries() if e["eta"] == eta and e["steps"] == steps]
        lines += [[name, e["label"], str(e["images"]), *(_reached(e, error) for error in ERRORS)] for e in chosen]
    if not lines:
        return "Not measured yet: `python -m benchmarks.parallel --resume` does."
    return rows(["", "method", "images", *(f"error {error}" for error in ERRORS)], lines)


def medians() -> str:
    """Rounds until the median image, in place of the mean, is at an error of 1e-3."""
    lines = []
    for e in sorted(entries(), key=lambda e: (e["steps"], e["eta"])):
        if e["family"] == "ours" and "median" in e["history"][0]:
            first = next((h["rounds"] for h in e["history"] if h["median"] <= 1e-3), None)
            mean = e["reached"]["0.001"]
            name = "SDE" if e["eta"] else "ODE"
            both = [_rounds(e, "0.001") if mean else "–", str(first or "–")]
            lines.append([name, str(e["steps"]), e["label"], *both, str(e["images"])])
    return rows(["", "steps", "method", "mean over the images", "median image", "images"], lines)


def summary(labels: Collection[str] | None = None) -> str:
    """Rounds to an error of 1e-3, critical path and rows a call, at 60 and 1,000 steps; of all choices, or `labels`."""
    cases = [(steps, eta) for steps in (60, 1000) for eta in (0.0, 1.0)]
    found: dict[str, dict[tuple[int, float], str]] = {}
    for e in entries():
        short = e["reached"]["0.001"]
        cell = "–"
        if short:
            cell = f"{_rounds(e, '0.001')} ({short['critical_path']:.2f}; {_rows_a_call(short):.0f})"
        found.setdefault(_name(e), {})[e["steps"], e["eta"]] = cell
    header = ["method", *(f"{'SDE' if eta else 'ODE'}, {steps} steps" for steps, eta in cases)]
    shown = {label: cells for label, cells in found.items() if labels is None or label in labels}
    table = rows(header, [[label, *(cells.get(case, "") for case in cases)] for label, cells in shown.items()])
    return f"{table}\n\nEach cell: rounds (critical path; rows of f5 in a call, the mean for each image). {samples()}"


def samples() -> str:
    """How many images and seeds stand behind the tables."""
    images: dict[int, set[int]] = {}
    for e in entries():
        images.setdefault(e["steps"], set()).add(e["images"])
    each = ", ".join(f"{_from_to(counts)} at {steps:,} steps" for steps, counts in sorted(images.items()))
    bars = "[…, …] are 95% intervals over images, by bootstrap; what has none is of 2 images, too few for one"
    kept = any(interval(e, 1.0) for e in entries())
    return f"Means over few images of one seed: {each}; {bars if kept else 'there are no error bars'}."


def _from_to(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def windows() -> str:
    """What runs in a window, ours and the peers', by rows a call, to an error of 1e-3."""
    lines = []
    for e in sorted((e for e in entries() if "window" in e["label"]), key=lambda e: (e["steps"], e["eta"])):
        short = e["reached"]["0.001"]
        last = e["history"][-1]
        line = ["SDE" if e["eta"] else "ODE", f"{e['steps']:,}", str(e["images"]), _name(e)]
        if short is None:
            lines.append([*line, f"not by {_number(last['rounds'])}", "", "", f"{last['error']:.1e}", ""])
            continue
        peak = f"{short['peak_rows']:.0f}" if "peak_rows" in short else "20"  # entries from before it was kept
        found = [_rounds(e, "0.001"), f"{short['calls']:.0f}", f"{_rows_a_call(short):.1f}", f"{short['error']:.1e}"]
        lines.append([*line, *found, peak])
    header = ["", "steps", "images", "method", "rounds", "calls of f5", "mean rows a call", "error", "peak rows"]
    return f"{rows(header, lines)}\n\n{TOGETHER}"


def _name(entry: Entry) -> str:
    """An entry's label, of the peer without the name of its scheduler, which is another for ODE and SDE."""
    label: str = entry["label"]
    return f"diffusers' parallel scheduler, {label.split(', ')[1]}" if label.startswith("diffusers") else label


def _rows_a_call(found: dict[str, float]) -> float:
    """Rows of the top level in one call, for each image, the mean over the rounds."""
    return found["calls"] / found["rounds"]


@dataclass(frozen=True)
class Shorter:
    """How many times shorter a chain of calls is than the sequential one, with its 95% interval and the images."""

    times: float
    interval: tuple[float, float] | None
    images: int

    def __str__(self) -> str:
        between = "" if self.interval is None else " [{:.1f}, {:.1f}]".format(*self.interval)
        return f"{self.times:.1f}{between}"


def shorter(label: str, steps: int, eta: float) -> Shorter:
    """Of a choice without a network below, whose critical path is its rounds, to an error of 1e-3."""
    (chosen,) = [e for e in entries() if (e["label"], e["steps"], e["eta"]) == (label, steps, eta)]
    found = chosen["reached"]["0.001"]
    rounds = interval(chosen, 1e-3)
    a_round = found["critical_path"] / found["rounds"]
    known = None if rounds is None else (1 / (a_round * rounds[1]), 1 / (a_round * rounds[0]))
    return Shorter(1 / found["critical_path"], known, chosen["images"])


def where() -> str:
    """What the figures were measured on."""
    record = results("parallel")
    each = ", ".join(f"{name} {1000 * value:.0f}" for name, value in record["seconds_per_call"].items())
    return f"{machine(record)}; milliseconds of a call on {record['batch']} images: {each}."


STYLES = {  # what is drawn: colour and line
    "plain Picard": ("k", "-"),
    "secant": ("k", "--"),
    "Anderson": ("k", ":"),
    "gaussian": ("C0", "-"),
    "gaussian, secant": ("C0", "--"),
    "f1": ("C2", "-"),
    "f2": ("C1", "-"),
    "f2, every 4th step": ("C1", "-."),
    "f2, every 16th step": ("C1", ":"),
    "f3": ("C3", "-"),
    "f4": ("C4", "-"),
}


def plot(path: Path) -> None:
    """Error after each round: against rounds at 60 steps, against the critical path at 1,000."""
    figure = Figure(figsize=(13, 9), dpi=90, facecolor="white")
    for place, (steps, eta) in enumerate((steps, eta) for steps in (60, 1000) for eta in (0.0, 1.0)):
        axes = figure.add_subplot(2, 2, place + 1)
        wanted = "rounds" if steps == 60 else "critical_path"
        for e in entries():
            if e["steps"] == steps and e["eta"] == eta and e["label"] in STYLES:
                colour, line = STYLES[e["label"]]
                found = [h[wanted] for h in e["history"]], [h["error"] for h in e["history"]]
                axes.plot(*found, color=colour, ls=line, marker=".", label=e["label"])
        axes.axhline(1e-3, color="C7", lw=1)
        axes.set(yscale="log", ylim=(1e-5, 10), title=f"{'SDE' if eta else 'ODE'}, {steps} steps")
        axes.set(xlabel="rounds" if steps == 60 else "critical path (1: the sequential run)")
        axes.set(ylabel="squared error / sample variance", xscale="linear" if steps == 60 else "log")
        if steps == 60:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, alpha=0.2)
    figure.legend(*axes.get_legend_handles_labels(), ncol=6, loc="lower center", fontsize=9)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    write_figure(figure, path)


SECTIONS = {
    "parallel-summary": summary,
    "parallel-windows": windows,
    "parallel-samples": samples,
    "parallel-short": lambda: summary(SHORT),
    "parallel-60": lambda: by_steps(60),
    "parallel-200": lambda: by_steps(200),
    "parallel-1000": lambda: by_steps(1000),
    "parallel-medians": medians,
    "parallel-machine": where,
}
