"""Forecasts of the rounds of what has been measured, each from a pilot of its own seed.

python -m benchmarks.speculative.forecasts                     # some minutes on idle cores
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

import multidrift as md
from benchmarks.record import Record
from benchmarks.speculative.measure import choices
from benchmarks.speculative.problems import PROBLEMS, Problem
from multidrift.methods.speculative.pilot import Pilot

STEPS, PATHS, SEED = 100, 16, 1  # of a pilot; the measured runs are of seed 0


def pilot_of(problem: Problem, ladder: md.Ladder, steps: int) -> Pilot:
    """Drifts of all levels that some choice drafts with, as `Speculative.forecast` records them."""
    process, times = md.Diffusion(ladder.schedule), md.Euler(steps).grid_for(md.Diffusion(ladder.schedule))
    methods = [md.Speculative(steps, **settings) for _, settings in choices(problem, steps)]
    wanted = {name for method in methods for name in method.levels_of(ladder)}
    levels = {name: level for name, level in ladder.with_gaussian().items() if name in wanted}
    chosen = np.unique(np.linspace(0, len(times) - 1, min(STEPS, len(times) - 1) + 1).round().astype(np.intp))
    return Pilot.of(process, levels, ladder[ladder.top].shape, times[chosen], PATHS, SEED)


def main(name: Annotated[str, typer.Option(help="Name of the result to add them to.")] = "speculative") -> None:
    """Add a forecast to every entry."""
    record = Record.kept(name)
    record.header["pilot"] = [STEPS, PATHS]
    for problem in PROBLEMS:
        ladder = problem.ladder()
        for steps in problem.samples:
            known = dict(choices(problem, steps))
            pilot, times = pilot_of(problem, ladder, steps), md.Euler(steps).grid_for(md.Diffusion(ladder.schedule))
            for entry in record.entries:
                if (entry["problem"], entry["steps"]) == (problem.name, steps):
                    method = md.Speculative(steps, **known[entry["label"]])
                    drifts = pilot.of_levels(*method.levels_of(ladder))
                    entry["forecast"] = round(method.forecast_from(ladder, drifts, times).rounds, 2)
            record.write()


if __name__ == "__main__":
    typer.run(main)
