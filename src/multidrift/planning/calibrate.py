"""Measure a ladder: what its levels cost here, how far apart they are, and how much that matters when."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.memory import check_size
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Count, Eight, Paths, ShortSeed, Size
from multidrift.drifts.costs import Costs, machine_name, time_calls
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.drift import Drift
from multidrift.drifts.gradient import LangevinDrift
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import process_for
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.denoising import denoising_errors
from multidrift.methods.euler import Euler
from multidrift.planning.calibration import Calibration, CalibrationWarning
from multidrift.planning.paths import finite_places, level_differences, sensitivity, top_paths
from multidrift.planning.scaling import fit_differences, fit_errors
from multidrift.processes.process import Process
from multidrift.sampling import sample

_NUDGED_STEPS, _NUDGED_PATHS = 12, 4  # of the sensitivity, which takes steps²/2 calls of the top level a path
_TIMES = 10  # noise levels of the denoising errors
_UNSTEADY = 0.25  # interquartile range over median of the timings above which a machine is called busy
_OVERHEAD_STEPS = 6
_RATES = (0.25, 2.0)  # of Euler's error, within which an estimate of it is kept


@checked
def calibrate(
    ladder: Ladder,
    process: Process | None = None,
    batch: Count = 64,
    paths: Paths = 16,
    seed: ShortSeed = 0,
    *,
    steps: Eight = 24,
    images: Tensor | None = None,
    costs: Costs | None = None,
    repeats: Size = 7,
) -> Calibration:
    """Measure all that a choice of method, levels and plan rests on.

    - `batch`: samples of a call whose seconds are measured (medians of `repeats`, the levels taking turns; a warning
      where they scatter as on a busy machine); `costs`: seconds that are known, in place of measuring
    - `paths`, `steps`: paths of the top level along which all levels are compared, samples 0 to `paths` − 1 of `seed`,
      with `steps` calls each
    - `images` [n, …] in [−1, 1], held out from training: γ is then fitted to the denoising errors on them, as in the
      paper. By default those are measured on the ends of the paths, and γ is fitted to the differences of neighbours

    It takes about paths·steps calls of each level, and 600 more of the top one. Raises MultidriftError on a ladder of
    one level, costs that are not finite and a ladder that does not know its sample's shape.
    """
    require(len(ladder) >= 2, "ladder", ladder, "at least two levels; of one network there is nothing to compare")
    process = process_for(ladder, process)
    shape = ladder.shape
    if shape is None:
        raise MultidriftError("ladder: does not know its sample's shape; it takes levels made with shape=")
    for name, rows in (("batch", batch), ("paths", paths * steps * len(ladder))):
        check_size(rows * math.prod(shape), name, rows)
    if images is not None:
        good = images.is_floating_point() and tuple(images.shape[1:]) == shape and len(images) > 1
        require(good, "images", f"{images.dtype} {tuple(images.shape)}", f"floats [n, {', '.join(map(str, shape))}]")
        require(bool(torch.isfinite(images).all()), "images", "values that are not finite", "finite values")
    known, spread, overhead = _costs(ladder, process, shape, batch, repeats, costs)
    levels = ladder.with_gaussian()
    times, positions, ends = top_paths(ladder, process, steps, paths, seed)
    table = level_differences(levels, process, times, positions)
    places = finite_places(process, times)
    errors = _errors(ladder, ends if images is None else images)
    seconds = [known.seconds[name] for name in ladder.names]
    first = len(levels) - len(ladder)  # the Gaussian is no level that a power law would hold for
    carried = _sensitivity(ladder, process, places, min(paths, _NUDGED_PATHS), seed)
    # A difference counts for as much as it moves the result: at pure noise levels may differ by anything.
    weights = (process.relative_steps(times) * np.where(np.isfinite(carried), carried, 1.0)[1:]) ** 2
    neighbours = np.stack([weights @ table[k, k - 1][: len(weights)] for k in range(first + 1, len(levels))])
    paid = min(seconds) > 0
    return Calibration(
        levels=tuple(levels),
        ladder={name: level.fingerprint for name, level in levels.items()},
        process=process.to_dict(),
        machine=known.machine,
        batch=known.batch,
        seconds=dict(known.seconds),
        spread=spread,
        overhead=overhead,
        places=tuple(places.tolist()),
        differences=table.mean(axis=3),
        sensitivity=carried,
        errors=errors,
        held_out=images is not None,
        by_errors=fit_errors(errors, seconds) if paid else None,
        by_differences=fit_differences(neighbours, seconds) if paid else None,
        coarse=_coarse(ladder, process, steps, ends, seed),
        coordinates=int(np.prod(shape)),
        paths=paths,
        seed=seed,
    )


def _costs(
    ladder: Ladder, process: Process, shape: tuple[int, ...], batch: int, repeats: int, costs: Costs | None
) -> tuple[Costs, dict[str, float], float]:
    """(costs, their spread, seconds of a step beside its call), measured here unless they are known."""
    if costs is not None:
        missing = [name for name in ladder.names if name not in costs.seconds]
        require(not missing, "costs", sorted(costs.seconds), f"seconds of {', '.join(ladder.names)}")
        return Costs({name: costs.seconds[name] for name in ladder.names}, costs.batch, costs.machine), {}, 0.0
    times, where = time_calls({name: ladder[name] for name in ladder.names}, shape, batch, repeats, None)
    spread = {name: _spread(values) for name, values in times.items()}
    busy = [name for name, value in spread.items() if value > _UNSTEADY]
    if busy:
        warnings.warn(
            f"calibrate: the seconds of {', '.join(busy)} scatter by more than a quarter, as on a busy machine; "
            "seconds taken from this calibration may be off by as much",
            CalibrationWarning,
            stacklevel=4,
        )
    known = Costs({name: statistics.median(s) for name, s in times.items()}, batch, machine_name(where))
    return known, spread, _overhead(process, shape, batch, where)


def _spread(values: Sequence[float]) -> float:
    """Interquartile range over median."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def _overhead(process: Process, shape: tuple[int, ...], batch: int, where: torch.device) -> float:
    """Seconds of a step of Euler beside its call: the noise path, the state, the guards."""
    schedule = process.model_schedule
    free: Drift = LangevinDrift(torch.neg, shape=shape)
    if schedule is not None:
        free = Denoiser(lambda x, *_: torch.zeros_like(x), schedule, "sample", shape=shape)
    runs = [
        sample(free, Euler(_OVERHEAD_STEPS), process, count=batch, device=where, progress=False).seconds
        for _ in range(4)
    ]
    return statistics.median(runs[1:]) / _OVERHEAD_STEPS


