"""Write the measured figures into the README and the docs, between their markers.

python -m benchmarks.readme            # after a benchmark; `make lint` checks that nothing was forgotten (--check)
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure

from benchmarks import grids, overview
from benchmarks.langevin import report as langevin_report
from benchmarks.parallel import report as parallel_report
from benchmarks.poisson import report as poisson_report
from benchmarks.tables import Entry, machine, results, rows
from multidrift.basics.files import write_whole
from multidrift.report.comparison import write_figure

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PLOT = ROOT / "docs" / "multilevel.png"


def mean_error(entry: Entry) -> float:
    """Mean error over plan seeds and images."""
    return statistics.fmean(entry["errors"])


def pretty(entry: Entry) -> list[str]:
    """One row of the tables of methods."""
    spread = f" ± {statistics.stdev(entry['errors']):.4f}" if len(entry["errors"]) > 1 else ""
    calls = ", ".join(f"{name} {number:.0f}" for name, number in entry["calls"].items() if number)
    middle = f"{statistics.fmean(entry['medians']):.5f}"
    return [entry["label"], calls, f"{entry['seconds']:.1f}", f"{mean_error(entry):.4f}{spread}", middle]


PROCESSES = ((1.0, "DDPM"), (0.0, "DDIM"))
DRAWS = ("independent", "systematic", "midpoint")
COLUMNS = ["method", "calls", "seconds", "mean error", "median error"]


def best(entries: Iterable[Entry], seconds: float, wanted: Callable[[Entry], bool]) -> Entry:
    """The entry with the least mean error among those that cost at most `seconds`."""
    return min((e for e in entries if wanted(e) and e["seconds"] <= seconds), key=mean_error)


def summary() -> str:
    """At equal seconds: the best of each family, DDPM and DDIM."""
    record = results("multilevel")
    top = record["seconds_per_call"]["f5"]
    lines = []
    for eta, name in PROCESSES:
        entries = settings(eta)
        for calls in (20, 40):
            budget = (calls + 0.01) * top
            families: list[Callable[[Entry], bool]] = [
                lambda e: e["label"] in ("Euler f5", "Euler f5, linspace"),
                lambda e: e["family"] == "peer",
                lambda e: e["family"] == "multistep",
                lambda e: "independent" in e["label"],
                lambda e: "systematic" in e["label"],
                lambda e: "midpoint" in e["label"],
            ]
            lines += [[f"{name}, {budget:.0f} s", *pretty(best(entries, budget, family))] for family in families]
    return rows(["at most", *COLUMNS], lines)


def settings(eta: float) -> list[Entry]:
    """The entries of one η, family by family, label by label, by steps."""
    entries = [e for e in results("multilevel")["entries"] if e["eta"] == eta]
    families, labels = [e["family"] for e in entries], [e["label"] for e in entries]
    return sorted(entries, key=lambda e: (families.index(e["family"]), labels.index(e["label"]), e["steps"]))


def every_setting(eta: float) -> str:
    """All entries of one η, by label and cost."""
    return rows(["steps", *COLUMNS], [[str(e["steps"]), *pretty(e)] for e in settings(eta)])


def draws_compared() -> str:
    """The three draws at f2+f5, 80 steps, 20 calls, each plan seed singly, beside Euler at f5."""
    lines = []
    for eta, name in PROCESSES:
        for grid, end in (("blend", ""), ("linspace", ", linspace")):
            entries = {(e["label"], e["steps"]): e for e in settings(eta)}
            if (f"Multilevel f2+f5, independent{end}", 80) not in entries:  # a grid not measured yet
                continue
            equal = min(n for label, n in entries if label == f"Euler f5{end}" and n > 20)
            chosen = {draws: entries[f"Multilevel f2+f5, {draws}{end}", 80] for draws in DRAWS}
            chosen |= {f"f5 at {n} steps": entries[f"Euler f5{end}", n] for n in (equal, 80)}
            for draws, e in chosen.items():
                each = " ".join(f"{error:.4f}" for error in e["errors"]) if len(e["errors"]) > 1 else ""
                less = mean_error(chosen["independent"]) / mean_error(e)
                middle = statistics.fmean(chosen["independent"]["medians"]) / statistics.fmean(e["medians"])
                where = [f"{name}, {grid}", draws, f"{e['seconds']:.1f}", each]
                lines.append([*where, f"{mean_error(e):.4f}", f"{less:.1f}×", f"{middle:.1f}×"])
    header = [
        "",
        "draws",
        "seconds",
        "mean error of each plan seed",
        "mean",
        "mean, less than independent",
        "median, less",
    ]
    return rows(header, lines)


def speed_ratios(eta: float) -> dict[str, list[float]]:
    """How many times the seconds Euler at f5 on the same grid needs for each multilevel run's error, interpolated."""
    ratios: dict[str, list[float]] = {draws: [] for draws in DRAWS}
    for end in ("", ", linspace"):
        euler = sorted((e for e in settings(eta) if e["label"] == f"Euler f5{end}"), key=mean_error)
        errors, seconds = np.log([mean_error(e) for e in euler]), np.log([e["seconds"] for e in euler])
        for e in settings(eta):
            here, error = e["label"].endswith(", linspace") == bool(end), np.log(mean_error(e))
            if e["family"] == "multilevel" and here and errors[0] <= error <= errors[-1]:
                draws = e["label"].split(", ")[1]
                ratios[draws].append(float(np.exp(np.interp(error, errors, seconds)) / e["seconds"]))
    return ratios


