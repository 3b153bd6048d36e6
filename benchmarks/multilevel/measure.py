"""Error at equal cost on the bundled ladder, SDE and ODE: one network, diffusers' solvers, and a ladder of networks.

    python -m benchmarks.multilevel                                    # about two hours on two idle cores
    python -m benchmarks.multilevel --part peers --process sde         # parts of both processes may run side by side
    python -m benchmarks.multilevel --part costs                       # seconds a call, on an idle machine

Every run starts from the same 128 noises (seed 0) and reads the same Brownian paths; its error is the squared distance
per coordinate of each image to the reference: for the SDE 1000 steps of the DDPM chain of f5, for the ODE 250 steps of
second order, so that no solver is charged for Euler's own error. Budgets are calls of f5, cheap calls are paid for. All
errors, of each plan seed and image, are kept: tables resample both. What is in the record is not measured again, unless
`--again` says so; each part and process has a file of its own.
"""

from __future__ import annotations

import statistics
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

import multidrift as md
from benchmarks.multilevel.families import FAMILIES, PARTS, Family
from benchmarks.peers import Peer, run_peer
from benchmarks.record import Record, machine
from multidrift.basics.errors import require
from multidrift.basics.files import write_whole
from multidrift.evaluation.coupled import squared_distances
from multidrift.methods.method import Method

BATCH = 64  # rows of one network call, in the runs and where seconds are measured
ETAS = {"sde": 1.0, "ode": 0.0}
REFERENCES: dict[str, Method] = {"sde": md.Euler(1000, "linspace"), "ode": md.Multistep(250, "blend")}
CONSOLE = Console(stderr=True)


def digits(device: str) -> md.Ladder:
    """The bundled ladder with networks laid out channels last, which processors convolve faster."""
    ladder = md.Ladder.bundled("digits").to(device)
    for name in ladder.names:
        ladder[name].net.to(memory_format=torch.channels_last)
    return ladder


class Bench:
    """One process: the reference, and everything of one part measured against it."""

    def __init__(self, ladder: md.Ladder, name: str, record: Record, folder: Path | None, only: list[str]) -> None:
        self.ladder, self.name, self.record, self.only = ladder, name, record, only
        self.count = int(str(record.header["count"]))
        self.process = md.Diffusion(ladder.schedule, ETAS[name])
        self.reference, self.start = self.refer(folder)

    def refer(self, folder: Path | None) -> tuple[Tensor, Tensor]:
        """(end, start) of the reference, read from the folder where it is there and kept there where it is not."""
        steps = int(str(self.record.header["reference_steps"]))
        kept = None if folder is None else folder / f"reference-{self.name}-{steps}-{self.count}.safetensors"
        device = self.ladder[self.ladder.top].device
        if kept is not None and kept.is_file():
            found = load_file(kept)
            return found["end"].to(device), found["start"].to(device)
        began = time.perf_counter()
        result = self.sample(replace(REFERENCES[self.name], steps=steps), save=steps)
        CONSOLE.print(f"{self.name}: reference in {time.perf_counter() - began:.0f} s")
        end, start = result.samples, result.trajectory[0].to(result.samples)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            tensors = {"end": end.cpu(), "start": start.cpu().contiguous()}
            write_whole(kept, lambda partial: save_file(tensors, partial))
        return end, start

    def sample(self, method: Method, **settings: object) -> md.Result:
        """One run of ours."""
        return md.sample(self.ladder, method, self.process, count=self.count, batch_size=BATCH, **settings)

    def run(self, part: str, *, again: bool) -> None:
        """Every setting of the part that is wanted and not there yet."""
        known = set() if again else {(e["label"], e["budget"]) for e in self.record.entries}
        for family in FAMILIES:
            if family.part != part or family.eta not in (None, self.process.eta):
                continue
            for budget in family.budgets:
                wanted = not self.only or any(piece in f"{family.label}, {budget} calls" for piece in self.only)
                if wanted and (family.label, budget) not in known:
                    self.measure(family, budget)

    def measure(self, family: Family, budget: int) -> None:
        """One setting at one budget: the error of each plan seed and each image, and the calls."""
        method = family.make(self.ladder, budget)
        errors, calls = [], []
        for seed in family.plan_seeds:
            if isinstance(method, Peer):
                samples = run_peer(method, self.ladder["f5"], self.start, budget, seed=0, batch_size=BATCH)
                calls.append({"f5": float(budget)})
            else:
                result = self.sample(method, plan_seed=seed)
                samples = result.samples
                calls.append(dict(result.calls))
            errors.append(squared_distances(samples, self.reference))
        entry: dict[str, object] = {
            "eta": self.process.eta,
            "family": family.family,
            "label": family.label,
            "budget": budget,
            "steps": budget if isinstance(method, Peer) else method.number_of_evaluations,
            "calls": {name: statistics.fmean(c[name] for c in calls) for name in calls[0]},
            "errors": [[float(f"{e:.4g}") for e in row.tolist()] for row in errors],
        }
        same = (family.label, budget)
        self.record.entries = [e for e in self.record.entries if (e["label"], e["budget"]) != same]
        self.record.add(entry)
        middle, mean = torch.stack(errors).median(), torch.stack(errors).mean()
        CONSOLE.print(f"{self.name} {family.label:44s} {budget:3d} calls  mean {mean:.5f}  median {middle:.5f}")


