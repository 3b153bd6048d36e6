"""The paper's first figure on the bundled ladder: error against seconds, DDPM and DDIM.

    python -m benchmarks.multilevel                              # about 44 minutes on two idle cores
    python -m benchmarks.multilevel --only "f2+f5, systematic"   # these settings again, the rest stays

Every run starts from the same 64 noises and reads the same Brownian paths; its error is the squared distance per
coordinate to 1000 steps of f5. Seconds are calls times the median time of a call of each level, measured first and
confirmed by whole runs that take turns; `--only` keeps them, so that all entries go by the same seconds. Each plan seed
is kept singly; nothing is the best of several.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

import multidrift as md
from benchmarks.peers import SPACINGS, Peer, run_peer
from benchmarks.record import Record, machine
from multidrift.basics.files import write_whole
from multidrift.evaluation.coupled import squared_distances
from multidrift.methods.method import Method
from multidrift.methods.multilevel.draws import Draws
from multidrift.schedules.grids import Grid

PLAN_SEEDS = range(5)
EULER_STEPS = {"f1": (20, 80, 160), "f2": (20, 80, 160), "f3": (20, 40, 80), "f4": (10, 20, 40), "f5": (10, 20, 40, 80)}
SOLVER_STEPS = (10, 20, 40)
BUDGETS = ((40, 10), (80, 20), (110, 28))  # (steps, calls of the top level)
LADDERS = {("f1", "f5"): BUDGETS[:2], ("f2", "f5"): BUDGETS, ("f1", "f3", "f5"): BUDGETS[:2]}
MIDDLE = BUDGETS[1]
DRAWS: tuple[Draws, ...] = ("independent", "systematic", "midpoint")


def methods() -> Iterator[tuple[str, str, Method]]:
    """(family, label, method) of all of ours on a ladder; a method's levels follow from it."""
    for steps in SOLVER_STEPS:
        for grid in ("blend", "logsnr", "karras"):
            yield "multistep", f"Multistep f5, {grid}", md.Multistep(steps, grid)
    for names, budgets in LADDERS.items():
        for draws in DRAWS:
            for budget in budgets:
                label = f"Multilevel {'+'.join(names)}, {draws}"
                yield "multilevel", label, multilevel(names, draws, *budget)
    for draws in DRAWS:
        label = f"Multilevel f2+f5, {draws}, linspace"
        yield "multilevel", label, multilevel(("f2", "f5"), draws, *MIDDLE, "linspace")


def multilevel(names: tuple[str, ...], draws: Draws, steps: int, top: int, grid: Grid = "blend") -> md.Multilevel:
    """The cheapest level at every step, a middle one twice as often as the top."""
    calls = (float(steps), *(2.0 * top for _ in names[1:-1]), float(top))
    return md.Multilevel(steps, grid, levels=names, calls=calls, draws=draws)


def equal_seconds(seconds: Mapping[str, float]) -> int:
    """The fewest steps of Euler at f5 that take no less time than f2+f5 at 80 steps and 20 calls."""
    steps, top = MIDDLE
    return math.ceil(top + (steps - 1) * seconds["f2"] / seconds["f5"])


