"""Write the measured figures into the README and the docs, between their markers.

python -m benchmarks.readme            # after a benchmark; `make lint` checks that nothing was forgotten (--check)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import border, grids, overview, plans, theorem
from benchmarks.frontier import report as frontier_report
from benchmarks.langevin import report as langevin_report
from benchmarks.multilevel import problems_report
from benchmarks.multilevel import report as multilevel_report
from benchmarks.overhead import report as overhead_report
from benchmarks.parallel import report as parallel_report
from benchmarks.poisson import report as poisson_report
from benchmarks.scale import report as scale_report
from benchmarks.speculative import report as speculative_report
from benchmarks.tables import results, rows
from multidrift.basics.files import write_whole

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def levels() -> str:
    """The bundled ladder: parameters, cost, held-out error."""
    record = results("ladder")
    lines = []
    first = record["entries"][0]["seconds"]
    for e in record["entries"]:
        gap = f"{e['gap']:.5f} ± {e['standard_error']:.5f}" if "gap" in e else "–"
        cost = f"{1000 * e['seconds']:.0f} ({e['seconds'] / first:.1f}×)"
        error = f"{e['error']:.5f} ± {np.std(e['by_image'], ddof=1) / math.sqrt(len(e['by_image'])):.5f}"
        lines.append([e["level"], f"{e['parameters']:,}", cost, error, gap])
    header = ["level", "parameters", "ms per call of 64", "held-out error", "better than the level below by"]
    about = f"{record['images']} held-out images, {len(record['times'])} noise levels; ± standard errors over images."
    return f"{rows(header, lines)}\n\n{about}"


def gamma() -> str:
    """γ of the bundled ladder by two measures of cost, and how far five networks determine it."""
    lines = []
    for cost, fit in results("ladder")["fits"].items():
        low, high = fit["interval"]
        least, most = (f"{fit['without'][name]:.2f} (without {name})" for name in _extremes(fit["without"]))
        lines.append(
            [cost, f"{fit['gamma']:.2f}", f"{low:.2f} to {high:.2f}", f"{least} to {most}", f"{fit['floor']:.4f}"]
        )
    return rows(["cost in", "γ", "95% over held-out images", "leaving one level out", "floor"], lines)


def _extremes(values: dict[str, float]) -> tuple[str, str]:
    """The keys of the least and the greatest value."""
    return min(values, key=lambda key: values[key]), max(values, key=lambda key: values[key])


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


SECTIONS: dict[str, Callable[[], str]] = {
    "levels": levels,
    "gamma": gamma,
    "problems": problems_report.table,
    "middle": problems_report.middle,
    "law": problems_report.law,
    "half-precision": half_precision,
    "noise": noise,
    "overhead": overhead_report.table,
    "options": overhead_report.options,
    "border": border.table,
    "five-rows": lambda: overview.five_rows(pages="docs/"),  # in the README
    "five-rows-docs": lambda: overview.five_rows(pages=""),
    **multilevel_report.SECTIONS,
    **parallel_report.SECTIONS,
    **speculative_report.SECTIONS,
    **poisson_report.SECTIONS,
    **langevin_report.SECTIONS,
    **grids.SECTIONS,
    **theorem.SECTIONS,
    **scale_report.SECTIONS,
    **plans.SECTIONS,
    **frontier_report.SECTIONS,
}


def filled(text: str) -> str:
    """A page with every marked section written anew."""

    def section(match: re.Match[str]) -> str:
        return f"<!-- begin {match[1]} -->\n{SECTIONS[match[1]]()}\n<!-- end {match[1]} -->"

    return re.sub(r"<!-- begin ([\w-]+) -->.*?<!-- end \1 -->", section, text, flags=re.DOTALL)


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
    multilevel_report.plot(ROOT / "docs" / "multilevel.png")
    langevin_report.plot()
    poisson_report.plot(ROOT / "docs" / "poisson.png")
    parallel_report.plot(ROOT / "docs" / "picard.png")
    frontier_report.plot(ROOT / "docs" / "frontier.png")


if __name__ == "__main__":
    typer.run(main)
