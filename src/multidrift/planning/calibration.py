"""What was measured of a ladder on one process, device and batch size; kept as JSON."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

import numpy as np
import torch

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.hints import Hint
from multidrift.basics.json_files import entry, read_signed, write_signed
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Count, NotNegative, PathLike, Seed
from multidrift.drifts.costs import Costs, machine_name
from multidrift.drifts.ladder import Ladder
from multidrift.planning.acceptance import kicks
from multidrift.planning.scaling import ScalingFit
from multidrift.processes.process import Process

FORMAT = 2  # 1 had no digest
_KIND = "multidrift calibration"
_TABLES = ("differences", "sensitivity", "errors")
# What a description has under the name of each field.
_ENTRIES: Mapping[str, Hint] = {
    "levels": Sequence[str], "ladder": Mapping[str, str], "process": Mapping[str, object], "machine": str,
    "batch": Count, "seconds": Mapping[str, NotNegative], "spread": Mapping[str, NotNegative],
    "overhead": NotNegative, "places": Sequence[float], "differences": Sequence[Sequence[Sequence[float]]],
    "sensitivity": Sequence[NotNegative | None], "errors": Sequence[Sequence[float]], "held_out": bool,
    "by_errors": Mapping[str, object] | None, "by_differences": Mapping[str, object] | None,
    "coarse": tuple[Count, float, float] | list[float], "coordinates": Count, "paths": Count, "seed": Seed,
}  # fmt: skip


class CalibrationWarning(UserWarning):
    """A calibration that was taken on a busy machine, or is used for what it was not taken on."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `md.calibrate` measured; `worth` says what it means.

    - `levels`: names, cheapest first, the ladder's Gaussian included; `ladder`: a fingerprint of each
    - `process`, `machine`, `batch`: of what, on what, with how many samples in a call
    - `seconds`: of one call of each level on a batch, medians; `spread`: interquartile range over median of each;
      `overhead`: seconds of a step of Euler on a batch beside its call
    - `places` [n]: λ (Langevin: time) along the paths, increasing
    - `differences` [levels, levels, n]: mean squared difference of two levels' D per coordinate along paths of the top
      one; on the diagonal the mean square of D itself
    - `sensitivity` [n]: how much an error of D at a place changes the result: the change's root mean square over that
      of the error times the share of the state that its step replaces; NaN where it was not measured
    - `errors` [levels of the ladder, images]: squared error of the predicted noise, mean over times (Langevin: none);
      `held_out`: whether they are on given images, or else on the ends of the paths
    - `by_errors`, `by_differences`: γ by two measures (`ScalingFit`), where there are levels enough
    - `coarse`: (steps, root mean square error of Euler on the top level at so many, the rate by which it falls)
    - `coordinates` of a sample; `paths`: how many were averaged over; `seed`: theirs
    """

    levels: tuple[str, ...]
    ladder: Mapping[str, str]
    process: Mapping[str, object]
    machine: str
    batch: int
    seconds: Mapping[str, float]
    spread: Mapping[str, float]
    overhead: float
    places: tuple[float, ...]
    differences: Floats
    sensitivity: Floats
    errors: Floats
    held_out: bool
    by_errors: ScalingFit | None
    by_differences: ScalingFit | None
    coarse: tuple[int, float, float]
    coordinates: int
    paths: int
    seed: int

    def __post_init__(self) -> None:
        k, n = len(self.levels), len(self.places)
        good = self.differences.shape == (k, k, n) and bool(np.isfinite(self.differences).all())
        require(good, "differences", self.differences.shape, f"finite values [{k}, {k}, {n}]")
        require(self.sensitivity.shape == (n,), "sensitivity", self.sensitivity.shape, f"[{n}]")
        own = [name for name in self.levels if name in self.seconds]
        require(0 < len(set(self.levels)) == k, "levels", self.levels, "names, all different")
        require(set(self.ladder) == set(self.levels), "ladder", sorted(self.ladder), f"fingerprints of {self.levels}")
        require(own == list(self.seconds), "seconds", list(self.seconds), "levels, cheapest first")
        good = self.errors.ndim == 2 and len(self.errors) == len(own) and bool(np.isfinite(self.errors).all())
        require(good, "errors", self.errors.shape, f"finite values [{len(own)}, images]")
        require(len(self.coarse) == 3, "coarse", self.coarse, "(steps, error, rate)")
        for name, value in self.seconds.items():
            require(math.isfinite(value) and value >= 0, "seconds", f"{value} for {name}", "finite costs of at least 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The levels of the ladder itself, without the Gaussian."""
        return tuple(name for name in self.levels if name in self.seconds)

    @property
    def costs(self) -> Costs:
        """The seconds as a ladder takes them."""
        return Costs(dict(self.seconds), self.batch, self.machine)

    @property
    def gamma(self) -> ScalingFit | None:
        """γ by the paper's fit to errors on held-out images; without such, by the differences of neighbours."""
        if self.held_out:
            return self.by_errors or self.by_differences
        return self.by_differences or self.by_errors

    def cost(self, name: str) -> float:
        """Seconds of a call of a level on a batch; 0 of the Gaussian."""
        return self.seconds.get(name, 0.0)

    def variances(self, names: Sequence[str], places: Floats | None = None) -> Floats:
        """V_k = mean |D^k − D^{k−1}|² of these levels, D^0 = 0, at places (by default those measured): [levels, n]."""
        at = [self.levels.index(name) for name in names]
        rows = [self.differences[at[0], at[0]], *(self.differences[a, b] for a, b in itertools.pairwise(at))]
        return self._at(np.stack(rows), places)

    def to_top(self, name: str) -> Floats:
        """Mean squared difference of a level's D from the top one's, [places]."""
        at = self.levels.index(name)
        return np.zeros(len(self.places)) if at == len(self.levels) - 1 else self.differences[at, -1]

    def best_coefficients(self, names: Sequence[str]) -> Floats:
        """What to multiply D^{k−1} with to come nearest to D^k, [levels − 1, places]: E D^k D^{k−1} / E (D^{k−1})²."""
        at = [self.levels.index(name) for name in names]
        square = self.differences
        pairs = [(a, b, 0.5 * (square[a, a] + square[b, b] - square[a, b])) for a, b in itertools.pairwise(at)]
        return np.stack([both / np.maximum(square[a, a], 1e-300) for a, _, both in pairs])

    def sensitivities(self, places: Floats) -> Floats:
        """S at places, 1 where it was not measured."""
        known = np.isfinite(self.sensitivity)
        if not known.any():
            return np.ones(len(places))
        return np.interp(places, np.asarray(self.places)[known], self.sensitivity[known])

    def acceptance(self, name: str, steps: Floats) -> Floats:
        """P(a step drafted by a level is accepted by the top one) for steps between places [n], [n − 1].

        2Φ(−‖Δ‖/2) with ‖Δ‖ = Δτ·‖D − D'‖/√v at the root mean square of the difference. Of the reverse SDE with η = 1
        that is ‖Δ‖² = (SNR_{n+1} − SNR_n)·‖x̂₀ − x̂₀'‖². Raises MultidriftError where steps have no noise, or none that
        is alike in all coordinates. Source: De Bortoli et al. 2025 (speculative sampling).
        """
        per_step = kicks(self.process, steps)
        if per_step is None:
            takes = "one with noise that is alike in all coordinates, no function of time, and without velocities"
            raise MultidriftError(f"process: got {self.process}; acceptance takes {takes}")
        gap = self._at(self.to_top(name)[None], steps[:-1])[0]
        distance = per_step * np.sqrt(gap * self.coordinates)
        return np.array([math.erfc(d / (2.0 * math.sqrt(2.0))) for d in distance])

    def check(
        self, ladder: Ladder, process: Process, *, batch: int | None = None, machine: str | None = None,
        force: bool = False,
    ) -> None:  # fmt: skip
        """Raise, naming the difference, unless it was taken on this; with `force` warn instead.

        `machine`: by default this one, where costs were measured and not given. A level that it knows nothing of is
        refused in any case.
        """
        for name, level in ladder.with_gaussian().items():
            if name not in self.levels:
                raise MultidriftError(f"calibration: was taken on {', '.join(self.levels)}, without level {name}")
            if self.ladder[name] != level.fingerprint:
                self._refuse(f"was taken on another level {name} (its network differs)", force=force)
        settings = process.to_dict()
        for key, value in self.process.items():
            if settings.get(key) != value:
                detail = "another schedule" if key == "schedule" else f"{key} = {value!r}, not {settings.get(key)!r}"
                self._refuse(f"was taken on a process with {detail}", force=force)
        if machine is None and self.spread:
            machine = machine_name(ladder[ladder.top].device or torch.device("cpu"))
        if machine is not None and machine != self.machine:
            self._refuse(f"was taken on another machine ({self.machine}, not {machine})", force=force)
        if batch is not None and batch != self.batch:
            self._refuse(f"was taken with batches of {self.batch}, not {batch}", force=force)

    def _refuse(self, what: str, *, force: bool) -> None:
        if not force:
            raise MultidriftError(f"calibration: {what}; take a new one, or force=True to use it all the same")
        warnings.warn(f"calibration: {what}; used by force", CalibrationWarning, stacklevel=4)

    def _at(self, rows: Floats, places: Floats | None) -> Floats:
        if places is None:
            return rows
        return np.stack([np.interp(places, self.places, row) for row in rows])

    def to_dict(self) -> dict[str, object]:
        """As plain values; `from_dict` reads them back."""
        values: dict[str, object] = {"kind": _KIND, "format": FORMAT}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = _without_nan(value.tolist())
            values[field.name] = value.to_dict() if isinstance(value, ScalingFit) else value
        return values

    @staticmethod
    @checked
    def from_dict(values: Mapping[str, object]) -> Calibration:
        """What `to_dict` described; raises MultidriftError on anything else."""
        require(values.get("kind") == _KIND, "calibration", values.get("kind"), "a calibration of multidrift")
        version = values.get("format")
        require(type(version) is int and version == FORMAT, "calibration", version, f"format {FORMAT}")
        try:
            return _read(values)
        except MultidriftError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise MultidriftError(f"calibration: is damaged ({type(error).__name__}: {error})") from error

    @checked
    def save(self, path: PathLike) -> None:
        """Write it as JSON; the file appears whole or not at all."""
        write_signed(self, Path(path))

    @staticmethod
    @checked
    def load(path: PathLike) -> Calibration:
        """The calibration saved at `path`, or an error that says what is wrong with the file."""
        return read_signed(Path(path), "calibration", Calibration.from_dict)


def _without_nan(values: list[object]) -> list[object]:
    """None for NaN, which JSON does not know, in a list of numbers."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def _read(values: Mapping[str, object]) -> Calibration:
    kept = {name: entry(values, name, hint, "calibration") for name, hint in _ENTRIES.items()}
    for name in _TABLES:  # None, of a sensitivity that was not measured, becomes NaN
        kept[name] = np.asarray(kept[name], dtype=np.float64)
    for name in ("by_errors", "by_differences"):
        fit = cast("Mapping[str, object] | None", kept[name])
        kept[name] = None if fit is None else ScalingFit.from_dict(fit)
    for name in ("levels", "places", "coarse"):
        kept[name] = tuple(cast("list[object]", kept[name]))
    return Calibration(**kept)  # type: ignore[arg-type]  # as the hints say
