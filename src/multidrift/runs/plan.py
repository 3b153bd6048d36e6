"""A plan: which differences of levels fire at which step, and with what weight. Numbers only; it can be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np

from multidrift.basics.checks import check_value, checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.json_files import entry, mapping, read_signed, write_signed
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Index, NotNegative, PathLike, Seed
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.langevin import Langevin, Overdamped, Underdamped

FORMAT = 2  # 1 knew levels by some of their weights alone
_KIND = "multidrift plan"


@dataclass(frozen=True, eq=False)
class Plan:
    """The random choices of a run, drawn before it.

    - `method`, `process`, `ladder`: what it was made for: the method's and the process's settings, and a fingerprint
      of each level. A run of anything else refuses it
    - `times`: the grid; `levels`: names, cheapest first; `seed`: what it was drawn from
    - `weights` [draws, increments, levels]: the weight of each level's difference in each step, 0 where it does not
      fire; one draw for a whole batch, or one for each of `samples` (None: one for any batch)
    - `calls`: calls of each level per sample, the final one included; `cost`: seconds per sample where known
    """

    method: Mapping[str, object]
    process: Mapping[str, object]
    ladder: Mapping[str, str]
    times: tuple[float, ...]
    levels: tuple[str, ...]
    weights: Floats
    seed: int
    calls: Mapping[str, float]
    samples: tuple[int, ...] | None = None
    cost: float | None = None

    def check(
        self, process: Mapping[str, object], ladder: Mapping[str, str], times: Sequence[float], samples: Sequence[int]
    ) -> None:
        """Raise, naming the difference, unless the plan was made for just this."""
        if tuple(ladder) != self.levels:
            raise MultidriftError(f"plan: made for levels {', '.join(self.levels)}, not {', '.join(ladder)}")
        for name in self.levels:
            if ladder[name] != self.ladder[name]:
                raise MultidriftError(f"plan: made for another level {name} (its network or schedule differs)")
        for key, value in self.process.items():
            if process.get(key) != value:
                detail = "another schedule" if key == "schedule" else f"{key} = {value!r}, not {process.get(key)!r}"
                raise MultidriftError(f"plan: made for a process with {detail}")
        if len(times) != len(self.times):
            raise MultidriftError(f"plan: made for a grid of {len(self.times)} times, not {len(times)}")
        for n, (mine, other) in enumerate(zip(self.times, times, strict=True)):
            if abs(mine - other) > 1e-9 * max(abs(mine), abs(other)):  # the last digits differ between machines
                raise MultidriftError(f"plan: made for another grid: its time {n} is {mine:g}, not {other:g}")
        if self.samples is not None and tuple(samples) != self.samples:
            made = f"samples {self.samples[0]} to {self.samples[-1]}, with a draw each"
            raise MultidriftError(f"plan: made for {made}; not for {samples[0]} to {samples[-1]}")

    def to_dict(self) -> dict[str, object]:
        """The plan as plain values; `from_dict` reads them back. Firings and weights are [draws, levels, firings]."""
        fired = [[np.flatnonzero(column).tolist() for column in draw.T] for draw in self.weights]
        return {
            "kind": _KIND,
            "format": FORMAT,
            "method": dict(self.method),
            "process": dict(self.process),
            "ladder": dict(self.ladder),
            "levels": list(self.levels),
            "samples": None if self.samples is None else list(self.samples),
            "seed": self.seed,
            "calls": dict(self.calls),
            "cost": self.cost,
            "times": list(self.times),
            "firings": fired,
            "weights": [
                [draw[at, k].tolist() for k, at in enumerate(levels)]
                for draw, levels in zip(self.weights, fired, strict=True)
            ],
        }

    @staticmethod
    @checked
    def from_dict(content: Mapping[str, object]) -> Plan:
        """The plan that `to_dict` described; raises MultidriftError on anything else."""
        if content.get("kind") != _KIND:
            raise MultidriftError("plan: is not a plan of multidrift")
        if content.get("format") != FORMAT:
            raise MultidriftError(f"plan: has format {content.get('format')!r}; this version reads {FORMAT}")
        try:
            return _read(content)
        except MultidriftError as error:
            raise MultidriftError(f"plan: is damaged ({error})") from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise MultidriftError(f"plan: is damaged ({type(error).__name__}: {error})") from error

    @checked
    def save(self, path: PathLike) -> None:
        """Write the plan as JSON; the file appears whole or not at all."""
        write_signed(self, Path(path))

    @staticmethod
    @checked
    def load(path: PathLike) -> Plan:
        """The plan saved at `path`, or an error that says what is wrong with the file."""
        return read_signed(Path(path), "plan", Plan.from_dict)


def _read(content: Mapping[str, object]) -> Plan:
    times = tuple(cast("list[float]", entry(content, "times", list[float], "plan")))
    levels = tuple(cast("list[str]", entry(content, "levels", list[str], "plan")))
    falling = np.diff(times) < 0
    require(len(times) >= 2 and bool(falling.all() or not falling.any()), "times", times, "a grid, in one direction")
    require(0 < len(levels) == len(set(levels)), "levels", levels, "names, all different")
    samples = cast("list[int] | None", entry(content, "samples", list[Index] | None, "plan"))
    calls = cast("dict[str, float]", entry(content, "calls", dict[str, NotNegative], "plan"))
    require(tuple(calls) == levels, "calls", tuple(calls), f"those of {', '.join(levels)}")
    ladder = cast("dict[str, str]", entry(content, "ladder", dict[str, str], "plan"))
    process = mapping(content, "process", "plan")
    _check_process(process)
    return Plan(
        method=mapping(content, "method", "plan"),
        process=process,
        ladder={name: ladder[name] for name in levels},
        times=times,
        levels=levels,
        weights=_read_weights(content, len(times) - 1, len(levels), None if samples is None else len(samples)),
        seed=cast("int", entry(content, "seed", Seed, "plan")),
        calls=calls,
        samples=None if samples is None else tuple(samples),
        cost=cast("float | None", entry(content, "cost", NotNegative | None, "plan")),
    )


def _read_weights(content: Mapping[str, object], steps: int, levels: int, samples: int | None) -> Floats:
    """The draw table [draws, steps, levels]; every firing lies in the grid, once, with a weight."""
    fired = cast("list[list[list[int]]]", entry(content, "firings", list[list[list[Index]]], "plan"))
    values = cast("list[list[list[float]]]", entry(content, "weights", list[list[list[float]]], "plan"))
    draws = 1 if samples is None else samples
    # What fires within a step follows from keys: a plan of such draws has one table for all of its samples.
    good = len(fired) == len(values) and len(fired) in (1, draws)
    require(good, "firings", f"{len(fired)} draws", f"{draws}, with weights for each")
    weights = np.zeros((len(fired), steps, levels))
    for draw, (at_levels, of_levels) in enumerate(zip(fired, values, strict=True)):
        require(len(at_levels) == len(of_levels) == levels, "firings", len(at_levels), f"{levels} levels")
        for k, (at, of) in enumerate(zip(at_levels, of_levels, strict=True)):
            rising = all(a < b for a, b in pairwise(at)) and all(n < steps for n in at)
            require(rising, "firings", at, f"rising steps, 0 to {steps - 1}")
            require(len(at) == len(of) and 0 not in of, "weights", of, f"{len(at)} numbers that are not 0")
            weights[draw, at, k] = of
    return weights


def _check_process(values: Mapping[str, object]) -> None:
    """A process that exists, with its own settings."""
    kinds: dict[str, type[Diffusion | Langevin]] = {k.__name__: k for k in (Diffusion, Overdamped, Underdamped)}
    kind = kinds.get(str(values.get("process")))
    if kind is None:
        return  # one of the user's own; a run compares its settings
    scale = values.get("noise_scale")
    of_function = isinstance(scale, list)
    if of_function:
        check_value(scale, list[NotNegative], "noise_scale")
    kind.from_dict({**values, "noise_scale": 1.0} if of_function else values)


def coefficients(weights: Floats) -> Floats:
    """What multiplies each level's own D, from the weights of the differences (the last axis): w_k − w_{k+1}."""
    above = np.concatenate([weights[..., 1:], np.zeros_like(weights[..., :1])], axis=-1)
    return np.asarray(weights - above)


def counted_calls(weights: Floats, final: int = 1) -> Floats:
    """Calls of each level per draw, from the weights [draws, increments, levels]; `final` more of the top level."""
    calls: Floats = (coefficients(weights) != 0).sum(axis=1).mean(axis=0)
    calls[-1] += final
    return calls
