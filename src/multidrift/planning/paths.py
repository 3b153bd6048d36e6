"""What the levels of a ladder say along paths of the top one, and how far an error there carries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.drifts.drift import Drift
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.coupled import squared_distances
from multidrift.methods.euler import Euler
from multidrift.processes.process import Process
from multidrift.sampling import sample


def finite_places(process: Process, times: Floats) -> Floats:
    """The places of a grid, a start from pure noise (λ = −∞) as far before the second as that is before the third."""
    places = np.array(process.place(times))
    if np.isneginf(places[0]):
        places[0] = 2.0 * places[1] - places[2] if len(places) > 2 else places[1] - 1.0
    return places


def top_paths(ladder: Ladder, process: Process, steps: int, paths: int, seed: int) -> tuple[Floats, Tensor, Tensor]:
    """(times [n], positions [n, paths, …], samples [paths, …]) of Euler on the top level."""
    method = Euler(steps)
    result = sample(ladder[ladder.top], method, process, count=paths, seed=seed, save=1, progress=False)
    times = method.grid_for(process)
    assert result.trajectory is not None
    return times, result.trajectory[: len(times)], result.samples


def level_differences(levels: Mapping[str, Drift], process: Process, times: Floats, positions: Tensor) -> Floats:
    """Mean squares over coordinates of D^j − D^k, [levels, levels, n, paths]; of D itself on the diagonal."""
    number = len(levels)
    table = np.zeros((number, number, len(times), positions.shape[1]))
    with torch.no_grad(), evaluation_mode(levels.values()):
        for n, t in enumerate(times.tolist()):
            drifts = [level.predict(positions[n], t, process.drift_is, {}).double() for level in levels.values()]
            for j, one in enumerate(drifts):
                for k, other in enumerate(drifts[: j + 1]):
                    square = squared_distances(one, torch.zeros_like(one) if j == k else other).cpu().numpy()
                    table[j, k, n] = table[k, j, n] = square
    return table


def sensitivity(ladder: Ladder, process: Process, steps: int, paths: int, seed: int) -> tuple[Floats, Floats]:
    """(places, S): how far an error of D carries, S = |change of the result| / (share of the step · |error|).

    One step at a time is taken with the level below in place of the top one (with an error of a thousandth in a random
    direction where the two agree), the rest of the path with the top one. The place is that of the step's end: what the
    error did before has shrunk by then. Not for processes with velocities.
    """
    method, top, below = Euler(steps), ladder[ladder.top], ladder[ladder.names[-2]]
    base = sample(
        top, method, process, count=paths, seed=seed, save=1, dtype=torch.float64, progress=False,
    )  # fmt: skip
    times, path = method.grid_for(process), base.trajectory
    assert path is not None
    shares, kicks = process.relative_steps(times), process.intervals(times[:-1], times[1:]).dtau
    found, factors = np.zeros(len(shares)), process.preconditioning
    for n, share in enumerate(shares):
        error = _error(top, below, path[n], float(times[n]), process)
        size = float(error.square().mean())
        kick = float(kicks[n]) * (error if factors is None else error * torch.from_numpy(factors).to(error))
        end = _end(ladder, process, times, n + 1, path[n + 1] + kick, seed)
        moved = float(squared_distances(end, base.samples).mean())
        found[n] = np.sqrt(moved / size) / share if size > 0 else np.nan
    return finite_places(process, times)[1:], found


def _error(top: Drift, below: Drift, x: Tensor, t: float, process: Process) -> Tensor:
    with torch.no_grad(), evaluation_mode([top, below]):
        right = top.predict(x, t, process.drift_is, {})
        error = below.predict(x, t, process.drift_is, {}) - right
    if float(error.square().mean()) > 0:
        return error
    normal = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype).to(x.device)
    return 1e-3 * right.square().mean().sqrt() * normal


def _end(ladder: Ladder, process: Process, times: Floats, n: int, x: Tensor, seed: int) -> Tensor:
    """The result of Euler on the top level from state x at the n-th time, on the same noise."""
    top, diffusion = ladder[ladder.top], process.final_calls > 0
    if n == len(times) - 1:
        if not diffusion:
            return x
        with torch.no_grad(), evaluation_mode([top]):
            return top.predict(x, float(times[n]), "sample", {})
    left = tuple(times[n:] if diffusion else times[n:-1])
    return sample(top, Euler(times=left), process, start=x, seed=seed, dtype=torch.float64, progress=False).samples