def measure_costs(device: str, repeats: int = 15) -> None:
    """Seconds a call of each level, the levels taking turns, and three whole runs beside what they predict."""
    ladder = digits(device).measured(batch=BATCH, repeats=repeats)
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
    header = {"benchmark": "multilevel-costs", "machine": machine(device), "batch": BATCH}
    record = Record("multilevel-costs", header | {"seconds_per_call": dict(ladder.costs.seconds)})
    times: dict[str, list[float]] = {label: [] for label in settings}
    for _ in range(3):
        for label, method in settings.items():
            times[label].append(md.sample(ladder, method, count=BATCH).seconds)
    for label, method in settings.items():
        predicted = sum(n * ladder.costs.seconds[level] for level, n in method.expected_calls(ladder).items())
        found = {"label": label, "measured": statistics.median(times[label]), "predicted": predicted, "runs": 3}
        record.add(found)
        CONSOLE.print(found)


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"{', '.join(PARTS)} or costs; all by default.")] = None,
    process: Annotated[list[str], typer.Option(help="sde (η = 1), ode (η = 0).")] = ["sde", "ode"],  # noqa: B006
    count: Annotated[int, typer.Option(help="Images.")] = 128,
    reference_steps: Annotated[
        int | None, typer.Option(help="Steps of the reference; 1000 and 250 by default.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only 'label, n calls' with this in it.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure also what is in the record.")] = False,
    references: Annotated[Path | None, typer.Option(help="Folder that keeps the references between runs.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of a processor; all by default.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    name: Annotated[str, typer.Option(help="Begins the names of the results.")] = "multilevel",
) -> None:
    """Measure error at equal cost on the bundled ladder."""
    warnings.simplefilter("ignore", md.PlanWarning)
    if threads is not None:
        torch.set_num_threads(threads)
    ladder = digits(device)
    for one in part or ("costs", *PARTS):
        require(one in ("costs", *PARTS), "part", one, ", ".join(("costs", *PARTS)))
        if one == "costs":
            measure_costs(device)
            continue
        for which in process:
            assert ladder.costs is not None
            header: dict[str, object] = {
                "benchmark": "multilevel",
                "machine": machine(device),
                "count": count,
                "reference_steps": reference_steps or REFERENCES[which].number_of_evaluations,
                "costs_of_calls": dict(ladder.costs.seconds),
            }
            record = Record(f"{name}-{which}-{one}", header, compact=True)
            record.resume()
            Bench(ladder, which, record, references, only or []).run(one, again=again)
            CONSOLE.print(f"written {record.path}")


if __name__ == "__main__":
    typer.run(main)
