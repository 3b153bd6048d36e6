"""Do plans beat constant probabilities? Allocated, learned and searched ones at equal cost, on noise not seen before.

    python -m benchmarks.plans --threads 2           # three quarters of an hour; goes on where it was stopped
    python -m benchmarks.plans --problem closed      # a minute

Two levels, so many steps and calls of the top one; only when it is called differs. "allocated" is the rule by time of
`md.allocate` from a calibration, "learned" what `md.learn_plan` found by gradient for independent draws, "searched" by
differential evolution for evenly spread ones. Each image draws for itself (`shared=False`), so that an interval over
images is one over draws, too; errors are squared distances to a fine run of the top level with the same noise. Beside
them, as an extra, the paper's best of 15 draws, on the batch that it was chosen on and on another.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

import multidrift as md
from benchmarks.bootstrap import Errors, ratio
from benchmarks.record import RESULTS, Record, machine
from benchmarks.tables import results, rows
from multidrift.evaluation.coupled import squared_distances
from multidrift.methods.multilevel.draws import Draws
from multidrift.planning.rules import Setting

NAME = "plans"
ETAS = {"SDE": 1.0, "ODE": 0.0}
SEED = 1 << 46  # of the images that errors are measured on
BEST_OF = 15
PLANS = {
    *(f"{name}, {draws}" for name in ("constant", "allocated") for draws in ("independent", "systematic")),
    *("learned, independent", "searched, systematic"),
}
CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Problem:
    """A ladder, two of its levels, and how much is measured on it."""

    name: str
    title: str
    levels: tuple[str, str]
    steps: int
    calls: float  # budget, in calls of the top level
    images: int
    fine: int  # steps of the reference
    paths: int  # that a plan is learned on
    iterations: int
    generations: int
    memorised: tuple[float, ...]  # budgets of the extra
    batch: int  # images that a draw is chosen on

    def ladder(self) -> md.Ladder:
        """The levels and their costs."""
        if self.name == "digits":
            return md.Ladder.bundled("digits")
        return md.SyntheticLadder(3.0, levels=3, size=1.0, unit=1.0).ladder(md.schedules.ddpm())


PROBLEMS = {
    "closed": Problem(
        "closed", "closed form, γ = 3, f1+f3", ("f1", "f3"), 16, 6.0, 1024, 256, 32, 40, 12, (4.0, 6.0, 8.0), 16
    ),
    "digits": Problem("digits", "digits, f2+f5", ("f2", "f5"), 32, 10.0, 96, 128, 6, 16, 4, (10.0,), 8),
}


def methods(
    problem: Problem, ladder: md.Ladder, process: md.Diffusion, known: set[str]
) -> Iterator[tuple[str, Draws, md.Multilevel, bool]]:
    """Name, draws, method, and whether its search settled, of what is not known; the constant probabilities first."""
    calibration = md.calibrate(ladder, process, costs=ladder.costs, paths=8)
    seconds = problem.calls * calibration.cost(ladder.top) / calibration.batch
    blank = md.Multilevel(problem.steps, levels=problem.levels, probabilities=1.0)
    setting = Setting(calibration, process, problem.levels, blank.grid_for(process))
    effort: tuple[tuple[Draws, str, int], ...] = (
        ("independent", "learned", problem.iterations),
        ("systematic", "searched", problem.generations),
    )
    for draws, name, iterations in effort:
        for rule, label in (("constant", "constant"), ("time", "allocated")):
            table = setting.within(setting.preferences(rule), seconds, draws)
            assert table is not None
            if f"{label}, {draws}" not in known:
                yield label, draws, replace(blank, probabilities=table.tolist(), draws=draws), True
        if f"{name}, {draws}" in known:
            continue
        found = md.learn_plan(
            ladder, calibration, process, levels=problem.levels, steps=problem.steps, seconds=seconds, draws=draws,
            paths=problem.paths, iterations=iterations, validation=4, reference_steps=problem.fine,
        )  # fmt: skip
        yield name, draws, found.method, found.converged


def measure(problem: Problem, record: Record) -> None:
    """The error of every plan on each image, SDE and ODE, where it is not there yet."""
    ladder = problem.ladder()
    for process_name, eta in ETAS.items():
        about: dict[str, object] = {"problem": problem.name, "process": process_name}
        known = {e["label"] for e in record.entries if about.items() <= e.items()}
        if len(known) == len(PLANS):
            continue
        process = md.Diffusion(ladder.schedule, eta)

        def run(method: md.Multilevel | md.Multistep, process: md.Diffusion = process) -> torch.Tensor:
            return md.sample(ladder, method, process, count=problem.images, seed=SEED, progress=False).samples

        reference = run(md.Multistep(problem.fine))
        for name, draws, method, converged in methods(problem, ladder, process, known):
            errors = squared_distances(run(replace(method, shared=False)), reference)
            entry = {"label": f"{name}, {draws}", "plan": name, "draws": draws, "converged": converged}
            entry |= {"calls": method.expected_calls(ladder), "errors": [float(f"{e:.4g}") for e in errors.tolist()]}
            record.add(about | entry)
            CONSOLE.print(f"{problem.name} {process_name} {name}, {draws}: {errors.mean():.5f}")


def memorise(problem: Problem, record: Record) -> None:
    """The extra: the best of 15 draws with constant probabilities, at each budget."""
    ladder = problem.ladder()
    assert ladder.costs is not None
    cheap = ladder.costs.seconds[problem.levels[0]] / ladder.costs.seconds[ladder.top]
    known = {(e["problem"], e["process"], e["budget"]) for e in record.entries}
    for process_name, eta in ETAS.items():
        for budget in problem.memorised:
            if (problem.name, process_name, budget) in known:
                continue
            process = md.Diffusion(ladder.schedule, eta)
            calls = (float(problem.steps), budget - cheap * problem.steps)
            method = md.Multilevel(problem.steps, levels=problem.levels, calls=calls, draws="independent")
            found = md.memorise_plan(
                ladder, method, process, draws=BEST_OF, count=problem.batch, reference_steps=problem.fine
            )
            entry: dict[str, object] = {"problem": problem.name, "process": process_name, "budget": budget}
            entry |= {"label": "memorised", "errors": list(found.errors)}
            record.add(entry | {"best_unseen": found.error, "typical_unseen": found.typical})
            CONSOLE.print(f"{problem.name} {process_name} {budget:g}: {min(found.errors):.4g} {found.error:.4g}")


def table() -> str:
    """A row a problem, process and kind of draws: mean errors, and each plan's over the constant one's."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return "Not measured yet: `python -m benchmarks.plans`."
    found: dict[tuple[str, str, str], dict[str, dict[str, object]]] = {}
    for e in results(NAME)["entries"]:
        found.setdefault((e["problem"], e["process"], e["draws"]), {})[e["plan"]] = e
    lines = []
    for (problem, process, draws), plans in found.items():
        errors = {name: Errors(np.array(e["errors"])[None]) for name, e in plans.items()}
        if "constant" not in errors:
            continue
        cells = [PROBLEMS[problem].title, process, draws, f"{errors['constant'].of('mean'):.4f}"]
        for name in ("allocated", "learned" if draws == "independent" else "searched"):
            if name not in errors:
                cells.append("–")
                continue
            value, low, high = ratio(errors[name], errors["constant"], "mean")
            settled = "" if plans[name]["converged"] else ", not settled"
            cells.append(f"{name}: {value:.2f} ({low:.2f} to {high:.2f}{settled})")
        lines.append(cells)
    header = [
        "ladder",
        "",
        "draws",
        "error with constant probabilities",
        "times that: allocated",
        "learned or searched",
    ]
    return rows(header, lines)


