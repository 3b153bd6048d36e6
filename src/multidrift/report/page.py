"""One self-contained page that answers whether a ladder is worth it: verdict, table, curves, pictures, calibration."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import markupsafe
import numpy as np
import plotly.offline
import torch
from torch import Tensor

from multidrift.basics.files import write_whole
from multidrift.drifts.ladder import Ladder
from multidrift.methods.multistep import Multistep
from multidrift.planning.auto import SELECTION, Choice, auto_each
from multidrift.planning.calibration import Calibration
from multidrift.planning.trial import Measured
from multidrift.planning.worth import worth
from multidrift.processes.process import Process
from multidrift.report.plots import calibration_plots, figure
from multidrift.runs.pictures import image_grid, to_pixels
from multidrift.sampling import sample

_ROWS = 5
_REFERENCE = 100  # steps of the pictures' first row
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, eq=False)
class Findings:
    """What a page shows: the calibration, and the choice for each budget in calls of the top level."""

    ladder: Ladder
    process: Process
    calibration: Calibration
    choices: Mapping[float, Choice]


def find_out(
    ladder: Ladder,
    process: Process,
    calibration: Calibration,
    budgets: Sequence[float],
    samples: int,
    *,
    batch: int | None = None,
    force: bool = False,
) -> Findings:
    """Ask `md.auto` at every budget, comparing on so many samples; `batch` and `force` as there."""
    choices = auto_each(ladder, process, calibration, budgets, samples=samples, batch=batch, force=force)
    return Findings(ladder, process, calibration, dict(zip(budgets, choices, strict=True)))


def write_page(findings: Findings, path: Path, title: str, command: str) -> None:
    """Write the page; everything is in the file, plotly's program included. Raises MultidriftError on a bad path."""
    calibration, middle = findings.calibration, list(findings.choices)[len(findings.choices) // 2]
    choice = findings.choices[middle]
    shown = distinct(choice.tried)
    sources = _pictures(findings)
    figures = {"curves": _curves(findings, sources), **calibration_plots(calibration)}
    _write(
        path, calibration, title, command, figures,
        reasons=[c.reason for c in findings.choices.values()],
        rows=[_row(measured) for measured in shown],
        about_rows=(
            f"The best settings of different kinds in the time of {middle:g} calls of {findings.ladder.top}. Distance "
            "and error are the mean and the mean square, over samples, of the root mean square distance per coordinate "
            "to a fine run of the top level with the same noise; by distance is chosen. What was behind on a few "
            "samples was not tried on more."
        ),
        pictures=_rows_of_pictures(findings, shown, middle, sources),
    )  # fmt: skip


def write_calibration_page(calibration: Calibration, path: Path, title: str, command: str) -> None:
    """The plots of a calibration and its verdict, in one file. Raises MultidriftError on a bad path."""
    _write(path, calibration, title, command, calibration_plots(calibration), reasons=[], rows=[], pictures=[])


def _write(
    path: Path,
    calibration: Calibration,
    title: str,
    command: str,
    figures: Mapping[str, object],
    **parts: object,
) -> None:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True)
    text = environment.get_template("page.html.jinja").render(
        title=title,
        plotly=markupsafe.Markup(plotly.offline.get_plotlyjs()),  # noqa: S704 (plotly's own program)
        verdict=worth(calibration),
        plots=[name for name in figures if name != "curves"],
        figures=figures,
        machine=calibration.machine,
        batch=calibration.batch,
        versions=f"Python {sys.version.split()[0]}, torch {torch.__version__}, plotly {plotly.__version__}",
        command=command,
        **parts,
    )
    write_whole(path, lambda partial: partial.write_text(text))


def distinct(tried: Sequence[Measured]) -> list[Measured]:
    """Five settings: the best of each kind, then of each other method, then the next best, in the order of `tried`.

    Those that were tried on all samples come first, in order of distance.
    """
    by_kind: dict[str, Measured] = {}
    by_method: dict[tuple[str, str], Measured] = {}
    for measured in tried:
        kind = measured.candidate.kind
        by_kind.setdefault(kind, measured)
        by_method.setdefault((kind, type(measured.candidate.method).__name__), measured)
    chosen: list[Measured] = []
    for measured in (*by_kind.values(), *by_method.values(), *tried):
        if measured not in chosen and len(chosen) < _ROWS:
            chosen.append(measured)
    return [measured for measured in tried if measured in chosen]


def _row(measured: Measured) -> dict[str, str]:
    return {
        "label": measured.candidate.label,
        "steps": str(measured.candidate.method.number_of_evaluations),
        "seconds": f"{measured.candidate.seconds:.3g}",
        "samples": str(measured.samples),
        "distance": f"{measured.distance:.3g}",
        "error": f"{measured.error:.3g}",
        "standard_error": f"{measured.standard_error:.2g}",
    }


def _described(measured: Measured) -> str:
    steps = measured.candidate.method.number_of_evaluations
    return f"{measured.candidate.label}, {steps} steps: error {measured.error:.3g} on {measured.samples} samples"


def _is_pictures(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == 3 and shape[0] in (1, 3)


def _source(samples: Tensor) -> str:
    """A row of pictures as the source of an image."""
    buffer = io.BytesIO()
    image_grid(to_pixels(samples), len(samples)).save(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pictures(findings: Findings) -> dict[tuple[float, str], str]:
    """The first samples of each setting at each budget, all of one noise, where samples are pictures."""
    if not _is_pictures(findings.ladder.shape):
        return {}
    return {
        (calls, measured.candidate.label): _source(measured.shown)
        for calls, choice in findings.choices.items()
        for measured in choice.tried
        if measured.shown is not None
    }


def _rows_of_pictures(
    findings: Findings, shown: Sequence[Measured], calls: float, sources: Mapping[tuple[float, str], str]
) -> list[dict[str, str]]:
    if not sources:
        return []
    fine, count = Multistep(_REFERENCE), max(len(m.shown) for m in shown if m.shown is not None)
    reference = sample(findings.ladder, fine, findings.process, count=count, seed=SELECTION, progress=False).samples
    first = {
        "label": f"{findings.ladder.top}, {_REFERENCE} steps: what all others aim at",
        "source": _source(reference),
    }
    return [first] + [
        {"label": f"{m.candidate.label}: error {m.error:.3g}", "source": sources[calls, m.candidate.label]}
        for m in shown
        if m.shown is not None
    ]


def _curves(findings: Findings, sources: Mapping[tuple[float, str], str]) -> dict[str, object]:
    """Error against seconds of all that was tried, a colour a kind."""
    names = {"top": f"{findings.ladder.top} alone", "level": "a lower level alone", "ladder": "several levels"}
    data = []
    for kind, name in names.items():
        points = [
            (calls, m)
            for calls, choice in findings.choices.items()
            for m in choice.tried
            if m.candidate.kind == kind and np.isfinite(m.error) and m.error > 0
        ]
        details = [[_described(m), sources.get((calls, m.candidate.label), "")] for calls, m in points]
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": name, "marker": {"size": 9},
                "x": [m.candidate.seconds for _, m in points], "y": [m.error for _, m in points],
                "customdata": details, "hovertemplate": "%{customdata[0]}<extra></extra>",
            }
        )  # fmt: skip
    return figure(data, "Everything that was tried", "seconds a sample", "error", logarithmic="xy")
