"""Parallel Picard on the bundled ladder: rounds, calls and critical path to a given error, ODE and SDE.

    python -m benchmarks.parallel             # hours on two idle cores, most of them at 1,000 steps
    python -m benchmarks.parallel --resume    # goes on where a stopped run was
    python -m benchmarks.parallel --only window --steps 60 --images 8    # measures these again, at the recorded costs

The error is the squared distance at the last time to the sequential run with the same noise, over the variance of its
values. After each round its mean over the images is compared with 1e-2, 1e-3 and 1e-4, and that of each image is kept,
so that intervals can resample images. In windows each image runs by itself, as one urgent sample does. The critical
path counts calls one after another, each at the time that a call on 16 images takes: 1 is the sequential run. On this
machine a call on many rows takes longer than one on few, so nothing here is a speed-up in seconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
import typer
from diffusers.models.unets.unet_2d import UNet2DOutput
from rich.console import Console
from torch import Tensor

import multidrift as md
from benchmarks.parallel.peers import Paradigms, Parareal
from benchmarks.record import Record, machine
from multidrift.drifts.costs import Costs
from multidrift.evaluation.coupled import squared_distances
from multidrift.schedules.grids import Grid

ERRORS = (1e-2, 1e-3, 1e-4)
IMAGES = {60: 16, 200: 2, 1000: 2}
TOLERANCE = 1e-4  # of the runs by round: small, as the flow carries early changes to the end many times enlarged
MOST_ROUNDS = 40
BATCH = 16  # images of the calls whose time is measured
ROWS = 64
WINDOW = 20
TOLERANCES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)  # of windows, ours and the peers'
GOAL = 1e-3  # the error at which windows stop, as each tolerance is a run of its own
WHOLE = (60, 200)  # steps at which the peers run with one window over all steps, too: at 1,000 it takes hours
PARAREAL = "parareal with larger steps (SRDS)"

Found: TypeAlias = dict[str, Any]  # what one round, or one run at one tolerance, took and gave


class InParts(torch.nn.Module):
    """A network called on at most `ROWS` rows at a time: its activations then fit a core's cache, twice as fast."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor) -> UNet2DOutput:
        parts = [self.network(*part).sample for part in zip(x.split(ROWS), t.split(ROWS), strict=True)]
        return UNet2DOutput(torch.cat(parts))


def choices() -> Iterator[tuple[str, dict[str, object]]]:
    """(label, settings of Picard) of all that is measured."""
    yield "f3", {"coarse": "f3"}
    yield "plain Picard", {}
    yield "gaussian", {"coarse": "gaussian"}
    yield "f2", {"coarse": "f2"}
    yield "f2, every 4th step", {"coarse": "f2", "coarse_every": 4}
    yield "f2, every 16th step", {"coarse": "f2", "coarse_every": 16}
    yield "f3, every 4th step", {"coarse": "f3", "coarse_every": 4}
    yield "f1", {"coarse": "f1"}
    yield "f4", {"coarse": "f4"}
    yield "f1, every 4th step", {"coarse": "f1", "coarse_every": 4}
    yield "f1 and f3", {"coarse": ("f1", "f3")}
    yield "Anderson", {"accelerate": "anderson"}
    yield "secant", {"accelerate": "secant"}
    yield "gaussian, secant", {"coarse": "gaussian", "accelerate": "secant"}
    yield "f2, every 4th step, secant", {"coarse": "f2", "coarse_every": 4, "accelerate": "secant"}


def choices_on_karras() -> Iterator[tuple[str, dict[str, object]]]:
    """The same of what is measured on a second grid, at 60 steps."""
    known = dict(choices())
    for label in ("plain Picard", "gaussian", "f2", "f3"):
        yield f"{label}, Karras grid", known[label]


def windows() -> Iterator[tuple[str, dict[str, object]]]:
    """(label, settings of Picard) of what runs in a window: as many rows a call as the windowed peers."""
    for label in ("", "secant", "gaussian, secant"):
        yield f"window of {WINDOW}{', ' if label else ''}{label}", dict(choices())[label or "plain Picard"]


