"""`multidrift sample`: draw images and write them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from multidrift.cli.choice import MethodName, chosen_method, chosen_process, named_ladder
from multidrift.cli.options import refuse_unused
from multidrift.cli.output import check_new_folder, check_output, is_file_name, write_result
from multidrift.methods.picard.forecast import Forecast, forecasts
from multidrift.methods.picard.walk import Picard
from multidrift.runs.result import Result
from multidrift.sampling import sample

# What options each method takes beside those that all do.
_USED = {
    "euler": ("level",),
    "multistep": ("level", "order"),
    "ladder-multistep": ("levels", "substeps"),
    "multilevel": ("levels", "calls", "draws", "plan_seed"),
    "picard": ("level", "blocks", "window", "tolerance", "coarse", "coarse_every", "accelerate"),
    "poisson": ("level", "substeps", "draws", "plan_seed"),
    "speculative": ("window", "drafter", "verification"),
}


def sample_command(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            help="A picture of all images in a grid (.png, .jpg, .webp), an array of them (.npz, .safetensors), or a "
            "folder for one picture each."
        ),
    ] = Path("samples.png"),
    ladder: Annotated[
        str, typer.Option(help="'digits', which comes with the package, or a ladder's folder.")
    ] = "digits",
    level: Annotated[str | None, typer.Option(help="The network to use, such as f1; the best by default.")] = None,
    method: Annotated[
        MethodName,
        typer.Option(
            help="euler: DDPM, DDIM. multistep: DPM-Solver++. ladder-multistep: a big network at few steps, corrected, "
            "and a cheap one between. multilevel: ML-EM. poisson: Poisson midpoint. picard: all steps at once. "
            "speculative: DDPM's law exactly, in fewer rounds."
        ),
    ] = MethodName.euler,
    steps: Annotated[
        int,
        typer.Option(
            help="Steps: calls of the network (ladder-multistep: of the big one), of which poisson takes two a step."
        ),
    ] = 50,
    levels: Annotated[
        str | None,
        typer.Option(
            help="multilevel: the levels to use, such as f1,f5 or gaussian,f5. ladder-multistep: a cheap one and the "
            "one you want, such as f2,f5; without, the best at an eighth of the top's cost, and the top."
        ),
    ] = None,
    calls: Annotated[str | None, typer.Option(help="multilevel: expected calls of each level, such as 80,20.")] = None,
    draws: Annotated[
        str | None,
        typer.Option(
            help="multilevel: systematic, independent, midpoint, cells. poisson: independent, single, midpoint."
        ),
    ] = None,
    substeps: Annotated[
        int | None,
        typer.Option(
            help="poisson: small steps that one large step stands for (20). ladder-multistep: steps of the cheap "
            "network between two calls of the big one (3 with noise, 1 without)."
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="The reverse SDE as the paper's 1a, 1b, 1c, 1d, 2 or 3 in place of eta and holds."),
    ] = None,
    plan_seed: Annotated[int, typer.Option(help="multilevel, poisson: seed of the draws.")] = 0,
    blocks: Annotated[int, typer.Option(help="picard: blocks solved one after another.")] = 1,
    accelerate: Annotated[str | None, typer.Option(help="picard: secant, or anderson without coarse.")] = None,
    window: Annotated[
        int | None, typer.Option(help="picard: steps at once, in a sliding window. speculative: steps a draft (20).")
    ] = None,
    drafter: Annotated[
        str,
        typer.Option(
            help="speculative: frozen, a level such as f1, or f1+held with its difference to the network; several "
            "(f1+held,f3+held) draft for each other."
        ),
    ] = "f1+held",
    verification: Annotated[
        str, typer.Option(help="speculative: step, each on its own, or block, a window together: fewer rounds.")
    ] = "step",
    tolerance: Annotated[float, typer.Option(help="picard: largest change of a settled time, in units of σ.")] = 1e-3,
    coarse: Annotated[
        str | None, typer.Option(help="picard: a cheap level such as f2, several (f1,f3), gaussian or auto.")
    ] = None,
    coarse_every: Annotated[int, typer.Option(help="picard: steps from one call of the cheap level to the next.")] = 1,
    order: Annotated[int, typer.Option(help="Order of the multistep method: 1, 2 or 3.")] = 2,
    eta: Annotated[float, typer.Option(help="Amount of noise: 0 is DDIM (an ODE), 1 is DDPM (an SDE).")] = 1.0,
    holds: Annotated[str, typer.Option(help="Held over a step: data, noise, score or ddpm.")] = "data",
    grid: Annotated[
        str | None,
        typer.Option(
            help="Spacing: blend, logsnr, leading, trailing, linspace, karras or piadm. The schedule has its own."
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Number of images.")] = 16,
    seed: Annotated[int, typer.Option(help="Image i depends on the seed and on i alone.")] = 0,
    first: Annotated[int, typer.Option(help="Number of the first image: continue an earlier run.")] = 0,
    batch_size: Annotated[int | None, typer.Option(help="Images in one call of the network; all by default.")] = None,
    memory_limit: Annotated[
        float | None, typer.Option(help="Bytes of tensors that one call of a network may hold, such as 2e9.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
) -> None:
    """Draw images from a trained ladder.

    Examples:
      multidrift sample --count 64 --out digits.png

      multidrift sample --method multistep --eta 0 --steps 20 --out folder/

      multidrift sample --method ladder-multistep --levels f2,f5 --steps 10

      multidrift sample --method multilevel --levels f1,f5 --calls 80,20 --steps 80

      multidrift sample --method picard --eta 0 --coarse auto --steps 60

      multidrift sample --method speculative --drafter f1+held --steps 400

      multidrift sample --method poisson --steps 25 --substeps 40 --grid linspace
    """
    console = Console(stderr=True)
    refuse_unused(context, method.value, _USED)
    if is_file_name(out):
        check_output(out, file=True)
    else:
        check_new_folder(out)
    networks = named_ladder(ladder).to(device)
    model = networks if level is None else networks[level]
    chosen = chosen_method(
        method, steps, grid, levels=levels, calls=calls, draws=draws, substeps=substeps, order=order, blocks=blocks,
        window=window, tolerance=tolerance, coarse=coarse, coarse_every=coarse_every, accelerate=accelerate,
        drafter=drafter, verification=verification,
    )  # fmt: skip
    if isinstance(chosen, Picard):
        expected = chosen.forecast(model)
        if coarse == "auto":
            console.print(_choices(forecasts(networks, steps)))
        console.print(_outlook(expected, level or networks.top))
    process = chosen_process(networks, eta, holds, variant)
    console.print(f"drawing {count} images with {level or networks.top} …")
    result = sample(
        model, chosen, process, count=count, seed=seed, first=first, plan_seed=plan_seed, batch_size=batch_size,
        memory_limit=memory_limit,
    )  # fmt: skip
    write_result(result, out, first)
    _report(console, result, out)


def _choices(expected: Sequence[Forecast]) -> Table:
    """What every choice of the cheap level is expected to take, the shortest path first."""
    columns = ("coarse", "every", "rounds", "sweeps", "calls a sweep", "critical path", "break-even")
    table = Table(*columns, title="expected of each choice, to an error of 1e-3")
    for choice in expected:
        name = "+".join(choice.coarse) or "none"
        sizes = (choice.coarse_every, choice.rounds, choice.sweeps, choice.calls_per_sweep)
        pays = f"{choice.break_even:.1f}" if choice.break_even > 1 else "never"
        table.add_row(name, *(f"{size:.0f}" for size in sizes), f"{choice.critical_path:.2f}", pays)
    return table


def _outlook(expected: Forecast, top: str) -> str:
    """What a parallel run is expected to take, and when that pays."""
    below = f" and {expected.sweeps:.0f} sweeps of {'+'.join(expected.coarse)}" if expected.coarse else ""
    rounds = f"about {expected.rounds:.0f} rounds of {top}{below}"
    if expected.break_even <= 1:
        return f"{rounds}: no machine makes that faster than one step after another"
    return (
        f"{rounds}: {expected.critical_path:.2f} times the sequential run's calls one after another; faster where a "
        f"round's call takes less than {expected.break_even:.1f} times as long as a call on the images alone"
    )


def _report(console: Console, result: Result, out: Path) -> None:
    table = Table(
        "level", "calls per image", "batches", title=f"{len(result.samples)} images in {result.seconds:.1f} s"
    )
    for name, calls in result.calls.items():
        table.add_row(name, f"{calls:g}", f"{result.batches[name]}")
    console.print(table)
    if (found := result.speculation) is not None:
        console.print(
            f"{statistics.median(found.rounds.tolist()):g} rounds for the median image, {found.rounds.max()} for the "
            f"last; {found.acceptance:.1%} of the drafted steps accepted"
        )
    if result.peak_memory is not None:
        console.print(f"{result.peak_memory / 1e6:.0f} megabytes in the largest call")
    console.print(f"written to {out}", markup=False, emoji=False)