def speed_up() -> str:
    """The median and the best of `speed_ratios`, by process and draws."""
    lines = []
    for eta, name in PROCESSES:
        for draws, found in speed_ratios(eta).items():
            if found:
                best_and_median = [f"{statistics.median(found):.2f}×", f"{max(found):.2f}×"]
                lines.append([name, draws, *best_and_median, f"{len(found)}"])
    return rows(["", "draws", "median speed-up", "best setting", "settings in range"], lines)


def levels() -> str:
    """The bundled ladder: parameters, cost, held-out error."""
    record = results("ladder")
    lines = []
    first = record["entries"][0]["seconds"]
    for e in record["entries"]:
        gap = f"{e['gap']:.5f} ± {e['standard_error']:.5f}" if "gap" in e else "–"
        cost = f"{1000 * e['seconds']:.0f} ({e['seconds'] / first:.1f}×)"
        lines.append([e["level"], f"{e['parameters']:,}", cost, f"{e['error']:.5f}", gap])
    header = ["level", "parameters", "ms per call of 64", "held-out error", "better than the level below by"]
    end = f"\n\nFitted: error ≈ {record['floor']:.4f} + constant · cost^(−1/γ) with γ = {record['gamma']:.2f}"
    return rows(header, lines) + end + f"; {record['images']} held-out images, {len(record['times'])} noise levels."


def half_precision() -> str:
    """What storing the weights in half changes."""
    found = results("ladder")["half_precision"]
    own = found["f4 instead of f5"]
    moved = ", ".join(f"{label.split()[0]} {error:.1e}" for label, error in found.items() if "half" in label)
    return (
        f"Squared distance per pixel between samples (50 steps, same noise) with the stored and the float32 weights: "
        f"{moved}; between f4's samples and f5's: {own:.1e}."
    )


def noise() -> str:
    """Milliseconds a step of the noise."""
    entries = results("noise")["entries"]
    lines = [[e["label"], f"{e['milliseconds_a_step']:.2f}", str(e["runs"])] for e in entries]
    return rows(["1000 steps", "ms a step", "runs (median)"], lines)