class Bench:
    """One η: the reference, and everything measured against it."""

    def __init__(self, ladder: md.Ladder, eta: float, record: Record, only: Sequence[str], folder: Path | None) -> None:
        self.ladder, self.record, self.only, self.eta = ladder, record, only, eta
        self.count, self.seconds = record.header["count"], record.header["seconds_per_call"]
        self.process = md.Diffusion(ladder.schedule, eta)
        self.name = "DDPM" if eta else "DDIM"
        self.console = Console(stderr=True)
        self.reference, self.start = self.refer(record.header["reference_steps"], folder)

    def refer(self, steps: int, folder: Path | None) -> tuple[Tensor, Tensor]:
        """(end, start) of the reference, read from the folder where it is there and kept there where it is not."""
        kept = None if folder is None else folder / f"reference-eta{self.eta:g}-{steps}-{self.count}.safetensors"
        if kept is not None and kept.is_file():
            found = load_file(kept)
            return found["end"], found["start"]
        began = time.perf_counter()
        result = md.sample(self.ladder, md.Euler(steps), self.process, count=self.count, save=steps)
        self.console.print(f"{self.name}: reference in {time.perf_counter() - began:.0f} s")
        end, start = result.samples, result.trajectory[0]
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, lambda partial: save_file({"end": end, "start": start.contiguous()}, partial))
        return end, start

    def wanted(self, label: str, steps: int) -> bool:
        """Whether this setting is to be measured."""
        return not self.only or any(part in f"{label}, {steps} steps" for part in self.only)

    def keep(self, family: str, label: str, steps: int, calls: dict[str, float], errors: list[Tensor]) -> None:
        """One entry: mean and median error of each plan seed, and seconds by the measured costs."""
        entry = {
            "eta": self.eta,
            "family": family,
            "label": label,
            "steps": steps,
            "calls": calls,
            "seconds": sum(number * self.seconds[name] for name, number in calls.items()),
            "errors": [float(e.mean()) for e in errors],
            "medians": [float(e.median()) for e in errors],
        }
        self.record.add(entry)
        mean, median = (statistics.fmean(entry[key]) for key in ("errors", "medians"))
        self.console.print(
            f"{self.name} {label:36s} steps {steps:4d}  {entry['seconds']:6.2f} s  mean {mean:.5f}  median {median:.5f}"
        )

    def ours(self, family: str, label: str, method: Method, model: md.Denoiser | md.Ladder) -> None:
        """One method, over the plan seeds where it has random choices."""
        if not self.wanted(label, method.number_of_evaluations):
            return
        drawn = isinstance(method, md.Multilevel) and method.draws != "midpoint"
        errors, calls = [], []
        for seed in PLAN_SEEDS if drawn else (0,):
            result = md.sample(model, method, self.process, count=self.count, plan_seed=seed)
            errors.append(squared_distances(result.samples, self.reference))
            calls.append(result.calls)
        mean_calls = {name: statistics.fmean(c[name] for c in calls) for name in calls[0]}
        self.keep(family, label, method.number_of_evaluations, mean_calls, errors)

    def peers(self) -> None:
        """Diffusers' solvers on f5, over spacings and steps."""
        kinds = {"dpm": "DPM-Solver++(2M)", "unipc": "UniPC"} if not self.eta else {"sde-dpm": "SDE-DPM-Solver++(2M)"}
        for kind, label in kinds.items():
            for spacing in SPACINGS:
                for steps in SOLVER_STEPS:
                    peer = Peer(f"diffusers {label} f5, {spacing}", kind, spacing)
                    if not self.wanted(peer.label, steps):
                        continue
                    samples = run_peer(peer, self.ladder["f5"], self.start, steps, seed=0)
                    self.keep(
                        "peer", peer.label, steps, {"f5": float(steps)}, [squared_distances(samples, self.reference)]
                    )

    def run(self) -> None:
        """Everything, cheapest families first."""
        for level, numbers in EULER_STEPS.items():
            for steps in numbers:
                self.ours("euler", f"Euler {level}", md.Euler(steps), self.ladder[level])
        equal = equal_seconds(self.seconds)
        self.ours("euler", "Euler f5", md.Euler(equal), self.ladder["f5"])
        for steps in (20, equal, 40, 80):
            self.ours("euler", "Euler f5, linspace", md.Euler(steps, "linspace"), self.ladder["f5"])
        self.peers()
        for family, label, method in methods():
            self.ours(family, label, method, self.ladder)


def confirm(ladder: md.Ladder, count: int, repeats: int = 3) -> list[dict[str, object]]:
    """Whole runs of three settings, taking turns: their median seconds beside calls times seconds per call."""
    assert ladder.costs is not None
    settings: dict[str, Method] = {
        "Euler f5, 20 steps": md.Euler(20),
        "Multilevel f1+f5, 80 steps, 16 calls": md.Multilevel(
            80, levels=("f1", "f5"), calls=(80, 16), draws="midpoint"
        ),
        "Multilevel f2+f5, 80 steps, 12 calls": md.Multilevel(
            80, levels=("f2", "f5"), calls=(80, 12), draws="midpoint"
        ),
    }
    times: dict[str, list[float]] = {label: [] for label in settings}
    calls: dict[str, dict[str, float]] = {}
    for _ in range(repeats):
        for label, method in settings.items():
            result = md.sample(ladder, method, count=count)
            times[label].append(result.seconds)
            calls[label] = dict(result.calls)
    found = []
    for label, values in times.items():
        predicted = sum(n * ladder.costs.seconds[name] for name, n in calls[label].items())
        found.append({"label": label, "measured": statistics.median(values), "predicted": predicted, "runs": repeats})
    return found


def main(
    count: Annotated[int, typer.Option(help="Images.")] = 64,
    reference_steps: Annotated[int, typer.Option(help="Steps of f5 the errors are measured against.")] = 1000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    name: Annotated[str, typer.Option(help="Name of the result, under benchmarks/results.")] = "multilevel",
    eta: Annotated[list[float], typer.Option(help="1 is DDPM, 0 is DDIM.")] = [1.0, 0.0],  # noqa: B006
    only: Annotated[
        list[str] | None, typer.Option(help="Measure 'label, n steps' with this in it; keep the rest.")
    ] = None,
    references: Annotated[Path | None, typer.Option(help="Folder that keeps the references between runs.")] = None,
) -> None:
    """Measure error against seconds on the bundled ladder."""
    warnings.simplefilter("ignore", md.PlanWarning)
    console = Console(stderr=True)
    ladder = md.Ladder.bundled("digits").to(device)
    if only:
        record = Record.kept(name)
    else:
        ladder = ladder.measured(batch=count, repeats=9)
        assert ladder.costs is not None
        header: dict[str, object] = {
            "benchmark": "multilevel",
            "machine": machine(device),
            "count": count,
            "reference_steps": reference_steps,
            "seconds_per_call": dict(ladder.costs.seconds),
            "confirmed": confirm(ladder, count),
        }
        for line in header["confirmed"]:
            console.print(line)
        record = Record(name, header)
    for noise in eta:
        Bench(ladder, noise, record, only or (), references).run()
    console.print(f"written {record.path}")
