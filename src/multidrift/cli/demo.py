"""`multidrift demo`: the same digits in a tenth of the time, with their errors beside them."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from multidrift.basics.errors import require
from multidrift.cli.output import check_output
from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.demonstration import REFERENCE_STEPS, SHOWN, contenders, demonstrate
from multidrift.methods.advice import PlanWarning
from multidrift.processes.diffusion import Diffusion


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the plot.")] = Path("out"),
    eta: Annotated[float, typer.Option(help="Amount of noise: 1 is DDPM, 0 is DDIM.")] = 1.0,
    count: Annotated[int, typer.Option(help="Number of digits.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the noise all methods share.")] = 0,
) -> None:
    """Draw digits with the bundled ladder: a 160-step reference, then five methods at equal measured seconds.

    Every method starts from the same noise, so each digit can be compared with the reference's, pixel by pixel. Writes
    demo.png (the digits) and demo-error.png (error against seconds) to OUT.
    """
    from multidrift.report.comparison import error_plot, picture, table  # imports matplotlib, which takes a second

    console = Console(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, 120)  # a file has no edge to wrap rows at
    require(count >= 1, "count", count, "a count of at least 1")
    check_output(out)
    warnings.simplefilter("ignore", PlanWarning)  # the smallest budget overshoots, and is there to show what that does
    started = time.perf_counter()
    ladder = Ladder.bundled("digits")
    for module in (module for level in ladder for module in level.modules):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on a processor

    def stage(what: str) -> None:
        if not console.is_terminal:  # where it is one, bars say as much
            console.print(f"{time.perf_counter() - started:.0f} s: {what} …")

    stage("measuring what a call of each network takes")
    ladder = ladder.measured(batch=max(count, 8), repeats=5)  # fewer tell of overhead, not of networks
    assert ladder.schedule is not None  # its levels are Denoisers
    process = Diffusion(ladder.schedule, eta)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        first = bars.add_task(f"reference: {REFERENCE_STEPS} steps of {ladder.top}", total=REFERENCE_STEPS)
        runs = [c for group in contenders(ladder, process).values() for c in group]
        steps = sum(len(c.method.grid_for(process)) * len(c.plan_seeds) for c in runs)
        second = bars.add_task("methods: three budgets of seconds", total=steps)
        shown = demonstrate(
            ladder, process, count, seed, lambda _: bars.advance(first), lambda _: bars.advance(second), stage
        )  # fmt: skip
    name = "DDPM (η = 1)" if eta == 1 else "DDIM (η = 0)" if eta == 0 else f"η = {eta:g}"
    reference, outcomes = shown.reference, shown.outcomes[SHOWN]
    picture(reference.samples, f"Reference, {reference.seconds:.0f} s", outcomes, out / "demo.png")
    title = f"{name}: distance to {REFERENCE_STEPS} steps of {ladder.top}, same noise"
    error_plot(shown.curves(), title, out / "demo-error.png")
    console.print(table(outcomes, f"{name}, {count} digits; the reference took {reference.seconds:.1f} s"))
    console.print(
        f"written {out / 'demo.png'} and {out / 'demo-error.png'} in {time.perf_counter() - started:.0f} s", emoji=False
    )