def where() -> str:
    """What the figures were measured on."""
    record = results("multilevel")
    confirmed = "; ".join(
        f"{c['label']}: {c['measured']:.1f} s measured, {c['predicted']:.1f} s predicted" for c in record["confirmed"]
    )
    runs = record["confirmed"][0]["runs"]
    return (
        f"{machine(record)}; {record['count']} images, reference "
        f"{record['reference_steps']} steps of f5. Whole runs, medians of {runs}: {confirmed}."
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "summary": summary,
    "draws": draws_compared,
    "speed-up": speed_up,
    "levels": levels,
    "half-precision": half_precision,
    "noise": noise,
    "machine": where,
    "ddpm": lambda: every_setting(1.0),
    "ddim": lambda: every_setting(0.0),
    "five-rows": lambda: overview.five_rows(speed_ratios(1.0)["midpoint"], pages="docs/"),  # in the README
    "five-rows-docs": lambda: overview.five_rows(speed_ratios(1.0)["midpoint"], pages=""),
    **parallel_report.SECTIONS,
    **poisson_report.SECTIONS,
    **langevin_report.SECTIONS,
    **grids.SECTIONS,
}


def filled(text: str) -> str:
    """A page with every marked section written anew."""

    def section(match: re.Match[str]) -> str:
        return f"<!-- begin {match[1]} -->\n{SECTIONS[match[1]]()}\n<!-- end {match[1]} -->"

    return re.sub(r"<!-- begin ([\w-]+) -->.*?<!-- end \1 -->", section, text, flags=re.DOTALL)


COLOURS = {"euler": "k", "multistep": "C0", "peer": "C7", "independent": "C3", "systematic": "C1", "midpoint": "C2"}


def plot() -> None:
    """Error against seconds of all families, both processes."""
    record = results("multilevel")
    figure = Figure(figsize=(14, 6.6), dpi=100)
    for place, (eta, name) in enumerate(PROCESSES):
        axes = figure.add_subplot(1, 2, place + 1)
        curves: dict[str, list[Entry]] = {}
        for e in settings(eta):
            if e["label"] not in ("Euler f2", "Euler f3", "Euler f4"):
                curves.setdefault(e["label"], []).append(e)
        for label, entries in curves.items():
            family, parts = entries[0]["family"], label.split(", ")
            colour = COLOURS.get(family) or COLOURS[parts[1]]
            marker = {"f1": "s", "f2": "^", "f1+f3": "D"}.get(parts[0].removeprefix("Multilevel ").split("+f5")[0], "o")
            marker = "*" if parts[-1] == "linspace" and family != "peer" else marker
            drawn = sorted(entries, key=lambda e: e["seconds"])
            axes.plot(
                [e["seconds"] for e in drawn], [mean_error(e) for e in drawn], marker=marker,
                color=colour, ms=9 if marker == "*" else 4,
                lw=1.2, ls="--" if label == "Euler f1" else "-", alpha=0.85,
                label=label,
            )  # fmt: skip
        axes.set(
            xscale="log", yscale="log", xlabel=f"seconds for {record['count']} images", title=f"{name} (η = {eta:g})"
        )
        axes.set_ylabel("mean squared distance to the reference")
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(fontsize=7, ncol=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    figure.tight_layout()
    write_figure(figure, PLOT)


def main(
    *, check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a page differs.")] = False
) -> None:
    """Fill all pages and draw the plot."""
    texts = {page: (page.read_text(), filled(page.read_text())) for page in PAGES}
    if check:
        behind = [page.name for page, (now, wanted) in texts.items() if now != wanted]
        if behind:
            print(f"{', '.join(behind)}: run python -m benchmarks.readme")
            raise typer.Exit(1)
        return
    for page, (_, text) in texts.items():
        write_whole(page, lambda partial, text=text: partial.write_text(text))
    plot()
    langevin_report.plot()
    poisson_report.plot(ROOT / "docs" / "poisson.png")
    parallel_report.plot(ROOT / "docs" / "picard.png")


if __name__ == "__main__":
    typer.run(main)
