"""Langevin runs at a glance: traces of a few chains beside the marginals, and a table of moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.report.comparison import write_figure

_SHOWN_COORDINATES = 4
_SHOWN_CHAINS = 4
_LISTED_COORDINATES = 20
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")


@dataclass(frozen=True)
class Chains:
    """What a run left behind.

    - `trajectory` [saved, chains, d] at `times` [saved]; the first `burn_in` states count for nothing but the trace
    - `names`: one a coordinate
    """

    trajectory: Floats
    times: Floats
    burn_in: int
    names: Sequence[str]

    def __post_init__(self) -> None:
        shape = self.trajectory.shape
        require(len(shape) == 3, "trajectory", shape, "an array [saved, chains, d]")
        require(self.times.shape == shape[:1], "times", self.times.shape, f"one a saved state, ({shape[0]},)")
        require(0 <= self.burn_in < shape[0], "burn_in", self.burn_in, f"less than the {shape[0]} saved states")
        require(len(self.names) == shape[2], "names", list(self.names), f"{shape[2]} of them")

    @property
    def draws(self) -> Floats:
        """The states after the burn-in, [saved − burn_in, chains, d]."""
        return self.trajectory[self.burn_in :]


def trace_plot(chains: Chains, title: str, path: Path) -> None:
    """One row a coordinate: four chains over time, and the histogram of all chains after the burn-in.

    The first four coordinates are shown. Raises MultidriftError where `path` cannot be written.
    """
    shown = min(chains.trajectory.shape[2], _SHOWN_COORDINATES)
    figure = Figure(figsize=(10.5, 0.9 + 1.75 * shown), dpi=120, facecolor="white")
    grid = figure.add_gridspec(shown, 2, width_ratios=(4, 1), wspace=0.03, hspace=0.18)
    for row in range(shown):
        trace = figure.add_subplot(grid[row, 0])
        _trace(trace, chains, row)
        _histogram(figure.add_subplot(grid[row, 1], sharey=trace), chains.draws[..., row].ravel(), first=row == 0)
        if row < shown - 1:
            trace.tick_params(labelbottom=False)
        else:
            trace.set_xlabel("time of the simulation", color="#444444")
    more = chains.trajectory.shape[2] - shown
    rest = f"   (the first {shown} of {shown + more} coordinates)" if more else ""
    figure.suptitle(f"{title}{rest}", fontsize=10, x=0.012, ha="left")
    figure.subplots_adjust(
        left=0.08, right=0.985, top=1 - 0.45 / figure.get_figheight(), bottom=0.14 if shown > 2 else 0.2
    )
    write_figure(figure, path)


def table(chains: Chains, title: str, r_hat: Floats | None = None, effective: Floats | None = None) -> Table:
    """Mean and standard deviation of each coordinate after the burn-in; R-hat and effective sample size if given [d].

    The first twenty coordinates are listed; the title says how many more there are.
    """
    draws = chains.draws
    more = draws.shape[2] - _LISTED_COORDINATES
    columns = ["", "mean", "sd"] + ["R-hat"] * (r_hat is not None) + ["ESS"] * (effective is not None)
    result = Table(*columns, title=title, caption=f"and {more} more coordinates" if more > 0 else None)
    for column in result.columns[1:]:
        column.justify = "right"
    for i, name in enumerate(chains.names[:_LISTED_COORDINATES]):
        values = draws[..., i]
        row = [name, f"{values.mean():.4g}", f"{values.std():.4g}"]
        if r_hat is not None:
            colour = "red" if r_hat[i] > 1.05 else "yellow" if r_hat[i] > 1.01 else "green"
            row.append("–" if np.isnan(r_hat[i]) else f"[{colour}]{r_hat[i]:.3f}[/]")
        if effective is not None:
            row.append("–" if np.isnan(effective[i]) else f"{effective[i]:,.0f}")
        result.add_row(*row)
    return result


def _trace(axes: Axes, chains: Chains, coordinate: int) -> None:
    """Some chains of one coordinate over time; the burn-in is grey."""
    for chain in range(min(chains.trajectory.shape[1], _SHOWN_CHAINS)):
        values = chains.trajectory[:, chain, coordinate]
        axes.plot(chains.times, values, lw=0.8, color=_COLOURS[chain], alpha=0.9)
    if chains.burn_in:
        axes.axvspan(chains.times[0], chains.times[chains.burn_in], color="#000000", alpha=0.06, lw=0)
        if coordinate == 0:
            axes.text(
                0.008, 0.94, "burn-in", transform=axes.transAxes, fontsize=7, color="#777777", va="top",
            )  # fmt: skip
    axes.set_xlim(chains.times[0], chains.times[-1])
    axes.set_ylabel(chains.names[coordinate], rotation=0, ha="right", va="center", labelpad=8)
    _plain(axes)


def _histogram(axes: Axes, values: Floats, *, first: bool) -> None:
    """The marginal on its side, with its 2.5%, 50% and 97.5% points."""
    axes.hist(values, bins=60, orientation="horizontal", color="#4c78a8", alpha=0.75, density=True)
    for level in (0.025, 0.5, 0.975):
        axes.axhline(float(np.quantile(values, level)), color="#e45756", lw=0.9, ls="-" if level == 0.5 else ":")
    axes.tick_params(labelleft=False, labelbottom=False, bottom=False)
    if first:
        axes.set_title("all chains; median and 95%", fontsize=8, color="#444444")
    _plain(axes)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, color="#aaaaaa")
