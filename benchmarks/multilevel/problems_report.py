"""The table of benchmarks.multilevel.problems."""

from __future__ import annotations

import numpy as np

from benchmarks.bootstrap import Errors, Statistic, ratio
from benchmarks.tables import Entry, kernel, results, rows

OURS = ("LadderMultistep, fitted", "LadderMultistep, closed form")
PROCESSES = {1.0: "SDE", 0.0: "ODE"}


def table() -> str:
    """The best other method's error over ours, by problem and budget, in the median and in the mean."""
    record = results("multilevel-problems")
    entries = record["entries"]
    budgets = sorted({e["budget"] for e in entries})
    lines = []
    for eta, process in PROCESSES.items():
        for problem in dict.fromkeys(e["problem"] for e in entries):
            for ours in OURS:
                cells = []
                for budget in budgets:
                    here = {
                        e["label"]: Errors(np.array([e["errors"]]))
                        for e in entries
                        if (e["eta"], e["problem"], e["budget"]) == (eta, problem, budget)
                    }
                    cells.append(", ".join(_best(here, ours, statistic) for statistic in ("median", "mean")))
                lines.append([f"{process}, {problem}", ours.split(", ")[1], *cells])
    header = ["problem", "coefficients", *(f"{budget} calls" for budget in budgets)]
    about = (
        "Each cell: in the median, in the mean; above 1 ours is nearer. The other methods are diffusers' two solvers "
        f"of the process on four grids and Multistep on two; {record['count']} samples. Bold: "
        "the 95% interval over samples lies above 1."
    )
    return f"{rows(header, lines)}\n\n{about}"


def _best(here: dict[str, Errors], ours: str, statistic: Statistic) -> str:
    """The error of the best other method over ours; bold where the interval lies above 1."""
    others = [errors for label, errors in here.items() if label not in OURS]
    least = min(others, key=lambda errors: errors.of(statistic))
    value, low, _ = ratio(least, here[ours], statistic)
    return f"**{value:.2g}**" if low > 1 else f"{value:.2g}"


def middle() -> str:
    """Median errors of LadderMultistep by its cheap level, paid for and for nothing."""
    entries = results("multilevel-middle")["entries"]
    lines = []
    for eta, process in PROCESSES.items():
        for budget in sorted({e["budget"] for e in entries}):
            here = {e["label"]: e for e in entries if (e["eta"], e["budget"]) == (eta, budget)}
            cells = [_median(e) for e in here.values()]
            lines.append([f"{process}, {budget} calls", *cells])
    header = ["median error (calls of f5)", *dict.fromkeys(e["label"] for e in entries)]
    return rows(header, lines)


def _median(entry: Entry) -> str:
    """The median error with its interval over images, and the calls of the top level."""
    errors = Errors(np.array([entry["errors"]]))
    low, high = errors.interval("median")
    return f"{errors.of('median'):.5f} [{low:.5f}, {high:.5f}] ({entry['steps']})"


def law() -> str:
    """Kernel and Fréchet distances at equal cost."""
    record = results("multilevel-law")
    lines = []
    for entry in sorted(record["entries"], key=lambda e: (-e["eta"], e["budget"], e["kernel"][0])):
        process = f"{PROCESSES[entry['eta']]}, {entry['budget']} calls"
        lines.append([process, entry["label"], kernel(entry), f"{entry['frechet']:.1f}"])
    real = record["held_out"]
    lines.append(["–", "held-out digits", kernel(real), f"{real['frechet']:.1f}"])
    return rows(["", "method", "kernel distance ×1000 [95%]", "Fréchet distance"], lines)
