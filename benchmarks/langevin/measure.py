"""Bias against gradient calls: Langevin Monte Carlo, Poisson midpoint, and samplers of diffrax and blackjax.

    pip install ".[peers,eval]"
    python -m benchmarks.langevin            # about 9 minutes on two idle cores
    python -m benchmarks.langevin --resume   # goes on where a stopped run was

Many chains start at the law itself (the regression's close by, and settle first), so that what is measured is the bias
of the steps: the relative error of the second moments. Every sampler gets the same number of gradient calls, in as many
steps as these pay for; every entry has its own seed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, TypeAlias

import numpy as np
import torch
import typer
from rich.console import Console

import multidrift as md
from benchmarks.langevin.problems import PROBLEMS, Problem
from benchmarks.record import Record, machine
from multidrift.methods.method import Method

DRAWS = ("independent", "single", "midpoint")
PROCESSES = ("overdamped", "underdamped")
Dynamics: TypeAlias = md.Overdamped | md.Underdamped


class Bench:
    """One problem, by all samplers."""

    def __init__(self, name: str, record: Record) -> None:
        self.name, self.problem, self.record = name, PROBLEMS[name](), record
        self.start = self.problem.start(self.problem.chains, seed=12345)
        self.console = Console(stderr=True)

    def has(self, process: str, label: str, calls: int) -> bool:
        """Whether a run that was stopped has measured this already."""
        key = (self.name, process, label, calls)
        return any((e["problem"], e["process"], e["label"], e["budget"]) == key for e in self.record.entries)

    def keep(self, process: str, label: str, budget: int, found: dict[str, object]) -> None:
        """One entry, on disk at once."""
        self.record.add(
            {
                "problem": self.name,
                "chains": self.problem.chains,
                "process": process,
                "label": label,
                "budget": budget,
                **found,
            }
        )
        self.console.print(
            f"{self.name:16s} {process:12s} {label:30s} {found['steps']:5d} steps {found['calls']:7.1f} calls  "
            f"bias {found['bias']:+.5f} ± {found['error']:.5f}  {found['seconds']:.1f} s"
        )

    def ours(self, process: str) -> None:
        """Langevin Monte Carlo, and Poisson midpoint with its three draws."""
        horizon = self.problem.horizon[process]
        for budget in self.problem.calls[process]:
            for label, method in methods(budget, self.problem.substeps):
                if self.has(process, label, budget):
                    continue
                dynamics = _dynamics(process, self.problem)
                found = {"steps": method.steps, "step": horizon / method.steps}
                self.keep(process, label, budget, found | self._run(method, dynamics, label, budget))

    def _run(self, method: Method, dynamics: Dynamics, label: str, budget: int) -> dict[str, object]:
        """Bias, error, calls and seconds of one of our methods; an infinite bias where its chains explode."""
        parts = (self.name, type(dynamics).__name__, label, budget)
        try:
            result = md.sample(
                self.problem.score, method, dynamics, start=self.start, seed=_seed(*parts),
                plan_seed=_seed("plan", *parts), save=method.steps // self.problem.saves, progress=False,
            )  # fmt: skip
        except md.MultidriftError as error:
            self.console.print(str(error))
            return {"calls": float(budget), "bias": float("inf"), "error": 0.0, "seconds": 0.0}
        assert result.trajectory is not None
        bias, error = self.problem.bias(result.trajectory[1:].double().numpy())
        return {"calls": sum(result.calls.values()), "bias": bias, "error": error, "seconds": result.seconds}

    def peers(self, process: str) -> None:
        """Samplers of diffrax and blackjax."""
        from benchmarks.langevin.jax_target import jax_target
        from benchmarks.langevin.peers import PEERS, Setting, calls_of, run_peer

        target, horizon = jax_target(self.name), self.problem.horizon[process]
        _same_law(self.problem, target.score, self.start)
        for peer in (p for p in PEERS if p.process == process):
            at_start, each = calls_of(peer)
            for budget in self.problem.calls[process]:
                if self.has(process, peer.label, budget):
                    continue
                steps = budget // each
                seed = _seed(self.name, process, peer.label, budget)
                setting = Setting(horizon, steps, steps // self.problem.saves, self.problem.friction, seed)
                run = run_peer(peer, target, self.start.double().numpy(), setting)
                bias, error = self.problem.bias(run.trajectory)
                found = {"steps": steps, "step": horizon / steps, "calls": float(at_start + each * steps)}
                found |= {"bias": bias, "error": error, "seconds": run.seconds}
                self.keep(process, peer.label, budget, found | {"acceptance": run.acceptance})


def methods(budget: int, substeps: int) -> Iterator[tuple[str, Method]]:
    """(label, method) of ours for so many gradient calls."""
    yield "Euler", md.Euler(budget)
    for draws in DRAWS:
        yield f"Poisson midpoint, {draws}", md.PoissonMidpoint(budget // 2, substeps=substeps, draws=draws)


def _dynamics(process: str, problem: Problem) -> Dynamics:
    horizon = problem.horizon[process]
    if process == "overdamped":
        return md.Overdamped(horizon=horizon)
    return md.Underdamped(horizon=horizon, friction=problem.friction)


def _seed(*parts: object) -> int:
    """A seed of its own for every entry, the same in every run of this benchmark."""
    return zlib.crc32(json.dumps([str(part) for part in parts]).encode())


def _same_law(problem: Problem, score: object, start: torch.Tensor) -> None:
    """Refuse to compare samplers of two laws."""
    ours, theirs = problem.score(start[:100]).numpy(), np.asarray(score(start[:100].numpy()))
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(ours).max()):
        raise SystemExit(f"{problem.label}: the gradient in jax is not that in torch")


def main(
    problems: Annotated[str, typer.Option(help="Which, separated by commas.")] = ",".join(PROBLEMS),
    peers: Annotated[bool, typer.Option(help="Measure diffrax and blackjax too.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is in the result, measure the rest.")] = False,
) -> None:
    """Measure the bias of all samplers on all problems."""
    about = machine("cpu")
    if peers:
        about["peers"] = {name: version(name) for name in ("jax", "diffrax", "blackjax")}
    header = {"benchmark": "langevin", "machine": about}
    record = Record("langevin", header)
    if resume:
        record.resume()
    for name in problems.split(","):
        bench = Bench(name, record)
        for process in PROCESSES:
            bench.ours(process)
            if peers:
                bench.peers(process)
