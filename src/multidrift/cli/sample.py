"""`multidrift sample`: draw images and write them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from multidrift.drifts.ladder import Ladder
from multidrift.processes.clocks import Holds
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.errors import require
from multidrift.processes.grids import Grid
from multidrift.samplers.euler import Euler
from multidrift.samplers.method import Method
from multidrift.samplers.multistep import Multistep
from multidrift.samplers.result import Result, save_image
from multidrift.samplers.sample import sample


class MethodName(StrEnum):
    """The methods by the name the command line gives them."""

    euler = "euler"
    multistep = "multistep"


def sample_command(
    out: Annotated[
        Path, typer.Option(help="A picture (.png) of all images in a grid, or a folder for one file each.")
    ] = Path("samples.png"),
    ladder: Annotated[
        str, typer.Option(help="'digits', which comes with the package, or a ladder's folder.")
    ] = "digits",
    level: Annotated[str | None, typer.Option(help="The network to use, such as f1; the best by default.")] = None,
    method: Annotated[
        MethodName, typer.Option(help="euler: DDPM and DDIM. multistep: DPM-Solver++.")
    ] = MethodName.euler,
    steps: Annotated[int, typer.Option(help="Calls of the network.")] = 50,
    order: Annotated[int, typer.Option(help="Order of the multistep method: 1, 2 or 3.")] = 2,
    eta: Annotated[float, typer.Option(help="Amount of noise: 0 is DDIM (an ODE), 1 is DDPM (an SDE).")] = 1.0,
    holds: Annotated[str, typer.Option(help="Held over a step: data, noise, score or ddpm.")] = "data",
    grid: Annotated[str, typer.Option(help="Spacing: blend, logsnr, leading, trailing, linspace or karras.")] = "blend",
    count: Annotated[int, typer.Option(help="Number of images.")] = 16,
    seed: Annotated[int, typer.Option(help="Image i depends on the seed and on i alone.")] = 0,
    first: Annotated[int, typer.Option(help="Number of the first image: continue an earlier run.")] = 0,
    batch_size: Annotated[int | None, typer.Option(help="Images in one call of the network; all by default.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
) -> None:
    """Draw images from a trained ladder.

    Examples:
      multidrift sample --count 64 --out digits.png

      multidrift sample --method multistep --eta 0 --steps 20 --out folder/
    """
    console = Console(stderr=True)
    networks = _ladder(ladder).to(device)
    model = networks if level is None else networks[level]
    chosen: Method = Euler(steps, cast("Grid", grid))
    if method is MethodName.multistep:
        chosen = Multistep(steps, cast("Grid", grid), order=order)
    process = Diffusion(networks.schedule, eta, cast("Holds", holds))
    _check_target(out)
    console.print(f"drawing {count} images with {level or networks.top} …")
    result = sample(model, chosen, process, count=count, seed=seed, first=first, batch_size=batch_size)
    _write(result, out, first)
    _report(console, result, out)


def _ladder(name: str) -> Ladder:
    return Ladder.load(name) if Path(name).is_dir() else Ladder.bundled(name)


def _check_target(out: Path) -> None:
    """Refuse, before anything is drawn, a target that could not be written."""
    require(not out.is_file() or out.suffix != "", "out", str(out), "a new folder or a picture file")
    require(out.suffix == "" or out.parent.is_dir(), "out", str(out), "a file in an existing folder")


def _write(result: Result, out: Path, first: int) -> None:
    if out.suffix:
        result.save(out)
        return
    out.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(result.images()):
        save_image(image, out / f"{first + index:06d}.png")


def _report(console: Console, result: Result, out: Path) -> None:
    table = Table(
        "level", "calls per image", "batches", title=f"{len(result.samples)} images in {result.seconds:.1f} s"
    )
    for name, calls in result.calls.items():
        table.add_row(name, f"{calls:g}", f"{result.batches[name]}")
    console.print(table)
    console.print(f"written to {out}")
