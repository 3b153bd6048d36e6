"""A plan: which differences of levels fire at which step, and with what weight. Numbers only; it can be kept."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from multidrift.processes.errors import MultidriftError, require

Floats = NDArray[np.float64]
FORMAT = 1
_KIND = "multidrift plan"


@dataclass(frozen=True, eq=False)
class Plan:
    """The random choices of a run, drawn before it.

    - `method`, `process`, `ladder`: what it was made for: the method's and the process's settings, and a fingerprint
      of each level. A run of anything else refuses it
    - `times`: the grid; `levels`: names, cheapest first; `seed`: what it was drawn from
    - `weights` [draws, steps − 1, levels]: the weight of each level's difference in each step, 0 where it does not
      fire; one draw for a whole batch, or one per sample
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
    cost: float | None = None

    @property
    def shared(self) -> bool:
        """Whether one draw serves the whole batch."""
        return len(self.weights) == 1

    def check(
        self, process: Mapping[str, object], ladder: Mapping[str, str], times: Sequence[float], count: int
    ) -> None:
        """Raise, naming the difference, unless the plan was made for just this."""
        for name in self.levels:
            if name not in ladder:
                raise MultidriftError(f"plan: made for level {name}; this model has {', '.join(ladder)}")
            if ladder[name] != self.ladder[name]:
                raise MultidriftError(f"plan: made for another level {name} (its network or schedule differs)")
        for key, value in self.process.items():
            if process.get(key) != value:
                raise MultidriftError(f"plan: made for a process with {key} = {value!r}, not {process.get(key)!r}")
        if tuple(times) != self.times:
            raise MultidriftError(f"plan: made for another grid ({_grid(self.times)}, not {_grid(tuple(times))})")
        if not self.shared and len(self.weights) != count:
            raise MultidriftError(f"plan: made for {len(self.weights)} samples with a draw each, not {count}")

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; the file appears whole or not at all."""
        target = Path(path)
        fired = [[np.flatnonzero(column).tolist() for column in draw.T] for draw in self.weights]
        content = {
            "kind": _KIND,
            "format": FORMAT,
            "method": dict(self.method),
            "process": dict(self.process),
            "ladder": dict(self.ladder),
            "levels": list(self.levels),
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
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_text(json.dumps(content) + "\n")
            os.replace(partial, target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise MultidriftError(f"path: could not write {str(path)!r} ({error})") from error

    @staticmethod
    def load(path: str | Path) -> Plan:
        """The plan saved at `path`, or an error that says what is wrong with the file."""
        require(Path(path).is_file(), "path", str(path), "an existing plan file")
        try:
            content = json.loads(Path(path).read_text())
        except ValueError as error:
            raise MultidriftError(f"{path}: is damaged, no valid JSON ({error})") from error
        if not isinstance(content, dict) or content.get("kind") != _KIND:
            raise MultidriftError(f"{path}: is not a plan of multidrift")
        if content.get("format") != FORMAT:
            raise MultidriftError(f"{path}: has format {content.get('format')!r}; this version reads {FORMAT}")
        try:
            return _read(content)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise MultidriftError(f"{path}: is damaged ({type(error).__name__}: {error})") from error


def _grid(times: tuple[float, ...]) -> str:
    return f"{len(times)} times from {times[0]:g} to {times[-1]:g}"


def _read(content: Mapping[str, object]) -> Plan:
    times = tuple(float(t) for t in cast("list[float]", content["times"]))
    levels = tuple(str(name) for name in cast("list[str]", content["levels"]))
    fired = cast("list[list[list[int]]]", content["firings"])
    values = cast("list[list[list[float]]]", content["weights"])
    weights = np.zeros((len(fired), len(times) - 1, len(levels)))
    for draw, (at_levels, of_levels) in enumerate(zip(fired, values, strict=True)):
        require(len(at_levels) == len(levels), "firings", len(at_levels), f"{len(levels)} levels")
        for k, (at, of) in enumerate(zip(at_levels, of_levels, strict=True)):
            weights[draw, at, k] = np.asarray(of, dtype=np.float64).reshape(len(at))
    require(bool(np.all(np.isfinite(weights))), "weights", "values that are not finite", "finite weights")
    return Plan(
        method=cast("dict[str, object]", content["method"]),
        process=cast("dict[str, object]", content["process"]),
        ladder=cast("dict[str, str]", content["ladder"]),
        times=times,
        levels=levels,
        weights=weights,
        seed=int(cast("int", content["seed"])),
        calls=cast("dict[str, float]", content["calls"]),
        cost=cast("float | None", content["cost"]),
    )
