"""The bundled ladder: held-out error and cost of each level, and what half-precision weights change.

python -m benchmarks.ladder                # about five minutes on two cores
python -m benchmarks.ladder --no-timing    # the errors alone, where the machine is busy: kept seconds stay
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress

import multidrift as md
from benchmarks.record import Record, machine
from benchmarks.scaling import report
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.denoising import DenoisingErrors, denoising_errors
from multidrift.training.images import load_images, split
from multidrift.training.ladder import CHECKPOINTS
from multidrift.training.settings import TrainingSettings
from multidrift.training.sizes import SIZES
from multidrift.training.trainer import LevelTrainer

DATA = Path(md.__file__).parent / "bundled" / "digits.npz"

TIMES = np.linspace(0, 999, 10)
IMAGES = 500  # of the 1,000 held out


def measure_errors(ladder: md.Ladder, data: Path) -> DenoisingErrors:
    """The held-out errors, with a progress bar."""
    held_out = split(load_images(data), 0.1, seed=0).held_out[:IMAGES]
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("held-out images")
        return denoising_errors(
            ladder,
            held_out,
            TIMES.tolist(),
            report=lambda done, parts, _: bar.update(task, total=parts, completed=done),
        )


def half_precision(ladder: md.Ladder, training: Path, steps: int) -> dict[str, float]:
    """How far storing weights in half moves the samples of each level, from the float32 weights in its checkpoints.

    Beside it stands what the ladder itself is off by: the distance of f4's samples from f5's.
    """
    images = split(load_images(DATA), 0.1, seed=0).train
    method, count, found = md.Euler(50, "blend"), 16, {}
    for size in SIZES:
        trainer = LevelTrainer(size, md.schedules.ddpm(), images, TrainingSettings(steps=steps), torch.device("cpu"))
        trainer.resume(training / CHECKPOINTS / size.name)
        full = md.sample(md.Denoiser(trainer.averaged(), ladder.schedule), method, count=count).samples
        half = md.sample(ladder[size.name], method, count=count).samples
        found[f"{size.name} in half"] = float(squared_distances(half, full).mean())
        if size.name == "f4":
            fourth = full
    found["f4 instead of f5"] = float(squared_distances(fourth, full).mean())
    return found


def main(
    training: Annotated[
        Path | None, typer.Option(help="The ladder's .training folder, for the float32 weights.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps of those checkpoints.")] = 3500,
    timing: Annotated[bool, typer.Option(help="Measure seconds a call as well.")] = True,
) -> None:
    """Print and keep the table of levels."""
    console = Console(stderr=True)
    ladder = md.Ladder.bundled("digits")
    if timing:
        ladder = ladder.measured(batch=64, repeats=9)
        assert ladder.costs is not None
        seconds = dict(ladder.costs.seconds)
        record = Record("ladder", {"benchmark": "ladder", "machine": machine("cpu"), "batch": 64}, compact=True)
    else:
        kept = Record.kept("ladder")
        seconds = {e["level"]: e["seconds"] for e in kept.entries}
        record = Record("ladder", {k: v for k, v in kept.header.items() if k not in ("gamma", "floor")}, compact=True)
    errors = measure_errors(ladder, DATA)
    for index, name in enumerate(ladder.names):
        gap, spread = errors.gap(ladder.names[index - 1], name) if index else (float("nan"), float("nan"))
        entry: dict[str, object] = {
            "level": name,
            "parameters": sum(p.numel() for p in ladder[name].modules[0].parameters()),
            "seconds": seconds[name],
            "error": errors.mean(name),
            "by_time": errors.by_time(name),
            "by_image": [float(f"{e:.6g}") for e in errors.errors[name].mean(dim=0).tolist()],
        }
        if index:
            entry |= {"gap": gap, "standard_error": spread}
        record.add(entry)
        console.print({key: value for key, value in entry.items() if key != "by_image"})
    per_image = np.array([e["by_image"] for e in record.entries])
    fits = {
        cost: report(per_image, [e[cost] for e in record.entries], ladder.names) for cost in ("seconds", "parameters")
    }
    record.header |= {"fits": fits, "times": TIMES.tolist(), "images": IMAGES}
    if training is not None:
        record.header["half_precision"] = half_precision(ladder, training, steps)
    record.write()
    console.print(fits, record.header.get("half_precision"))


if __name__ == "__main__":
    typer.run(main)
