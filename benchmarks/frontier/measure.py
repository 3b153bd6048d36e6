"""Error against seconds over all methods on the bundled ladder: ours, diffusers' solvers, ladder peers, auto.

    python -m benchmarks.frontier                                # 128 images, six budgets: hours on two cores
    python -m benchmarks.frontier --count 8 --budgets 6 --small  # a trial of minutes; says nothing but that it runs

Every run starts from the same noises (seed 0) and reads the same Brownian paths. Path error: squared distance to a
fine run of f5. Law: kernel and Fréchet distance of the digits' features to those of as many samples of a fine run of
other noise. Seconds are calls times the ladder's costs, which `md.Ladder.measured` takes on an idle machine; budgets
are calls of f5. `md.auto` is asked at every budget with noise of its own, and measured as all others are.
"""

from __future__ import annotations

import warnings
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor

import multidrift as md
from benchmarks.frontier.peers import switches
from benchmarks.peers import FOUR_SPACINGS, Peer, run_peer
from benchmarks.record import Record, machine
from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.features import digit_features
from multidrift.evaluation.laws import frechet_distance, kernel_distance
from multidrift.planning.candidates import candidates

NAME = "frontier"
BATCH = 64
ETAS = {"sde": 1.0, "ode": 0.0}
PEERS = {
    1.0: {"sde-dpm": "SDE-DPM-Solver++(2M)", "sa": "SA-Solver"},
    0.0: {"dpm": "DPM-Solver++(2M)", "unipc": "UniPC"},
}
BUDGETS = "5,8,12,20,30,50"
_OTHER_NOISE = 1 << 32  # seed of the law's reference
_COMPARED = 64  # samples that auto compares its last candidates on


class Bench:
    """One process: its references, and every setting measured against them."""

    def __init__(self, ladder: Ladder, name: str, record: Record, count: int, reference_steps: int) -> None:
        self.ladder, self.name, self.record, self.count = ladder, name, record, count
        self.process = md.Diffusion(ladder.schedule, ETAS[name])
        fine = md.Multistep(reference_steps, "blend")
        result = md.sample(ladder, fine, self.process, count=count, batch_size=BATCH, save=reference_steps)
        self.reference, self.start = result.samples, result.trajectory[0]
        other = md.sample(ladder, fine, self.process, count=count, batch_size=BATCH, seed=_OTHER_NOISE)
        self.features = digit_features(other.samples)

    def keep(self, family: str, label: str, budget: float, price: float, samples: Tensor, **more: object) -> None:
        """One entry: path errors of each image, and the distances of the law."""
        errors, found = squared_distances(samples, self.reference), digit_features(samples)
        law = kernel_distance(found, self.features)
        entry: dict[str, object] = {
            "process": self.name, "family": family, "label": label, "budget": budget, "price": price,
            "errors": [float(f"{e:.4g}") for e in errors.tolist()],
            "kernel": [law.value, law.standard_error], "frechet": frechet_distance(found, self.features),
        }  # fmt: skip
        self.record.add(entry | more)

    def ours(self, budget: float, calibration: md.Calibration) -> None:
        """All that `md.auto` would try, each measured."""
        one = calibration.cost(self.ladder.top) / calibration.batch
        for candidate in candidates(self.ladder, self.process, calibration, budget * one, "law"):
            result = md.sample(
                self.ladder, candidate.method, self.process, count=self.count, batch_size=BATCH, progress=False
            )
            self.keep(candidate.kind, candidate.label, budget, candidate.seconds / one, result.samples)

    def peers(self, budget: float, *, small: bool) -> None:
        """Solvers of diffusers on f5 with four grids, DDPM or DDIM (Euler on its own grid), and switches."""
        for kind, name in PEERS[self.process.eta].items():
            for spacing in ("linspace",) if small else FOUR_SPACINGS:
                peer = Peer(f"diffusers {name}, {spacing}", kind, spacing)
                samples = run_peer(peer, self.ladder["f5"], self.start, int(budget), seed=0, batch_size=BATCH)
                self.keep("peer", peer.label, budget, float(int(budget)), samples)
        chain = md.Euler(int(budget), "trailing", integer=True)
        samples = md.sample(self.ladder, chain, self.process, count=self.count, batch_size=BATCH).samples
        name = "DDPM" if self.process.eta else "DDIM"
        self.keep("peer", f"{name} f5, trailing", budget, float(int(budget)), samples)
        seconds = self.ladder.costs.seconds
        for switch in switches(self.ladder)[:: 12 if small else 1]:
            steps = switch.steps(self.ladder, budget)
            price = steps * (switch.share * seconds[switch.small] / seconds["f5"] + 1.0 - switch.share)
            result = switch.run(self.ladder, self.process, steps, self.count, BATCH)
            self.keep("ladder peer", switch.label, budget, price, result.samples)

    def auto(self, budget: float, calibration: md.Calibration, compared: int) -> None:
        """What `md.auto` chooses for the path, beside what it predicted."""
        choice = md.auto(self.ladder, self.process, calls=budget, calibration=calibration, samples=compared)
        result = md.sample(self.ladder, choice.method, self.process, count=self.count, batch_size=BATCH)
        one = calibration.cost(self.ladder.top) / calibration.batch
        self.keep(
            "auto", "md.auto, path", budget, choice.seconds / one, result.samples,
            predicted=choice.error, predicted_seconds=choice.seconds, measured_seconds=result.seconds / self.count,
            reason=choice.reason,
        )  # fmt: skip


