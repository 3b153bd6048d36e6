"""A plan: which differences of levels fire at which step, and with what weight. Numbers only; it can be kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.files import write_whole
from multidrift.basics.numbers import Floats

FORMAT = 1
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
    def from_dict(content: Mapping[str, object]) -> Plan:
        """The plan that `to_dict` described; raises MultidriftError on anything else."""
        if content.get("kind") != _KIND:
            raise MultidriftError("plan: is not a plan of multidrift")
        if content.get("format") != FORMAT:
            raise MultidriftError(f"plan: has format {content.get('format')!r}; this version reads {FORMAT}")
        try:
            return _read(content)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise MultidriftError(f"plan: is damaged ({type(error).__name__}: {error})") from error

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; the file appears whole or not at all."""
        text = json.dumps(self.to_dict()) + "\n"
        write_whole(Path(path), lambda partial: partial.write_text(text))

    @staticmethod
    def load(path: str | Path) -> Plan:
        """The plan saved at `path`, or an error that says what is wrong with the file."""
        require(Path(path).is_file(), "path", str(path), "an existing plan file")
        try:
            content = json.loads(Path(path).read_text())
        except ValueError as error:
            raise MultidriftError(f"{path}: is damaged, no valid JSON ({error})") from error
        try:
            return Plan.from_dict(content if isinstance(content, dict) else {})
        except MultidriftError as error:
            raise MultidriftError(f"{path}: {error}") from error


def _mapping(content: Mapping[str, object], key: str) -> dict[str, object]:
    value = content[key]
    require(isinstance(value, dict), key, value, "a mapping")
    return cast("dict[str, object]", value)


def _read(content: Mapping[str, object]) -> Plan:
    times = tuple(float(t) for t in cast("list[float]", content["times"]))
    levels = tuple(str(name) for name in cast("list[str]", content["levels"]))
    samples = content["samples"]
    fired = cast("list[list[list[int]]]", content["firings"])
    values = cast("list[list[list[float]]]", content["weights"])
    weights = np.zeros((len(fired), len(times) - 1, len(levels)))
    for draw, (at_levels, of_levels) in enumerate(zip(fired, values, strict=True)):
        require(len(at_levels) == len(levels), "firings", len(at_levels), f"{len(levels)} levels")
        for k, (at, of) in enumerate(zip(at_levels, of_levels, strict=True)):
            require(all(0 <= n < len(times) - 1 for n in at), "firings", at, f"steps 0 to {len(times) - 2}")
            weights[draw, at, k] = np.asarray(of, dtype=np.float64).reshape(len(at))
    require(bool(np.all(np.isfinite(weights))), "weights", "values that are not finite", "finite weights")
    return Plan(
        method=_mapping(content, "method"),
        process=_mapping(content, "process"),
        ladder={name: str(_mapping(content, "ladder")[name]) for name in levels},
        times=times,
        levels=levels,
        weights=weights,
        seed=int(cast("int", content["seed"])),
        calls={name: float(cast("float", n)) for name, n in _mapping(content, "calls").items()},
        samples=None if samples is None else tuple(int(n) for n in cast("list[int]", samples)),
        cost=cast("float | None", content["cost"]),
    )


def coefficients(weights: Floats) -> Floats:
    """What multiplies each level's own D, from the weights of the differences (the last axis): w_k − w_{k+1}."""
    above = np.concatenate([weights[..., 1:], np.zeros_like(weights[..., :1])], axis=-1)
    return np.asarray(weights - above)


def counted_calls(weights: Floats, final: int = 1) -> Floats:
    """Calls of each level per draw, from the weights [draws, increments, levels]; `final` more of the top level."""
    calls: Floats = (coefficients(weights) != 0).sum(axis=1).mean(axis=0)
    calls[-1] += final
    return calls