def _coarse(ladder: Ladder, process: Process, steps: int, ends: Tensor, seed: int) -> tuple[int, float, float]:
    """(steps, error, rate): Euler's root mean square error at so many steps, ∝ steps^−rate.

    By Richardson's extrapolation from `ends` at `steps` and runs at a half and a quarter of them on the same noise.
    """

    def run(number: int) -> Tensor:
        return sample(ladder[ladder.top], Euler(number), process, count=len(ends), seed=seed, progress=False).samples

    half, quarter = run(steps // 2), run(steps // 4)
    far, near = (float(squared_distances(a, b).mean()) ** 0.5 for a, b in ((quarter, half), (half, ends)))
    rate = float(np.clip(np.log2(far / near), *_RATES)) if far > 0 and near > 0 else _RATES[1]
    return steps, near / (2.0**rate - 1.0), rate


def _errors(ladder: Ladder, images: Tensor) -> Floats:
    """Squared error of the predicted noise of each level on each image, mean over times; none for Langevin."""
    if ladder.schedule is None:
        return np.zeros((len(ladder), 0))
    times = np.linspace(ladder.schedule.t_max, ladder.schedule.t_min, _TIMES)
    found: Mapping[str, Tensor] = denoising_errors(ladder, images, times.tolist()).errors
    return np.stack([found[name].mean(dim=0).numpy() for name in ladder.names])


def _sensitivity(ladder: Ladder, process: Process, places: Floats, paths: int, seed: int) -> Floats:
    """S at the places of the calibration; NaN for processes with velocities."""
    if process.has_velocity:
        return np.full(len(places), np.nan)
    known, found = sensitivity(ladder, process, _NUDGED_STEPS, paths, seed)
    good = np.isfinite(found)
    return np.interp(places, known[good], found[good]) if good.any() else np.full(len(places), np.nan)
