"""What every method shares: a grid, and a walk along it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, plain
from multidrift.drifts.drift import Drift, Network
from multidrift.drifts.ladder import Ladder, as_drift
from multidrift.methods.multilevel.probabilities import counted_calls
from multidrift.noise.counter import check_seed
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.process import Process
from multidrift.runs.plan import Plan
from multidrift.schedules.grids import GRIDS, Grid

if TYPE_CHECKING:
    from multidrift.runs.result import State
    from multidrift.runs.run import Run


Model: TypeAlias = Drift | Ladder

AnyModel: TypeAlias = Model | Network  # a plain function is the gradient of a log-density


@dataclass(frozen=True)
class Cost:
    """What a run will cost per sample: expected calls of each level, and seconds where the costs were measured."""

    calls: Mapping[str, float]
    seconds: float | None


@dataclass(frozen=True)
class Method(ABC):
    """A way to walk along a grid of times.

    - `steps`: number of distinct times, at least 2 (Langevin: of steps, the horizon/h), or `times`: the times
      themselves, from the start on
    - `grid`: how the times are spaced (`md.grid_times`); None: as suits the process's schedule and η best
      (`process.own_grid`); `integer`: round them to training steps
    """

    steps: int | None = None
    grid: Grid | None = None
    times: Sequence[float] | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        require(self.grid is None or self.grid in GRIDS, "grid", self.grid, f"None, {', '.join(GRIDS)}")
        if self.times is None:
            require(self.steps is not None, "steps", None, "a number of steps, or times=")
            assert self.steps is not None
            require(type(self.steps) is int and self.steps >= 2, "steps", self.steps, "an integer of at least 2")
        else:
            object.__setattr__(self, "times", tuple(float(t) for t in self.times))
            require(self.steps in (None, len(self.times)), "steps", self.steps, f"{len(self.times)}, as times= has")

    @property
    def number_of_steps(self) -> int:
        """Number of times, the last of which is that of the final call."""
        number = self.steps if self.times is None else len(self.times)
        assert number is not None
        return number

    def grid_for(self, process: Process) -> Floats:
        """The times of a run of `process`, from its start to its end, float64."""
        if self.times is not None:
            return process.nodes_through(self.times, integer=self.integer)
        return process.nodes(self.number_of_steps, self.grid or process.own_grid, integer=self.integer)

    def spacing(self, process: Process) -> Grid | None:
        """The name of the grid of a run of `process`; None for explicit times."""
        return None if self.times is not None else self.grid or process.own_grid

    def for_model(self, model: Model, process: Process | None = None) -> Method:
        """The method with all that it leaves to the model, and to the process where it is given, decided."""
        del model, process
        return self

    def levels_of(self, model: Model) -> dict[str, Drift]:
        """The networks this method calls, cheapest first: of a ladder the top level alone, unless it says otherwise."""
        return {model.top: model[model.top]} if isinstance(model, Ladder) else {model.name: model}

    def expected_calls(self, model: Model) -> dict[str, float]:
        """Expected calls of each level, per sample."""
        return {name: float(self.number_of_steps) for name in self.levels_of(model)}

    def cost(self, model: AnyModel) -> Cost:
        """What a run will cost, per sample; seconds are those of the batch size the ladder was measured at."""
        model = as_model(model)
        calls = self.expected_calls(model)
        return Cost(calls, _seconds(model, calls))

    def plan(
        self, model: AnyModel, process: Process | None = None, seed: int = 0, count: int = 1, first: int = 0
    ) -> Plan:
        """The random choices of a run, drawn now: to know its cost, to keep it, or to run it with `md.sample`.

        Where samples have draws of their own, they are those of samples `first` to `first + count − 1`.
        """
        model = as_model(model)
        check_seed("seed", seed)
        return self.for_model(model).plan_for(model, process_for(model, process), seed, range(first, first + count))

    def plan_for(self, model: Model, process: Process, seed: int, samples: Sequence[int]) -> Plan:
        """The plan of a run of these samples."""
        levels = self.levels_of(model)
        weights = self.weight_table(model, process, seed, samples)
        calls = {
            name: plain(n)
            for name, n in zip(levels, self.planned_calls(weights, final_calls(model)).tolist(), strict=True)
        }
        return Plan(
            method=self.to_dict(),
            samples=None if self.draws_are_shared else tuple(samples),
            process=process.to_dict(),
            ladder={name: level.fingerprint for name, level in levels.items()},
            times=tuple(self.grid_for(process).tolist()),
            levels=tuple(levels),
            weights=weights,
            seed=seed,
            calls=calls,
            cost=_seconds(model, calls),
        )

    def weight_table(self, model: Model, process: Process, seed: int, samples: Sequence[int]) -> Floats:
        """The weights of a plan, [draws, increments, levels]; of one network: 1 at every step."""
        del process, seed, samples  # a method without random choices
        return np.ones((1, self.number_of_steps - final_calls(model), len(self.levels_of(model))))

    @property
    def draws_are_shared(self) -> bool:
        """Whether one draw of the random choices serves every sample."""
        return True

    def planned_calls(self, weights: Floats, final: int) -> Floats:
        """Calls of each level per sample that a plan with these weights makes."""
        return counted_calls(weights, final)

    @abstractmethod
    def walk(self, run: Run) -> Iterator[State]:
        """Take the run from its start to its end, yielding after every evaluation."""

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"method": type(self).__name__} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def as_model(model: AnyModel) -> Model:
    """The model as it is; a plain function as the gradient of a log-density."""
    plain_module = isinstance(model, torch.nn.Module) or not callable(model)
    if not isinstance(model, Drift | Ladder) and plain_module:
        kind = type(model).__name__
        raise MultidriftError(
            f"model: got {kind!r}; it takes an md.Denoiser or an md.Ladder, or for Langevin dynamics a function that "
            "gives the gradient of a log-density"
        )
    return model if isinstance(model, Ladder) else as_drift(model)


def final_calls(model: Model) -> int:
    """Evaluations after the last step: one for diffusion, none for Langevin dynamics."""
    return 0 if model.schedule is None else 1


def process_for(model: Model, process: Process | None) -> Process:
    """The process of a run: the reverse SDE by default, else the given one if it suits the model."""
    if process is None:
        if model.schedule is None:
            raise MultidriftError("process: got None; a model without a schedule takes md.Overdamped or md.Underdamped")
        return Diffusion(model.schedule)
    require(isinstance(process, Process), "process", process, "an md.Diffusion, md.Overdamped or md.Underdamped")
    if process.model_schedule != model.schedule:
        if process.model_schedule is None or model.schedule is None:
            kinds = (
                "a gradient of a log-density" if process.model_schedule is None else "a Denoiser or a Ladder of them"
            )
            raise MultidriftError(f"process: got {type(process).__name__}, which takes {kinds} as its model")
        raise MultidriftError("process: its schedule is not the model's; take md.Diffusion(model.schedule, …)")
    return process


def _seconds(model: Model, calls: Mapping[str, float]) -> float | None:
    measured = model.costs if isinstance(model, Ladder) else None
    if measured is None:
        return None
    # What is not measured is the closed-form Gaussian, which costs nothing beside a network.
    return sum(n * measured.seconds.get(name, 0.0) for name, n in calls.items()) / measured.batch
