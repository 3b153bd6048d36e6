"""Evenly spread draws against the paper's, on another grid: f2+f5, 80 steps, 20 calls of f5.

    python -m benchmarks.draws            # about five minutes on two cores

The same question as in `benchmarks.multilevel`, for equal steps of t in place of its default grid, and with what no
draw can do anything about: the distance of f5 at all 80 steps from the reference.
"""

from __future__ import annotations

import warnings
from typing import Annotated, cast

import typer
from rich.console import Console

import multidrift as md
from benchmarks.record import Record, machine
from multidrift.evaluation.coupled import squared_distances
from multidrift.processes.grids import Grid
from multidrift.samplers.method import Method

STEPS, CALLS, PLAN_SEEDS = 80, 20, range(5)


def main(
    eta: Annotated[float, typer.Option(help="1 is DDPM, 0 is DDIM.")] = 1.0,
    grid: Annotated[str, typer.Option(help="The spacing of all runs.")] = "linspace",
    count: Annotated[int, typer.Option(help="Images.")] = 64,
    reference_steps: Annotated[int, typer.Option(help="Steps of f5 the errors are measured against.")] = 500,
) -> None:
    """Measure the three draws, Euler at equal seconds and Euler at all steps."""
    warnings.simplefilter("ignore", md.PlanWarning)
    spacing = cast("Grid", grid)
    ladder = md.Ladder.bundled("digits").measured(batch=count, repeats=5)
    assert ladder.costs is not None
    seconds = ladder.costs.seconds
    process = md.Diffusion(ladder.schedule, eta)
    header = {"benchmark": "draws", "machine": machine("cpu"), "count": count, "reference_steps": reference_steps}
    record = Record("draws", header | {"eta": eta, "grid": grid, "seconds_per_call": dict(seconds)})
    reference = md.sample(ladder, md.Euler(reference_steps, spacing), process, count=count).samples
    equal = round(CALLS + (STEPS - 1) * seconds["f2"] / seconds["f5"])
    methods: dict[str, Method] = {f"Euler f5, {equal} steps (equal seconds)": md.Euler(equal, spacing)}
    for draws in ("independent", "systematic", "midpoint"):
        calls = (float(STEPS), float(CALLS))
        methods[draws] = md.Multilevel(STEPS, spacing, levels=("f2", "f5"), calls=calls, draws=draws)
    methods[f"Euler f5, {STEPS} steps (no draw can be better)"] = md.Euler(STEPS, spacing)
    for label, method in methods.items():
        errors = []
        for seed in PLAN_SEEDS if label in ("independent", "systematic") else (0,):
            result = md.sample(ladder, method, process, count=count, plan_seed=seed)
            errors.append(squared_distances(result.samples, reference))
        entry: dict[str, object] = {
            "label": label,
            "seconds": sum(n * seconds[name] for name, n in result.calls.items()),
            "errors": [float(e.mean()) for e in errors],
            "medians": [float(e.median()) for e in errors],
        }
        record.add(entry)
        Console(stderr=True).print(entry)


if __name__ == "__main__":
    typer.run(main)
