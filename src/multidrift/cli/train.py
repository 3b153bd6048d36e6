"""`multidrift train`: make a ladder of networks from images."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from multidrift.basics.errors import require
from multidrift.cli.output import check_new_folder
from multidrift.schedules.chain import ddpm
from multidrift.training.settings import Progress as Step
from multidrift.training.settings import TrainingSettings
from multidrift.training.sizes import SIZES, select

if TYPE_CHECKING:
    from multidrift.training.ladder import TrainedLadder

ALL_LEVELS = ",".join(size.name for size in SIZES)


def train_command(
    images: Annotated[Path, typer.Argument(help="A folder of pictures of one size, or an .npz with an array x.")],
    out: Annotated[Path, typer.Argument(help="The ladder's folder, written when all levels are trained.")],
    levels: Annotated[str, typer.Option(help="Which sizes to train, from f1 (smallest) to f5.")] = ALL_LEVELS,
    steps: Annotated[int, typer.Option(help="Training steps of every level.")] = TrainingSettings.steps,
    batch_size: Annotated[int, typer.Option(help="Images in a training step.")] = TrainingSettings.batch_size,
    held_out: Annotated[float, typer.Option(help="Share of the images kept apart for measuring.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the split, the networks and the batches.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the ladder in OUT, if there is one.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one.")] = None,
) -> None:
    """Train a ladder of networks on images.

    All levels see the same data. A run that was stopped continues from its last checkpoint when the same command is
    given again; checkpoints lie in OUT.training until the ladder is written.

    Example:
      multidrift train pictures/ my-ladder --levels f1,f3,f5 --steps 20000
    """
    from multidrift.training.images import load_images  # with the networks' library, which takes seconds to import
    from multidrift.training.ladder import train_ladder

    console = Console(stderr=True)
    taken = out.exists() and not (overwrite and (out / "ladder.json").is_file())
    require(not taken, "out", str(out), "a new folder, or a ladder's folder with --overwrite")
    check_new_folder(out)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    sizes = select(tuple(levels.split(",")))
    settings = TrainingSettings(steps=steps, batch_size=batch_size, seed=seed)
    work = out.with_name(f"{out.name}.training")
    pictures = load_images(images)
    with _Bars(console) as bars:
        trained = train_ladder(pictures, work, sizes, ddpm(), settings, held_out, where, bars.report)
    trained.ladder.save(out, overwrite=overwrite, half=True)
    console.print(_levels_table(trained))
    console.print(_noise_table(trained))
    console.print(f"written to {out}; the checkpoints in {work} can go", markup=False, emoji=False)


class _Bars(Progress):
    """One bar a level, with the mean loss of the last 50 steps and the time left."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, TextColumn("loss {task.fields[loss]:.4f}"), console=console)
        self._losses: deque[float] = deque(maxlen=50)

    def report(self, progress: Step) -> None:
        """Move the bar of this step's level."""
        task = next((t for t in self.tasks if t.description == progress.level), None)
        if task is None:
            self._losses.clear()
            self.add_task(progress.level, total=progress.steps, completed=progress.step - 1, loss=progress.loss)
            task = self.tasks[-1]
        self._losses.append(progress.loss)
        self.update(task.id, completed=progress.step, loss=sum(self._losses) / len(self._losses))


def _noise_table(trained: TrainedLadder) -> Table:
    """The held-out error at five noise levels."""
    errors = trained.held_out
    chosen = [round(k * (len(errors.times) - 1) / 4) for k in range(5)]
    table = Table("level", *(f"t = {errors.times[k]:.0f}" for k in chosen), title="held-out error by noise level")
    for name in trained.ladder.names:
        values = errors.by_time(name)
        table.add_row(name, *(f"{values[k]:.5f}" for k in chosen))
    return table


def _levels_table(trained: TrainedLadder) -> Table:
    """One row a level: its error, how far it is from the level below, and its cost."""
    table = Table("level", "held-out error", "better than the level below by", "seconds per call of 64")
    names = trained.ladder.names
    for index, name in enumerate(names):
        gap = "–"
        if index:
            mean, error = trained.held_out.gap(names[index - 1], name)
            gap = f"{mean:.5f} ± {error:.5f}"
        seconds = trained.ladder.costs.seconds[name] if trained.ladder.costs else float("nan")
        table.add_row(name, f"{trained.held_out.mean(name):.5f}", gap, f"{seconds:.3f}")
    return table
