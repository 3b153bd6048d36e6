"""`multidrift generate`: many images, alone or under torchrun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.cli.choice import MethodName, chosen_method, chosen_process, named_ladder
from multidrift.cli.target import load_target
from multidrift.distributed.world import World
from multidrift.evaluation.features import digit_features
from multidrift.generation.generate import BATCH_SIZE, Generation, generate
from multidrift.generation.metrics import Metrics, inception
from multidrift.generation.read import verify_samples
from multidrift.runs.plan import Plan
from multidrift.training.digits import digits
from multidrift.training.images import load_images

_LOADING = 600.0  # seconds that a module of features may take to load its weights, and each call of it


def generate_command(
    out: Annotated[Path, typer.Option(help="The folder: new, or with --resume one that was begun.")],
    count: Annotated[int | None, typer.Option(help="Number of images; by default a row's each of --rows.")] = None,
    ladder: Annotated[
        str, typer.Option(help="'digits', which comes with the package, or a ladder's folder.")
    ] = "digits",
    level: Annotated[str | None, typer.Option(help="The network to use, such as f1; the best by default.")] = None,
    method: Annotated[MethodName, typer.Option(help="As for `multidrift sample`.")] = MethodName.euler,
    steps: Annotated[int, typer.Option(help="Steps of the method.")] = 50,
    levels: Annotated[str | None, typer.Option(help="multilevel, ladder-multistep: the levels, such as f1,f5.")] = None,
    calls: Annotated[str | None, typer.Option(help="multilevel: expected calls of each level, such as 80,20.")] = None,
    draws: Annotated[str | None, typer.Option(help="multilevel, poisson: how their draws are made.")] = None,
    substeps: Annotated[int | None, typer.Option(help="poisson, ladder-multistep: small steps within one.")] = None,
    order: Annotated[int, typer.Option(help="multistep: 1, 2 or 3.")] = 2,
    coarse: Annotated[str | None, typer.Option(help="picard: a cheap level such as f2.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="A plan that was saved, in place of --method and what belongs to it.")
    ] = None,
    plan_seed: Annotated[int, typer.Option(help="multilevel, poisson: seed of the draws.")] = 0,
    eta: Annotated[float, typer.Option(help="Amount of noise: 0 is an ODE, 1 the reverse SDE.")] = 1.0,
    holds: Annotated[str, typer.Option(help="Held over a step: data, noise, score or ddpm.")] = "data",
    grid: Annotated[str | None, typer.Option(help="Spacing of the steps; the schedule has its own.")] = None,
    seed: Annotated[int, typer.Option(help="Image i depends on the seed and on i alone.")] = 0,
    first: Annotated[int, typer.Option(help="Number of the first image.")] = 0,
    rows: Annotated[
        Path | None,
        typer.Option(help="CSV or JSON lines, a row an image: columns by the network's names; seed: one an image."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images in one call of the network.")] = BATCH_SIZE,
    shard_size: Annotated[int | None, typer.Option(help="Images of one file.")] = None,
    file_format: Annotated[str, typer.Option("--format", help="safetensors, images or webdataset.")] = "safetensors",
    metrics: Annotated[
        str | None,
        typer.Option(help="Distances to real images as samples land: digits, inception, or module:function of images."),
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="metrics: the real images, a folder or .npz; digits has its own.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda: each process of a machine its own.")] = "cpu",
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the folder, or join those who do.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only check every file of the folder.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the other processes.")] = 300.0,
) -> None:
    """Draw many images into a folder, alone or with others; what was drawn is not drawn again.

    Examples:
      multidrift generate --count 50000 --out folder/

      torchrun --nproc-per-node=2 -m multidrift generate --count 50000 --out folder/

      multidrift generate --count 50000 --out folder/ --resume

      multidrift generate --out folder/ --verify
    """
    console = Console(stderr=True)
    if verify:
        console.print(f"{verify_samples(out)} samples are as they were written")
        return
    world = World.here()
    networks = named_ladder(ladder).to(_own_device(device, world))
    chosen = (
        Plan.load(plan)
        if plan is not None
        else chosen_method(
            method, steps, grid, levels=levels, calls=calls, draws=draws, substeps=substeps, order=order, coarse=coarse
        )
    )
    done = generate(
        networks if level is None else networks[level], chosen, out, chosen_process(networks, eta, holds), count=count,
        seed=seed, first=first, plan_seed=plan_seed, rows=rows, batch_size=batch_size, shard_size=shard_size,
        format=file_format, resume=resume, timeout=timeout, metrics=_metrics(metrics, real),
        report=lambda estimate: console.print(f"{estimate}", highlight=False),
    )  # fmt: skip
    if world.rank == 0:
        _report(console, done)
    if done.failures:
        name, why = next(iter(done.failures.items()))
        raise MultidriftError(f"{len(done.failures)} shards failed, the first {name}: {why}; --resume tries again")


def _metrics(name: str | None, real: Path | None) -> Metrics | None:
    """What the options name; our digits are compared with the held-out ones."""
    if name is None:
        require(real is None, "real", real, "None without --metrics")
        return None
    if name == "digits" and real is None:
        return Metrics(digit_features, digits().held_out)
    if real is None:
        raise MultidriftError(f"real: got None; --metrics {name} takes a folder or .npz of real images")
    features: Callable[[Tensor], Tensor]
    match name:
        case "digits":
            features = digit_features
        case "inception":
            features = inception()
        case _:
            features = load_target(name, _LOADING)
    return Metrics(features, load_images(real).float() / 127.5 - 1)


def _own_device(device: str, world: World) -> str:
    """Of several GPUs the one of this process."""
    return f"cuda:{world.local_rank}" if device == "cuda" and world.size > 1 else device


def _report(console: Console, done: Generation) -> None:
    rate = done.count / max(done.seconds, 1e-9)
    line = f"{done.count} of {done.wanted} images, {done.seconds:.1f} s ({rate:.3g} a second)"
    console.print(line, highlight=False, soft_wrap=True)
    table = Table("level", "calls per image")
    for name, calls in done.calls.items():
        table.add_row(name, f"{calls:g}")
    console.print(table)
    if done.metrics is not None:
        console.print(f"{done.metrics}", highlight=False)
    line = f"{done.worked:.1f} s of work by all processes; {len(done.failures)} failures; in {done.folder}"
    console.print(line, soft_wrap=True)
