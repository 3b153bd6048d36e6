"""Which grid suits which schedule: Euler and Multistep on every named grid, against a fine run with the same noise.

python -m benchmarks.grids                                  # closed-form mixtures, eight minutes
python -m benchmarks.grids --sde sde.safetensors --ode ode.safetensors   # the digits ladder as well, against those runs
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from safetensors.torch import load_file

import multidrift as md
from benchmarks.record import Record, machine
from benchmarks.tables import Entry, results, rows
from multidrift.evaluation.coupled import squared_distances
from multidrift.schedules.grids import Grid, own_grid
from multidrift.schedules.schedule import Schedule

NAME = "grids"
STEPS = (10, 20, 40)
ETAS = (0.0, 1.0)
GRIDS: tuple[Grid, ...] = ("blend", "logsnr", "karras", "linspace", "leading", "trailing")
DIGITS_GRIDS: tuple[Grid, ...] = GRIDS[:4]
METHODS: Mapping[str, type[md.Euler | md.Multistep]] = {"Euler": md.Euler, "Multistep": md.Multistep}
COUNT, SEED, REFERENCE_STEPS = 128, 0, 600
DIGITS_COUNT, DIGITS_SEED = 16, 777
SCHEDULES: Mapping[str, Schedule] = {
    "ddpm, linear": md.schedules.ddpm(),
    "ddpm, scaled linear": md.schedules.ddpm("scaled_linear"),
    "cosine": md.schedules.cosine(),
    "vp": md.schedules.vp(),
    "ve": md.schedules.ve(),
    "edm": md.schedules.edm(),
    "flow": md.schedules.flow(),
}


def mixtures() -> dict[str, md.GaussianMixture]:
    """Two smooth modes and eight narrow ones on a ring in 2-D; four in 32-D with variances that fall as in images."""
    angles = np.arange(8) * np.pi / 4.0
    ring = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    rng = np.random.default_rng(0)
    spectrum = np.geomspace(1.0, 1e-3, 32)
    return {
        "two modes": md.GaussianMixture(
            [0.4, 0.6], [[0.6, 0.0], [-0.5, 0.3]], [[[0.30, 0.10], [0.10, 0.40]], [[0.50, 0.00], [0.00, 0.20]]]
        ),
        "ring of eight": md.GaussianMixture(np.ones(8), ring, np.broadcast_to(0.01 * np.eye(2), (8, 2, 2))),
        "spectrum": md.GaussianMixture(
            np.ones(4),
            rng.standard_normal((4, 32)) * np.sqrt(spectrum),
            np.broadcast_to(np.diag(spectrum), (4, 32, 32)),
        ),
    }


def measured(
    model: md.Denoiser | md.Ladder,
    process: md.Diffusion,
    grids: tuple[Grid, ...],
    count: int,
    seed: int,
    dtype: torch.dtype,
) -> Iterator[tuple[str, Grid, list[torch.Tensor]]]:
    """The samples at each number of steps, for each method and grid."""
    for label, method in METHODS.items():
        for grid in grids:
            runs = (md.sample(model, method(n, grid), process, count=count, seed=seed, dtype=dtype) for n in STEPS)
            yield label, grid, [run.samples for run in runs]


def entries(
    place: dict[str, object], reference: torch.Tensor, found: Iterator[tuple[str, Grid, list[torch.Tensor]]]
) -> Iterator[Entry]:
    """One entry a method and grid: mean and median squared distance per coordinate, by steps."""
    for label, grid, samples in found:
        errors = [squared_distances(x, reference) for x in samples]
        yield place | {
            "label": f"{label}, {grid}",
            "grid": grid,
            "errors": [float(e.mean()) for e in errors],
            "medians": [float(e.median()) for e in errors],
        }


def on_mixtures(record: Record, console: Console) -> None:
    """Every schedule and η on every mixture."""
    for name, schedule in SCHEDULES.items():
        for problem, mixture in mixtures().items():
            model = mixture.denoiser(schedule)
            for eta in ETAS:
                process = md.Diffusion(schedule, eta)
                fine = md.Multistep(REFERENCE_STEPS, "blend")
                reference = md.sample(model, fine, process, count=COUNT, seed=SEED, dtype=torch.float64).samples
                found = measured(model, process, GRIDS, COUNT, SEED, torch.float64)
                keep(record, entries({"problem": problem, "process": name, "eta": eta}, reference, found))
                console.print(f"{name}, {problem}, η = {eta:g}")


def on_digits(record: Record, references: Mapping[float, Path], console: Console) -> None:
    """The largest network of the digits ladder, against runs whose ends are kept in files, under "end"."""
    ladder = md.Ladder.bundled("digits")
    for eta, path in references.items():
        reference = load_file(path)["end"][:DIGITS_COUNT]
        process = md.Diffusion(ladder.schedule, eta)
        found = measured(ladder, process, DIGITS_GRIDS, DIGITS_COUNT, DIGITS_SEED, torch.float32)
        keep(record, entries({"problem": "digits", "process": "ddpm, linear", "eta": eta}, reference, found))
        console.print(f"digits, η = {eta:g}")


def keep(record: Record, new: Iterator[Entry]) -> None:
    """Put entries into the record, in the places of those of the same names."""
    for entry in new:
        record.add(entry)


def factors(chosen: list[Entry]) -> dict[Grid, float]:
    """How far each grid is from the best one: the geometric mean, over problems, methods and steps, of its error over
    the least of all grids there.
    """
    logs: dict[Grid, list[float]] = {}
    for problem, method in {(e["problem"], e["label"].split(", ")[0]) for e in chosen}:
        group = [e for e in chosen if e["problem"] == problem and e["label"].startswith(f"{method},")]
        least = np.log([e["errors"] for e in group]).min(axis=0)
        for e in group:
            logs.setdefault(e["grid"], []).extend((np.log(e["errors"]) - least).tolist())
    return {grid: float(np.exp(statistics.fmean(found))) for grid, found in logs.items()}


def table() -> str:
    """One row a schedule and η, one column a grid; the default is in bold."""
    kept = results(NAME)["entries"]
    lines = []
    for digits in (False, True):
        for name, schedule in SCHEDULES.items():
            for eta in ETAS:
                chosen = [
                    e for e in kept if e["process"] == name and e["eta"] == eta and (e["problem"] == "digits") == digits
                ]
                if chosen:
                    found, own = factors(chosen), own_grid(schedule, eta)
                    cells = [f"{found[grid]:.2f}" if grid in found else "–" for grid in GRIDS]
                    cells = [f"**{cell}**" if grid == own else cell for grid, cell in zip(GRIDS, cells, strict=True)]
                    lines.append([f"{name} (digits)" if digits else name, f"{eta:g}", *cells])
    found = results(NAME)
    counts = f"{found['count']} samples a setting, {found['digits_count']} digits"
    about = f"Of the mean errors over {counts}; the errors of each were not kept, so there are no intervals."
    return f"{rows(['schedule', 'η', *(f'`{grid}`' for grid in GRIDS)], lines)}\n\n{about}"


SECTIONS = {"grids": table}


def main(
    sde: Annotated[Path | None, typer.Option(help="A fine run of the digits ladder with η = 1.")] = None,
    ode: Annotated[Path | None, typer.Option(help="A fine run of the digits ladder with η = 0.")] = None,
    *,
    mixture: Annotated[bool, typer.Option(help="Measure the closed-form mixtures.")] = True,
) -> None:
    """Measure and keep every grid."""
    console = Console()
    warnings.simplefilter("ignore", md.PlanWarning)
    record = Record(NAME, {"benchmark": NAME, "steps": STEPS, "machine": machine("cpu")})
    record.header |= {"count": COUNT, "digits_count": DIGITS_COUNT, "reference_steps": REFERENCE_STEPS}
    record.resume()
    if mixture:
        on_mixtures(record, console)
    on_digits(record, {eta: path for eta, path in ((1.0, sde), (0.0, ode)) if path is not None}, console)


if __name__ == "__main__":
    typer.run(main)