class Bench:
    """One η, number of steps and grid: the sequential run, and all that is measured against it."""

    def __init__(
        self, ladder: md.Ladder, eta: float, steps: int, record: Record, images: int, grid: Grid = "blend"
    ) -> None:
        assert ladder.costs is not None
        self.ladder, self.eta, self.steps, self.record, self.grid = ladder, eta, steps, record, grid
        self.seconds, self.count = ladder.costs.seconds, images
        self.process = md.Diffusion(ladder.schedule, eta)
        self.console = Console(stderr=True)
        self.invocations: Counter[str] = Counter()
        for level in ladder:
            level.net.register_forward_pre_hook(lambda *_, name=level.name: self.invocations.update([name]))
        self._known: tuple[Tensor, Tensor] | None = None

    def peer(self, window: str) -> str:
        """The name of diffusers' parallel scheduler of this process."""
        return f"diffusers {'DDPM' if self.eta else 'DDIM'}Parallel, window {window}"

    @property
    def sequential(self) -> tuple[Tensor, Tensor]:
        """The starts, and the states of Euler's run at the last time."""
        if self._known is None:
            method = md.Euler(self.steps, self.grid)
            path = md.sample(self.ladder, method, self.process, count=self.count, save=self.steps - 1).trajectory
            self._known = path[0], path[1]
        return self._known

    def measure(self, only: str | None = None) -> None:
        """All that is not there yet, or again what has `only` in its label; windows and peers on one grid alone."""
        chosen = choices() if self.grid == "blend" else choices_on_karras()
        jobs = {label: partial(self.by_round, label, settings) for label, settings in chosen}
        if self.grid == "blend":
            jobs |= {label: partial(self.window, label, settings) for label, settings in windows()}
            sizes = {str(WINDOW): WINDOW} | ({"of all steps": self.steps} if self.steps in WHOLE else {})
            jobs |= {self.peer(name): partial(self.paradigms, self.peer(name), size) for name, size in sizes.items()}
            jobs |= {PARAREAL: self.parareal} if self.eta == 0 else {}
        for label, job in jobs.items():
            if not self.measured(label) if only is None else re.search(only, label):
                job()

    def measured(self, label: str) -> bool:
        """Whether this entry is there from an earlier run."""
        key = (label, self.eta, self.steps)
        return any((e["label"], e["eta"], e["steps"]) == key for e in self.record.entries)

    def path(self) -> float:
        """The critical path since `invocations` was cleared."""
        spent = sum(n * self.seconds[name] for name, n in self.invocations.items())
        return spent / (self.steps * self.seconds[self.ladder.top])

    def keep(self, label: str, family: str, history: list[Found], goal: float = ERRORS[-1]) -> None:
        """One entry: its history by round, and where it first came below each error; `goal`: where it stopped."""
        reached = {f"{error:g}": next((h for h in history if h["error"] <= error), None) for error in ERRORS}
        entry = {"label": label, "family": family, "eta": self.eta, "steps": self.steps, "images": self.count}
        self.record.add(entry | {"goal": goal, "history": history, "reached": reached})
        short = {
            error: found and (found["rounds"], round(found["critical_path"], 3)) for error, found in reached.items()
        }
        self.console.print(f"η {self.eta:g} steps {self.steps:4d} {label:24s} (rounds, critical path) {short}")

    def errors(self, x: Tensor, wanted: Tensor, image: int | None = None) -> Found:
        """Squared distances to the sequential runs over the variance of all values: mean, median, and of each image."""
        chosen = wanted if image is None else wanted[image : image + 1]
        errors = squared_distances(x, chosen) / float(wanted.var())
        each = [float(f"{error:.4g}") for error in errors.tolist()]
        return {"error": float(errors.mean()), "median": float(errors.median()), "error_of_images": each}

    def by_round(self, label: str, settings: dict[str, object]) -> None:
        """One run of all steps as one block, its last point compared after each round."""
        _, wanted = self.sequential
        history: list[Found] = []
        self.invocations.clear()

        def look(state: md.State) -> bool:
            if state.residual is None:  # the final call, after which x is the data
                return True
            found: Found = {"rounds": len(history) + 1} | self.errors(state.x, wanted)
            found |= {"calls": state.calls[self.ladder.top], "critical_path": self.path()}
            history.append(found | {"residual": state.residual})
            return found["error"] <= ERRORS[-1] or len(history) >= MOST_ROUNDS

        method = md.Picard(self.steps, self.grid, tolerance=TOLERANCE, **settings)
        md.sample(self.ladder, method, self.process, count=self.count, callback=look)
        self.keep(label, "ours", history)

    def by_tolerance(self, label: str, family: str, run: Callable[[int, float], Found]) -> None:
        """Runs of each image at falling tolerances, until the mean error over the images is at `GOAL`."""
        history: list[Found] = []
        for tolerance in TOLERANCES:
            runs = [run(image, tolerance) for image in range(self.count)]
            found: Found = {name: float(np.mean([one[name] for one in runs])) for name in runs[0]}
            each = {f"{name}_of_images": [one[name] for one in runs] for name in ("error", "rounds")}
            history.append(found | each | {"tolerance": tolerance})
            if found["error"] <= GOAL:
                break
        self.keep(label, family, history, GOAL)

    def window(self, label: str, settings: dict[str, object]) -> None:
        """A sliding window; the final call is not counted."""
        _, wanted = self.sequential

        def run(image: int, tolerance: float) -> Found:
            self.invocations.clear()
            method = md.Picard(self.steps, self.grid, window=WINDOW, tolerance=tolerance, **settings)
            result = md.sample(self.ladder, method, self.process, count=1, first=image, save=self.steps - 1)
            found: Found = {"rounds": result.rounds - 1, "calls": result.calls[self.ladder.top] - 1}
            found |= {"critical_path": self.path() - 1 / self.steps, "peak_rows": result.peak_rows}
            return found | {"error": self.errors(result.trajectory[1], wanted, image)["error"]}

        self.by_tolerance(label, "ours", run)

    def paradigms(self, label: str, window: int) -> None:
        """The parallel schedulers of diffusers, against their own sequential runs."""
        start, _ = self.sequential
        peer = Paradigms(self.ladder[self.ladder.top].net, "ddpm" if self.eta else "ddim", start, self.steps)
        wanted = peer.sequential()

        def run(image: int, tolerance: float) -> Found:
            taken = peer.image(image).run(window, tolerance)
            found: Found = {"rounds": taken.sequential, "calls": taken.calls, "peak_rows": min(window, peer.steps)}
            found |= {"critical_path": taken.sequential / self.steps}
            return found | {"error": self.errors(taken.x, wanted, image)["error"]}

        self.by_tolerance(label, "peer", run)

    def parareal(self) -> None:
        """SRDS: the same network with larger steps as the coarse propagator."""
        start, wanted = self.sequential
        times = md.grid_times(self.ladder.schedule, self.steps, self.grid).tolist()
        history: list[Found] = []
        for found in Parareal(self.ladder[self.ladder.top], start, times).run():
            counted: Found = {"rounds": found.sequential, "calls": found.calls}
            history.append(counted | {"critical_path": found.sequential / self.steps} | self.errors(found.x, wanted))
            if history[-1]["error"] <= ERRORS[-1]:
                break
        self.keep(PARAREAL, "peer", history)


