"""Whether the gain of LadderMultistep is of the bundled digits alone: five kinds of closed-form problems, and a ladder
of networks trained on another data set.

    python -m benchmarks.multilevel.problems                            # the closed forms: two minutes on one core
    python -m benchmarks.multilevel.problems --ladder FOLDER --name …    # a ladder of yours, top level and cheapest

Each closed form is a mixture, whose exact denoiser is the top level; the cheap one is that of a mixture with less of
what the kind is named for, as a smaller network has learnt less. It is taken to cost a tenth of the top one.
Coefficients are fitted on other samples (seed 2³²) than the errors are measured on (seed 0). Peers and errors as in
`benchmarks.multilevel`: squared distance per coordinate to a fine path of the same noise, relative to the variance of
the reference; four grids each.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

import multidrift as md
from benchmarks.multilevel.families import PEERS, most_steps
from benchmarks.peers import FOUR_SPACINGS, Peer, run_peer
from benchmarks.record import Record, machine
from multidrift.drifts.costs import Costs
from multidrift.evaluation.coupled import squared_distances

BUDGETS = (8, 10, 15, 20, 30)
COUNT = 128
SHARE = 0.1  # of a top call's seconds that a cheap call takes
FINE = {1.0: md.Euler(1000, "linspace"), 0.0: md.Multistep(400, "blend")}
CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Problem:
    """A ladder of a cheap level and a top one, and what it is called."""

    name: str
    ladder: md.Ladder


def ring(rng: np.random.Generator) -> tuple[md.GaussianMixture, md.GaussianMixture]:
    """Eight modes on a circle; the cheap level knows four wider ones."""

    def modes(count: int, width: float) -> md.GaussianMixture:
        angles = 2 * np.pi * np.arange(count) / count
        means = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return md.GaussianMixture(np.ones(count), means, [width**2 * np.eye(2)] * count)

    del rng
    return modes(8, 0.08), modes(4, 0.35)


def anisotropic(rng: np.random.Generator) -> tuple[md.GaussianMixture, md.GaussianMixture]:
    """Ten Gaussians in 32 dimensions, each with its own long axes; the cheap level's are round."""
    means = rng.normal(size=(10, 32)) * 0.6
    turns = [np.linalg.qr(rng.normal(size=(32, 32)))[0] for _ in range(10)]
    widths = np.geomspace(0.5, 0.005, 32)
    own = [turn * widths @ turn.T for turn in turns]
    return md.GaussianMixture(np.ones(10), means, own), md.GaussianMixture(
        np.ones(10), means, [widths.mean() * np.eye(32)] * 10
    )


def spiral(rng: np.random.Generator) -> tuple[md.GaussianMixture, md.GaussianMixture]:
    """A curve in the plane of 64 narrow pieces; the cheap level joins every eight of them."""
    along = np.linspace(0.25, 1.0, 64)
    means = np.stack([along * np.cos(9 * along), along * np.sin(9 * along)], axis=1) * 1.5
    joined = means.reshape(8, 8, 2)
    spread = [np.cov(piece.T, bias=True) + 0.03**2 * np.eye(2) for piece in joined]
    del rng
    return md.GaussianMixture(np.ones(64), means, [0.03**2 * np.eye(2)] * 64), md.GaussianMixture(
        np.ones(8), joined.mean(axis=1), spread
    )


def unequal(rng: np.random.Generator) -> tuple[md.GaussianMixture, md.GaussianMixture]:
    """Three modes of very unequal weight and width in 8 dimensions; the cheap level has the weights equal."""
    means = rng.normal(size=(3, 8))
    spreads = [s**2 * np.eye(8) for s in (0.5, 0.15, 0.05)]
    return md.GaussianMixture([0.9, 0.09, 0.01], means, spreads), md.GaussianMixture(np.ones(3), means, spreads)


