"""What every method shares: a grid, and a walk along it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import isabstract
from typing import ClassVar, Self

import numpy as np

from multidrift.basics.checks import Settings, check_fields, checked
from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats, finite, plain
from multidrift.basics.types import MOST_STEPS, Count, Index, Numbers, Seed, Steps
from multidrift.drifts.drift import Drift
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import AnyModel, Model, as_model, process_for, seconds_of
from multidrift.processes.process import Process
from multidrift.runs.plan import Plan, counted_calls
from multidrift.runs.result import State
from multidrift.runs.run import Run
from multidrift.schedules.grids import Grid


@dataclass(frozen=True)
class Cost:
    """What a run will cost per sample: expected calls of each level, and seconds where the costs were measured."""

    calls: Mapping[str, float]
    seconds: float | None


@dataclass(frozen=True)
class Method(Settings):
    """A way to walk along a grid of times: what `md.sample` asks of any. Most are a `GridMethod`."""

    steps_are_gaussian: ClassVar[bool] = False  # whether a step is, given its plan and all states before it

    def __new__(cls, *_: object, **__: object) -> Self:
        require(not isabstract(cls), "method", cls.__name__, "a method that can be run, such as md.Euler(steps=50)")
        return super().__new__(cls)

    def read_at(self, process: Process, times: Floats) -> Floats:
        """The times between which a walk along `times` reads its noise, in order: it is drawn ahead for them."""
        del process
        return times

    @property
    @abstractmethod
    def number_of_evaluations(self) -> int:
        """How often one network is evaluated in a row: once a time of the grid, the final call included."""

    @abstractmethod
    def grid_for(self, process: Process) -> Floats:
        """The times of a run of `process`, from its start to its end, float64."""

    @abstractmethod
    def spacing(self, process: Process) -> Grid | None:
        """The name of the grid of a run of `process`; None for explicit times."""

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """The settings as plain values."""

    @property
    def order(self) -> int:
        """The power of the step by which the error falls without noise, all levels called at every step."""
        return 1

    def for_model(self, model: Model, process: Process | None = None) -> Method:
        """The method with all that it leaves to the model, and to the process where it is given, decided."""
        del model, process
        return self

    def levels_of(self, model: Model) -> dict[str, Drift]:
        """The networks this method calls, cheapest first: of a ladder the top level alone, unless it says otherwise."""
        return {model.top: model[model.top]} if isinstance(model, Ladder) else {model.name: model}

    def expected_calls(self, model: Model) -> dict[str, float]:
        """Expected calls of each level, per sample."""
        return {name: float(self.number_of_evaluations) for name in self.levels_of(model)}

    @checked
    def cost(self, model: AnyModel) -> Cost:
        """What a run will cost, per sample; seconds are those of the batch size the ladder was measured at."""
        model = as_model(model)
        calls = self.expected_calls(model)
        return Cost(calls, seconds_of(model, calls))

    @checked
    def plan(
        self, model: AnyModel, process: Process | None = None, seed: Seed = 0, count: Count = 1, first: Index = 0
    ) -> Plan:
        """The random choices of a run, drawn now: to know its cost, to keep it, or to run it with `md.sample`.

        Where samples have draws of their own, they are those of samples `first` to `first + count − 1`.
        """
        model = as_model(model)
        process = process_for(model, process)
        method = self.for_model(model, process)
        return method.plan_for(model, process, method.grid_for(process), seed, range(first, first + count))

    def plan_for(self, model: Model, process: Process, times: Floats, seed: int, samples: Sequence[int]) -> Plan:
        """The plan of a run along these times; of a method that draws nothing, weight 1 at every step."""
        del samples
        weights = np.ones((1, len(times) - 1, len(self.levels_of(model))))
        return self._planned(model, process, times, seed, weights, counted_calls(weights, process.final_calls))

    def _planned(
        self,
        model: Model,
        process: Process,
        times: Floats,
        seed: int,
        weights: Floats,
        calls: Floats,
        samples: tuple[int, ...] | None = None,
    ) -> Plan:
        """A plan with these weights and calls, and what it was made for."""
        levels = self.levels_of(model)
        named = {name: plain(number) for name, number in zip(levels, calls.tolist(), strict=True)}
        return Plan(
            method=self.to_dict(),
            process=process.to_dict(),
            ladder={name: level.fingerprint for name, level in levels.items()},
            times=tuple(times.tolist()),
            levels=tuple(levels),
            weights=weights,
            seed=seed,
            calls=named,
            samples=samples,
            cost=seconds_of(model, named),
        )

    @abstractmethod
    def walk(self, run: Run) -> Iterator[State]:
        """Take the run from its start to its end, yielding after every evaluation."""


@dataclass(frozen=True)
class GridMethod(Method):
    """A method whose first settings are its grid.

    - `steps`: number of distinct times, at least 2 (Langevin: of steps, the horizon/h), or `times`: the times
      themselves, from the start on
    - `grid`: how the times are spaced (`md.grid_times`); None: as suits the process's schedule and η best
      (`process.own_grid`); `integer`: round them to training steps
    """

    steps: Steps | None = None
    grid: Grid | None = None
    times: Numbers | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.times is None:
            require(self.steps is not None, "steps", None, "a number of steps, or times=")
        else:
            values = finite(self.times, "times")
            require(values.ndim == 1, "times", f"an array of shape {values.shape}", "a list of times")
            require(len(values) <= MOST_STEPS, "times", f"{len(values):,} times", f"at most {MOST_STEPS:,}")
            object.__setattr__(self, "times", tuple(values.tolist()))
            require(self.steps in (None, len(self.times)), "steps", self.steps, f"{len(self.times)}, as times= has")

    @property
    def number_of_evaluations(self) -> int:
        number = self.steps if self.times is None else len(self.times)
        assert number is not None
        return number

    def grid_for(self, process: Process) -> Floats:
        if self.times is not None:
            return process.nodes_through(self.times, integer=self.integer)
        return process.nodes(self.number_of_evaluations, self.grid or process.own_grid, integer=self.integer)

    def spacing(self, process: Process) -> Grid | None:
        return None if self.times is not None else self.grid or process.own_grid

    def to_dict(self) -> dict[str, object]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"method": type(self).__name__} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