@torch.no_grad()
def main(
    steps: Annotated[str, typer.Option(help="Numbers of steps.")] = "60,200,1000",
    etas: Annotated[str, typer.Option(help="0 is the ODE, 1 the SDE.")] = "0,1",
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is there, measure the rest.")] = False,
    only: Annotated[
        str | None, typer.Option(help="Keep what is there, measure again what has this expression in its label.")
    ] = None,
    images: Annotated[int | None, typer.Option(help="How many, in place of the usual number.")] = None,
    name: Annotated[str, typer.Option(help="Name of the result, under benchmarks/results.")] = "parallel",
) -> None:
    """Measure every choice that is not there yet."""
    ladder = md.Ladder.bundled("digits")
    for level in ladder:
        level.net = InParts(level.net)
    record = Record(name, {"benchmark": "parallel", "machine": machine("cpu"), "tolerance": TOLERANCE})
    if (resume or only) and record.path.is_file():
        record = Record.kept(name)  # with the costs that the entries there were counted with
        ladder.costs = Costs(record.header["seconds_per_call"], BATCH, "as recorded")
    else:
        ladder = ladder.measured(batch=BATCH, repeats=5)
        record.header |= {"seconds_per_call": dict(ladder.costs.seconds), "batch": BATCH}
    record.compact = True
    record.write()
    for number in (int(part) for part in steps.split(",")):
        for eta in (float(part) for part in etas.split(",")):
            Bench(ladder, eta, number, record, images or IMAGES[number]).measure(only)
            if number == 60:
                Bench(ladder, eta, number, record, images or IMAGES[number], "karras").measure(only)