def main(
    count: Annotated[int, typer.Option(help="Images, at least 3; 128 and more for figures.")] = 128,
    budgets: Annotated[str, typer.Option(help="Budgets, in calls of f5.")] = BUDGETS,
    reference_steps: Annotated[int, typer.Option(help="Steps of the references.")] = 400,
    process: Annotated[str, typer.Option(help="sde, ode or both.")] = "both",
    *,
    small: Annotated[bool, typer.Option(help="Fewer peers and a rough calibration: a trial.")] = False,
    measured: Annotated[bool, typer.Option(help="Measure costs here, in place of the ladder's own.")] = False,
) -> None:
    """Measure every method at every budget."""
    warnings.simplefilter("ignore")
    console = Console(stderr=True)
    ladder = md.Ladder.bundled("digits")
    ladder = ladder.measured(BATCH) if measured else ladder
    header = {"benchmark": NAME, "machine": machine("cpu"), "count": count, "reference_steps": reference_steps}
    record = Record(f"{NAME}-trial" if small else NAME, header | {"seconds": dict(ladder.costs.seconds)}, compact=True)
    for name in ETAS if process == "both" else (process,):
        bench = Bench(ladder, name, record, count, reference_steps)
        paths, steps = (4, 8) if small else (16, 24)
        calibration = md.calibrate(ladder, bench.process, costs=ladder.costs, paths=paths, steps=steps)
        for budget in (float(number) for number in budgets.split(",")):
            bench.ours(budget, calibration)
            bench.peers(budget, small=small)
            bench.auto(budget, calibration, 4 if small else _COMPARED)
            console.print(f"{name}, {budget:g} calls: done")
    console.print(summary(record))


def summary(record: Record) -> str:
    """At each budget the best of ours, of the peers and auto by mean path error, with their medians."""
    lines = []
    for name, budget in dict.fromkeys((e["process"], e["budget"]) for e in record.entries):
        there = [e for e in record.entries if (e["process"], e["budget"]) == (name, budget)]
        for families in (("top", "level", "ladder"), ("peer", "ladder peer"), ("auto",)):
            among = [e for e in there if e["family"] in families]
            best = min(among, key=lambda e: torch.tensor(e["errors"]).mean(), default=None)
            if best is not None:
                errors = torch.tensor(best["errors"])
                lines.append(
                    f"{name} {budget:g}: {best['label']}: mean {errors.mean():.4f}, median {errors.median():.4f}"
                )
    return "\n".join(lines)
