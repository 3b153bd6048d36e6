"""`multidrift demo`: the same digits, several times faster, with the proof beside them."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.coupled import Outcome, compare, equal_cost
from multidrift.plans.advice import PlanWarning
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.errors import require
from multidrift.samplers.euler import Euler
from multidrift.samplers.result import State
from multidrift.samplers.sample import sample

_REFERENCE_STEPS = 400
_BUDGETS = (20.0, 30.0, 45.0)  # in calls of the biggest network
_SHOWN = 30.0  # the budget in the picture and the table
_STEPS = {20.0: 60, 30.0: 80, 45.0: 120}  # of the cheap level, a third to a half of each budget
_LEVELS = ("f1", "f5")


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the plot.")] = Path("out"),
    eta: Annotated[float, typer.Option(help="Amount of noise: 1 is DDPM, 0 is DDIM.")] = 1.0,
    count: Annotated[int, typer.Option(help="Number of digits.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the noise all methods share.")] = 0,
) -> None:
    """Draw digits with the bundled ladder: a 400-step reference, then five methods at equal measured seconds.

    Every method starts from the same noise, so each digit can be compared with the reference's, pixel by pixel. Writes
    demo.png (the digits) and demo-error.png (error against seconds) to OUT.
    """
    from multidrift.report.comparison import error_plot, picture, table  # imports matplotlib, which takes a second

    console = Console(stderr=True, soft_wrap=True)
    require(count >= 1, "count", count, "a count of at least 1")
    started = time.perf_counter()
    # The smallest budget overshoots, and is there to show what that does.
    warnings.simplefilter("ignore", PlanWarning)
    ladder = Ladder.bundled("digits").measured(batch=count, repeats=5)
    process = Diffusion(ladder.schedule, eta)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        reference_bar = bars.add_task(f"reference: {_REFERENCE_STEPS} steps of {ladder.top}", total=_REFERENCE_STEPS)
        reference = sample(
            ladder, Euler(_REFERENCE_STEPS), process, count=count, seed=seed, progress=False,
            callback=lambda _: bars.advance(reference_bar),
        )  # fmt: skip
        contenders = {budget: equal_cost(ladder, budget, _STEPS[budget], _LEVELS) for budget in _BUDGETS}
        steps = sum(c.method.number_of_steps * len(c.plan_seeds) for group in contenders.values() for c in group)
        methods_bar = bars.add_task("methods: three budgets of seconds", total=steps)

        def tick(state: State) -> None:
            del state
            bars.advance(methods_bar)

        outcomes = {
            budget: compare(ladder, reference.samples, group, process, seed, tick=tick)
            for budget, group in contenders.items()
        }
    name = "DDPM (η = 1)" if eta == 1 else "DDIM (η = 0)" if eta == 0 else f"η = {eta:g}"
    curves: dict[str, list[Outcome]] = {}
    for group in outcomes.values():
        for outcome in group:
            curves.setdefault(outcome.label, []).append(outcome)
    shown = outcomes[_SHOWN]
    label = f"Reference, {reference.seconds:.0f} s"
    picture(reference.samples, label, shown, out / "demo.png")
    error_plot(
        curves, f"{name}: distance to {_REFERENCE_STEPS} steps of {ladder.top}, same noise", out / "demo-error.png"
    )
    console.print(table(shown, f"{name}, {count} digits; the reference took {reference.seconds:.1f} s"))
    console.print(f"written {out / 'demo.png'} and {out / 'demo-error.png'} in {time.perf_counter() - started:.0f} s")
