"""How the rounds of parallel runs went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from multidrift.basics.errors import require
from multidrift.report.comparison import write_figure
from multidrift.runs.result import Result


def residual_plot(results: Mapping[str, Result], path: Path, tolerance: float | None = None) -> None:
    """The largest change of each round, in the unit of `tolerance`, one line a run; zeros are left out.

    Raises MultidriftError on results of sequential methods, which have no rounds, and where `path` cannot be written.
    """
    figure = Figure(figsize=(7.0, 4.4), dpi=110, facecolor="white")
    axes = figure.add_subplot()
    for label, result in results.items():
        require(bool(result.residuals), "results", f"{label} without residuals", "results of parallel methods")
        points = [(n, residual) for n, residual in enumerate(result.residuals, 1) if residual > 0]
        axes.plot([n for n, _ in points], [r for _, r in points], marker="o", ms=4, lw=1.4, label=label)
    if tolerance is not None:
        axes.axhline(tolerance, color="#444444", lw=1.0, ls=":", label=f"tolerance {tolerance:g}")
    axes.set(yscale="log", xlabel="round", ylabel="largest change / σ(t)")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8)
    figure.tight_layout()
    write_figure(figure, path)
