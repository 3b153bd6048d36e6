"""Predict with a cheap level, correct with the top one: a multistep method on a ladder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Eight, Paths, Seed, Size
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.drift import Drift
from multidrift.drifts.ladder import GAUSSIAN, Ladder
from multidrift.drifts.model import AnyModel, Model, as_model, process_for
from multidrift.methods.ladder_multistep.nodes import CellNodes, cell_nodes
from multidrift.methods.ladder_multistep.paths import measure_covariance
from multidrift.methods.ladder_multistep.weights import Cell, CellWeights, Factor, closed_form, fitted
from multidrift.methods.method import GridMethod
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.process import Process
from multidrift.runs import update
from multidrift.runs.plan import Plan
from multidrift.runs.result import State
from multidrift.runs.run import Run

_SUBSTEPS = {True: 3, False: 1}  # with and without noise, measured on digits
_CHEAP = 0.125  # of the top level's cost: the most that a level chosen by itself may cost


@dataclass(frozen=True)
class LadderMultistep(GridMethod):
    """Call the top level at few nodes, interpolate it over the cells between them, and walk them with a cheap level.

    - `steps`: calls of the top level; `levels`: (cheap, top), names of the ladder or "gaussian", its closed form;
      (top,) alone for one network; by default the best that costs at most an eighth of the top, and the top
    - `substeps`: steps of the cheap level in a cell; 1 uses it at the nodes alone (None: 3 with noise, 1 without)
    - `grid`: None for nodes made for this method, or a named grid; or `times`, start and end included; `nodes`: where
      those made for it lie, None: as suits their number (`md.search_nodes` finds them for a ladder)
    - `reevaluate`: let the cheap level say what correcting the state changes of the top level's D there
    - `covariance`: what coefficients are fitted to (see `fitted`); None: the ladder's own, else closed forms
    - `start`: the level that stands for A at the first time, by default the ladder's Gaussian where it has one: it is
      free, and a network's prediction of the data is worth least there; then all calls lie at later nodes
    - `weights`: the same coefficients in every cell, in place of all others

    With A, P the top level's D at nodes a and p before it, C = D^c(x_a) and M = Σ (δτ/Δτ) D^c(x_i) − C over the
    substeps i, a cell a → b is

        predict      z ← z + δτ [A + past (A − P) + cheap (D^c(x_i) − C)] + δW       for each substep, up to x̂_b
        evaluate     B = D(x̂_b), C' = D^c(x̂_b)
        correct      z_b = z_a + Δτ [A + top (B − A) + before (A − P) + defect M + change (C' − C)] + ΔW
        re-evaluate  C'' = D^c(x_b),  A ← B + C'' − C',  C ← C''

    and a diffusion ends with A + last (D^c(x_end) − C) + last_past (A − P), at no call of the top level. Order 2
    without noise, strong order 1 with it. All levels read the run's own noise path. Raises MultidriftError on levels
    out of order, fewer than 3 steps, and a covariance of another ladder or process.

    Source: ours; correcting a step with the next node's call is UniPC's (Zhao et al. 2023, Algorithm 1).
    """

    levels: str | Sequence[str] | None = None
    substeps: Size | None = None
    reevaluate: bool = True
    covariance: DriftCovariance | None = None
    start: str | None = None
    weights: CellWeights | None = None
    nodes: CellNodes | None = None

    def __post_init__(self) -> None:
        covariance: object = self.covariance  # plain values, where a plan is read back
        if isinstance(covariance, Mapping):
            object.__setattr__(self, "covariance", DriftCovariance.from_dict(covariance))
        for name, settings in (("weights", CellWeights), ("nodes", CellNodes)):
            object.__setattr__(self, name, _read(name, getattr(self, name), settings))
        super().__post_init__()
        if self.nodes is not None:
            named = self.grid is not None or self.times is not None
            require(not named, "nodes", self.nodes, "None where there is a grid or times")
        require(self.number_of_evaluations >= 3, "steps", self.steps, "at least 3 calls of the top level")
        if self.levels is not None:
            names = (self.levels,) if isinstance(self.levels, str) else tuple(self.levels)
            require(
                len(names) in (1, 2), "levels", self.levels, "the names of a cheap level and the top one, or of one"
            )
            object.__setattr__(self, "levels", names)

    def to_dict(self) -> dict[str, object]:
        values = super().to_dict()
        values["covariance"] = None if self.covariance is None else self.covariance.to_dict()
        values["weights"] = None if self.weights is None else asdict(self.weights)
        values["nodes"] = None if self.nodes is None else asdict(self.nodes)
        return values

    @property
    def order(self) -> int:
        return 2

    @property
    def cheap(self) -> str | None:
        """The cheap level, once the levels are decided."""
        return self.levels[0] if self.levels is not None and len(self.levels) == 2 else None

    @property
    def calls_at_start(self) -> bool:
        """Whether the first call of the top level is at the first time."""
        return self.levels is not None and self.start == self.levels[-1]

    @property
    def inner_nodes(self) -> int:
        """How many nodes lie between the first time and the last, once the start is decided."""
        return self.number_of_evaluations - (1 if self.calls_at_start else 0)

    def for_model(self, model: Model, process: Process | None = None) -> LadderMultistep:
        """With the levels and the start decided, and the covariance where the ladder has one for the process."""
        levels = self.levels or _chosen(model)
        free = isinstance(model, Ladder) and model.gaussian is not None
        start = self.start or (GAUSSIAN if free else levels[-1])
        require(
            start == levels[-1] or (free and start == GAUSSIAN), "start", start, f"None, {levels[-1]!r} or 'gaussian'"
        )
        method = replace(self, levels=levels, start=start)
        if process is not None and self.substeps is None:
            method = replace(method, substeps=_SUBSTEPS[process.noisy])
        if process is None or self.covariance is not None or self.weights is not None or not isinstance(model, Ladder):
            return method
        return replace(method, covariance=model.covariance_for(process, method.levels_of(model)))

    def levels_of(self, model: Model) -> dict[str, Drift]:
        """The Gaussian, where it is used, the cheap level and the top one."""
        method = self.for_model(model)
        assert method.levels is not None and method.start is not None  # noqa: PT018 (both are decided together)
        if not isinstance(model, Ladder):
            require(
                method.levels == (model.name,), "levels", method.levels, f"None or ({model.name!r},): it is one network"
            )
            return {model.name: model}
        used = {method.start, *model.choose(method.levels)}
        return {name: drift for name, drift in model.with_gaussian().items() if name in used}

    def grid_for(self, process: Process) -> Floats:
        """The first time, the nodes and the last time; of Langevin dynamics the last is a node."""
        if self.times is not None:
            return process.nodes_through(self.times, integer=self.integer)
        if not isinstance(process, Diffusion):  # for which alone nodes were made
            require(self.nodes is None, "nodes", self.nodes, f"None for {type(process).__name__}")
            return process.nodes(self.number_of_evaluations - 1, self.grid or process.own_grid, integer=self.integer)
        if self.grid is None:
            require(not self.integer, "integer", True, "False, or a named grid")  # noqa: FBT003
            return cell_nodes(process, self.inner_nodes, self.nodes)
        return process.nodes(self.inner_nodes + 2, self.grid, integer=self.integer)

    def expected_calls(self, model: Model) -> dict[str, float]:
        """Of a process with noise, where `substeps` is None; a plan knows its process."""
        method = self.for_model(model)
        diffusion = model.schedule is not None
        cells = method.inner_nodes  # that are corrected
        calls = dict.fromkeys(method.levels_of(model), 1.0)  # the Gaussian's
        calls[list(calls)[-1]] = float(method.number_of_evaluations)
        if method.cheap is not None:
            walked = cells - int(not method.calls_at_start and method.cheap != method.start)
            inside = ((self.substeps or _SUBSTEPS[True]) - 1) * walked
            ends = int(diffusion) + int(method.calls_at_start or method.cheap == method.start)
            calls[method.cheap] = float(inside + cells * (2 if self.reevaluate else 1) + ends)
        return calls

    def plan_for(self, model: Model, process: Process, times: Floats, seed: int, samples: Sequence[int]) -> Plan:
        plan = super().plan_for(model, process, times, seed, samples)
        return replace(plan, calls=self.expected_calls(model), cost=self.cost(model).seconds)

    @checked
    def fitted(
        self, model: AnyModel, process: Process | None = None, paths: Paths = 8, seed: Seed = 2**32, steps: Eight = 64
    ) -> LadderMultistep:
        """The same method with coefficients fitted to `paths` paths of the top level, of `steps` calls each.

        The paths are those of samples 0 to `paths` − 1 of `seed`, which should not be the seed of samples whose error
        is measured afterwards. Coefficients follow from them for any number of steps, any nodes and substeps; they
        belong to this model and process. `Ladder.with_covariance` keeps them in the ladder's folder. Raises
        MultidriftError on fewer than 2 paths, and for processes with velocities, whose coefficients are closed forms.
        """
        model = as_model(model)
        process = process_for(model, process)
        decided = self.for_model(model)
        return replace(
            self, covariance=measure_covariance(model, process, decided.levels_of(model), paths, seed, steps)
        )

    def walk(self, run: Run) -> Iterator[State]:
        """Predict, evaluate, correct and re-evaluate, cell by cell; then the end."""
        assert self.start is not None
        top, cheap, last = run.levels[-1], self.cheap, len(run.times) - 1
        x, p = run.start, None
        a = run.drift(x, 0, self.start)
        c = self._at_start(run, a)
        for n, (cell, weights) in enumerate(self._cells(run)):
            slope = 0.0 if p is None else a - p
            whole = run.intervals[n]
            z, at = whole.enter(x), x
            noise: Factor = 0.0
            defect: Factor = 0.0
            for i, step in enumerate(cell.steps().each(x)):
                change = 0.0 if i == 0 or c is None else run.drift_at(at, step.t, n, cheap) - c
                dw = run.noise(step)
                z = update.increment(z, step.dtau, a + weights.past * slope + weights.cheap * change, dw)
                noise, defect = noise + dw, defect + step.dtau / whole.dtau * change
                at = step.leave(z)
            if n + 1 == last and run.process.final_calls:
                yield run.state(n, x, a, at)
                break
            b = run.drift(at, n + 1, top)
            e = None if cheap is None else run.drift(at, n + 1, cheap)
            mean = a + weights.top * (b - a) + weights.before * slope
            if c is not None and e is not None:
                mean = mean + weights.defect * defect + weights.change * (e - c)
            z = update.increment(whole.enter(x), whole.dtau, mean, noise)
            before, x, p = x, whole.leave(z), a
            a, c = b, e
            if e is not None and self.reevaluate:
                c = run.drift(x, n + 1, cheap)
                a = b + (c - e)
            yield run.state(n, before, p, x)
        if run.process.final_calls:
            change = 0.0 if c is None else run.drift(at, last, cheap) - c
            data = run.clean(at, a + weights.last * change + weights.last_past * slope, last)
            run.guard.watch(last, top, data)
            yield State(last + 1, last + 1, 0.0, data, data, run.evaluator.calls)

    def _at_start(self, run: Run, a: Tensor) -> Tensor | None:
        """C at the first time, where it belongs to A."""
        if self.cheap is None:
            return None
        if self.cheap == self.start:
            return a
        return run.drift(run.start, 0, self.cheap) if self.calls_at_start else None

    def _cells(self, run: Run) -> Iterator[tuple[Cell, CellWeights]]:
        """Every cell with its coefficients; one substep where no change is known, at the ends of a diffusion."""
        process, covariance = run.process, self.covariance
        diffusion = process.final_calls > 0
        places = process.place(run.times)
        if covariance is not None:
            covariance.check(process.to_dict(), {n: run.evaluator.levels[n].fingerprint for n in run.levels})
        for n, times in enumerate(self._times_of_cells(process, run.times)):
            known, free = n > 0 or not diffusion, n == 0 and self._starts_free
            cell = Cell(process, times, float(places[n - 1]) if n else None)
            weights = self.weights or closed_form(cell, run.start, cheap=self.cheap is not None, known=known)
            if covariance is not None and self.weights is None:
                weights = fitted(cell, covariance, weights, self._stand_ins(run, n, free=free))
            yield cell, weights

    @property
    def _starts_free(self) -> bool:
        """Whether nothing of the cheap level is known in the first cell."""
        return self.cheap is not None and not self.calls_at_start and self.cheap != self.start

    def _times_of_cells(self, process: Process, times: Floats) -> list[Floats]:
        """The ends of every cell's substeps."""
        number, last = len(times) - 1, len(times) - 2 if process.final_calls else None
        found = []
        for n in range(number):
            one = n == last or (n == 0 and self._starts_free)
            substeps = 1 if one else self.substeps or _SUBSTEPS[process.noisy]
            found.append(np.interp(np.linspace(n, n + 1, substeps + 1), np.arange(number + 1), times))
        return found

    def read_at(self, process: Process, times: Floats) -> Floats:
        return np.concatenate([times[:1], *(ends[1:] for ends in self._times_of_cells(process, times))])

    def _stand_ins(self, run: Run, n: int, *, free: bool) -> tuple[str, str, str]:
        """Which levels A, P and C of a cell are values of; "" for none (a past that noise makes useless among them)."""
        top, start = run.levels[-1], str(self.start)
        past = "" if run.process.noisy or n == 0 else start if n == 1 else top
        return start if n == 0 else top, past, "" if free or self.cheap is None else self.cheap


def _read(name: str, value: object, settings: type[CellWeights | CellNodes]) -> object:
    """Settings from plain values, where a plan is read back; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    known = settings.__dataclass_fields__
    require(set(value) <= set(known), name, [key for key in value if key not in known], ", ".join(known))
    return settings(**value)


def _chosen(model: Model) -> tuple[str, ...]:
    """The top level, below it the best one that costs at most an eighth of it, or else the Gaussian."""
    if not isinstance(model, Ladder):
        return (model.name,)
    if len(model) == 1:
        return (model.top,) if model.gaussian is None else (GAUSSIAN, model.top)
    if model.costs is None:
        raise MultidriftError(
            "levels: got None; it takes the names of a cheap level and the top one, or a ladder with measured costs, "
            "ladder.measured()"
        )
    seconds = model.costs.seconds
    cheap = [name for name in model.names[:-1] if seconds[name] <= _CHEAP * seconds[model.top]]
    return (cheap[-1], model.top) if cheap else (model.top,) if model.gaussian is None else (GAUSSIAN, model.top)