def memorised(rng: np.random.Generator) -> tuple[md.GaussianMixture, md.GaussianMixture]:
    """The law of 300 pictures of scikit-learn's digits, blurred a little; the cheap level has every third of them."""
    from sklearn.datasets import load_digits

    pictures = rng.permutation(load_digits().data)[:300] / 8.0 - 1.0
    few = pictures[::3]
    blur, wider = 0.1**2 * np.eye(64), 0.25**2 * np.eye(64)
    return md.GaussianMixture(np.ones(300), pictures, [blur] * 300), md.GaussianMixture(
        np.ones(len(few)), few, [wider] * len(few)
    )


KINDS = (ring, anisotropic, spiral, unequal, memorised)


def closed_forms() -> list[Problem]:
    """The five kinds on the schedule of DDPM's training chain."""
    schedule, found = md.schedules.ddpm(), []
    for kind in KINDS:
        top, cheap = kind(np.random.default_rng(0))
        costs = Costs({"cheap": SHARE, "top": 1.0}, COUNT, "by definition")
        levels = [cheap.denoiser(schedule, "cheap"), top.denoiser(schedule, "top")]
        found.append(Problem(kind.__name__, md.Ladder(levels, costs=costs)))
    return found


def trained(folder: Path, name: str) -> Problem:
    """A ladder of networks from its folder: the cheapest and the top level, with seconds of calls as measured now."""
    ladder = md.Ladder.load(folder)
    pair = [ladder[ladder.names[0]], ladder[ladder.top]]
    return Problem(name, md.Ladder(pair).measured(batch=COUNT))


def measure(problem: Problem, record: Record) -> None:
    """Every method on both processes at every budget."""
    ladder, top = problem.ladder, problem.ladder[problem.ladder.top]
    names = tuple(ladder.names)
    for eta, kinds in PEERS.items():
        process = md.Diffusion(ladder.schedule, eta)
        fine = md.sample(ladder, FINE[eta], process, count=COUNT, save=FINE[eta].steps)
        run = functools.partial(md.sample, ladder, process=process, count=COUNT)
        reference, start = fine.samples, fine.trajectory[0].to(fine.samples)

        def keep(label: str, budget: int, samples: Tensor, reference: Tensor = reference, eta: float = eta) -> None:
            errors = squared_distances(samples, reference) / float(reference.var())
            kept = [float(f"{e:.4g}") for e in errors.tolist()]
            record.add({"problem": problem.name, "label": label, "eta": eta, "budget": budget, "errors": kept})

        decided = md.LadderMultistep(3, levels=names).for_model(ladder, process)
        fitted = decided.fitted(ladder, process, paths=16)
        for budget in BUDGETS:
            for kind, name in kinds.items():
                for spacing in FOUR_SPACINGS:
                    peer = Peer(f"diffusers {name}, {spacing}", kind, spacing)
                    keep(peer.label, budget, run_peer(peer, top, start, budget, seed=0))
            for grid in ("linspace", "blend"):
                keep(f"Multistep, {grid}", budget, run(method=md.Multistep(budget, grid)).samples)
            for label, method in (("closed form", decided), ("fitted", fitted)):
                paid = most_steps(functools.partial(_with_steps, method), ladder, budget)
                keep(f"LadderMultistep, {label}", budget, run(method=paid).samples)
        CONSOLE.print(f"{problem.name}, η = {eta:g}")


def _with_steps(method: md.LadderMultistep, steps: int) -> md.LadderMultistep:
    return replace(method, steps=steps)


def main(
    ladder: Annotated[
        Path | None, typer.Option(help="Measure this ladder's folder in place of the closed forms.")
    ] = None,
    name: Annotated[str, typer.Option(help="What that ladder is called in the record.")] = "trained",
) -> None:
    """Measure LadderMultistep beside diffusers' solvers on problems other than the bundled digits."""
    warnings.simplefilter("ignore", md.PlanWarning)
    torch.set_num_threads(1)
    header: dict[str, object] = {"benchmark": "multilevel-problems", "machine": machine("cpu"), "count": COUNT}
    record = Record("multilevel-problems", header | {"share": SHARE}, compact=True)
    record.resume()
    for problem in closed_forms() if ladder is None else [trained(ladder, name)]:
        measure(problem, record)
    CONSOLE.print(f"written {record.path}")


if __name__ == "__main__":
    typer.run(main)
