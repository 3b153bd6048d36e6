"""Methods side by side: the same digits by each of them, and error against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.table import Column, Table
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.files import write_whole
from multidrift.evaluation.coupled import Outcome
from multidrift.runs.pictures import to_pixels

_VISIBLE = 0.05  # squared error per pixel above which a digit looks different
_GAP = 3  # pixels between the digits of a row
_COLOURS = ("#4c78a8", "#72b7b2", "#e45756", "#f58518", "#54a24b", "#b279a2")


def picture(reference: Tensor, title: str, outcomes: Sequence[Outcome], path: Path) -> None:
    """One row a method, one column a digit; what each row cost and how far it is from the top row stands under it.

    `reference` [count, 1, height, width] fills the top row, under `title`; at most 16 digits are shown. Raises
    MultidriftError where `path` cannot be written.
    """
    columns = min(len(reference), 16)
    note = f"what all others should look like    (red frame: error above {_VISIBLE:g}, another digit or a blot)"
    rows = [(title, note, reference, torch.zeros(columns))]
    for o in outcomes:
        shown = o.errors[0]  # the samples in the row are those of the first plan seed
        caption = f"{o.seconds:.1f} s    mean squared error {shown.mean():.4f}    median {shown.median():.4f}"
        rows.append((o.label, caption, o.samples, shown))
    figure = Figure(figsize=(0.72 * max(columns, 6) + 2.6, 0.98 * len(rows)), dpi=130, facecolor="white")
    for index, (label, caption, samples, errors) in enumerate(rows):
        axes = figure.add_subplot(len(rows), 1, index + 1)
        axes.imshow(_strip(samples[:columns]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        width, height = samples.shape[-1] + _GAP, samples.shape[-2] + 1
        for column in (errors[:columns] > _VISIBLE).nonzero().flatten().tolist():
            corner = (column * width - 0.5, -0.5)
            axes.add_patch(Rectangle(corner, width - 1, height, fill=False, ec="#e45756", lw=2))
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(False)
        weight = "bold" if index == 0 else "normal"
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, labelpad=8, fontweight=weight)
        axes.set_xlabel(caption, fontsize=8, color="#444444", labelpad=2)
    figure.tight_layout(h_pad=0.4)
    write_figure(figure, path)


def error_plot(curves: Mapping[str, Sequence[Outcome]], title: str, path: Path) -> None:
    """Error against seconds, one curve a method; bars are the range over plan seeds, dotted lines the medians.

    Raises MultidriftError where `path` cannot be written.
    """
    figure = Figure(figsize=(7.2, 4.6), dpi=130, facecolor="white")
    axes = figure.add_subplot()
    for index, (label, outcomes) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        ordered = sorted(outcomes, key=lambda o: o.seconds)
        seconds = [o.seconds for o in ordered]
        means = np.array([o.errors.mean(dim=1).numpy().mean() for o in ordered])
        low = means - np.array([float(o.errors.mean(dim=1).min()) for o in ordered])
        high = np.array([float(o.errors.mean(dim=1).max()) for o in ordered]) - means
        axes.errorbar(seconds, means, yerr=(low, high), marker="o", capsize=3, color=colour, label=label)
        axes.plot(seconds, [o.median for o in ordered], ls=":", marker=".", color=colour, alpha=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("seconds for the batch (lower left is better)")
    axes.set_ylabel("squared distance to the reference")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.plot([], [], ls=":", marker=".", color="gray", label="dotted: the median sample")
    axes.legend(fontsize=8)
    figure.tight_layout()
    write_figure(figure, path)


def table(outcomes: Sequence[Outcome], title: str) -> Table:
    """One row a method: seconds, calls of each level, mean and median error, spread over plan seeds.

    Where measured and planned seconds differ by more than a fifth, both stand there, and a note under the table.
    """
    names = sorted({name for outcome in outcomes for name in outcome.calls})
    result = Table(
        Column("method", no_wrap=True),
        "seconds",
        *(f"{n} calls" for n in names),
        "mean error",
        "median error",
        title=title,
    )
    for o in outcomes:
        spread = f" ± {o.spread:.4f}" if o.spread else ""
        calls = (f"{o.calls[name]:.0f}" if name in o.calls else "–" for name in names)
        planned = f" (planned {o.planned:.2f})" if o.off_plan else ""
        result.add_row(o.label, f"{o.seconds:.2f}{planned}", *calls, f"{o.mean:.4f}{spread}", f"{o.median:.4f}")
    if any(o.off_plan for o in outcomes):
        result.caption = (
            "These are not equal seconds: measured and planned ones differ by more than a fifth, as on a busy machine. "
            "The methods were planned to cost the same."
        )
    return result


def _strip(samples: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pictures in a row, with a white margin."""
    pixels = [np.pad(array, ((1, 1), (1, _GAP - 1)), constant_values=255) for array in to_pixels(samples)]
    return np.concatenate(pixels, axis=1)


def write_figure(figure: Figure, path: Path) -> None:
    """Draw under a temporary name, then rename; no display is needed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MultidriftError(f"path: could not write {str(path)!r} ({error})") from error
    write_whole(path, FigureCanvasAgg(figure).print_figure)