def memorised() -> str:
    """A row a budget: a typical draw, and the best of 15 on its own batch and on another."""
    if not (RESULTS / f"{NAME}-memorised.json").is_file():
        return "Not measured yet: `python -m benchmarks.plans`."
    lines = [
        [
            PROBLEMS[e["problem"]].title, e["process"], f"{e['budget']:g}", f"{np.mean(e['errors']):.4f}",
            f"{min(e['errors']):.4f}", f"{e['typical_unseen']:.4f}", f"{e['best_unseen']:.4f}",
        ]
        for e in results(f"{NAME}-memorised")["entries"]
    ]  # fmt: skip
    own, other = "its own batch", "another batch"
    header = ["ladder", "", "budget", f"{own}: mean draw", "best of 15", f"{other}: mean draw", "that best one"]
    return rows(header, lines)


SECTIONS = {"plans": table, "memorised": memorised}


def main(
    problem: Annotated[list[str] | None, typer.Option(help="closed, digits; both by default.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the processor.")] = 1,
) -> None:
    """Measure all plans, and the extra."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    header: dict[str, object] = {"benchmark": NAME, "machine": machine("cpu")}
    plans, extra = Record(NAME, dict(header), compact=True), Record(f"{NAME}-memorised", dict(header), compact=True)
    for record in (plans, extra):
        record.resume()
    for name in problem or PROBLEMS:
        measure(PROBLEMS[name], plans)
        memorise(PROBLEMS[name], extra)


if __name__ == "__main__":
    typer.run(main)
