"""All time points of a run at once: their states and noises, and the sums that make new states from drifts.

The words of parallel Picard iteration, as they are used in this folder:

- point n: the state at time t_n, n = 0 … N; step n leads from point n to point n + 1
- open, settled: a point that is iterated on; one that is final (`front` has a drawing)
- block, window: points are opened a block at a time, or at most a window of them at once
- round: one evaluation of the top level at all open points, and one sweep
- sweep: new states of the open points from a cheap drift and the difference of levels
- difference: D of the top level less the cheap one's, as the last round found it, held or followed along a line
- scan: the prefix sum that makes the states of many steps at once, z_n = z_0 + Σ (Δτ D + ΔW)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats, aligned, moved
from multidrift.methods.picard.front import Front, Indices, Mask
from multidrift.processes.intervals import Interval
from multidrift.processes.process import Process
from multidrift.runs import update
from multidrift.runs.result import State
from multidrift.runs.run import Run

_LARGEST_SPAN = 20.0  # of log(z/x) within one prefix sum: e^20 keeps float32 factors far from over- and underflow
_INTERVALS_KEPT = 4096


class Points:
    """The time points t_0 … t_N of every sample, as they are now.

    - `x` [N + 1, count, …]: the states; `front`: which of them are final, which are iterated on
    - `scale` [N + 1]: what a change of the state is compared with; `own`: every step, anchored at its end
    - `noise` [N, count, …]: ΔW of every step that was opened, in its own anchor; None without noise

    Memory: 2N + 1 states of the whole batch; what an iteration remembers of each level comes on top.
    """

    def __init__(self, run: Run, scale: Floats) -> None:
        self.run, self.scale = run, scale
        self.increments, self.count = len(run.times) - 1, len(run.start)
        self.samples: Indices = np.arange(self.count)
        self.x = run.start.unsqueeze(0).repeat(self.increments + 1, *(1,) * run.start.ndim)
        self.front = Front(self.increments, self.count)
        self.noise = torch.zeros_like(self.x[1:]) if run.path is not None else None
        self._read = 0
        self.own = run.process.intervals(run.times[:-1], run.times[1:])
        self._cuts = _cuts(self.own.enter_factor)
        self._interval = lru_cache(_INTERVALS_KEPT)(self._make_interval)

    def like_drift(self) -> Tensor:
        """Zeros that hold D at every step, [N, count, …]."""
        zeros = torch.zeros_like(self.run.process.position(self.x[1:]))
        return torch.zeros_like(self.run.process.lift(zeros, 0.0))

    def mask(self, chosen: Mask, like: Tensor) -> Tensor:
        """A mask [n, count] shaped to select among states or drifts [n, count, …]."""
        return aligned(moved(chosen, like.device), like)

    def drift(self, level: str, chosen: Mask, first: int = 0) -> Tensor:
        """D of a level at the chosen points, [n, count] from point `first` on, in one call; 0 elsewhere."""
        steps, rows = np.nonzero(chosen)
        found = self.drift_of(level, first + steps, rows)
        place = moved(steps * self.count + rows, self.x.device)
        empty = found.new_zeros((chosen.size, *found.shape[1:]))
        return empty.index_copy(0, place, found).view(*chosen.shape, *found.shape[1:])

    def drift_of(self, level: str, steps: Indices, rows: Indices) -> Tensor:
        """D of a level at points steps[i] of samples rows[i], [m, …], in one call."""
        times = self.run.times[steps]
        # One time for all rows, where it is one: the same arithmetic as in a sequential method.
        t = float(times[0]) if np.all(times == times[0]) else times
        return self.run.drift_at(self.x[self.at(steps, rows)], t, steps, level, self.index(rows))

    def index(self, numbers: Indices | Mask | Floats) -> Tensor:
        """Numbers of points or samples, or a number each, beside the states."""
        return moved(numbers, self.x.device)

    def at(self, steps: Indices, rows: Indices) -> tuple[Tensor, Tensor]:
        """Where entry i is point steps[i] of sample rows[i], in a tensor [points, count, …]."""
        return self.index(steps), self.index(rows)

    def step(self, steps: Indices, rows: Indices, drift: Tensor, noise: Tensor | float) -> Tensor:
        """The states after steps[i] of samples rows[i] with these D and ΔW [m, …], each step anchored at its end."""
        interval = self.own.take(steps).together(self.x[0])
        z = update.increment(interval.enter(self.x[self.at(steps, rows)]), interval.dtau, drift, noise)
        return interval.leave(z)

    def scan(self, first: int, last: int, drift: Tensor, starts: Indices) -> None:
        """Points first + 1 … last from D at steps first … last − 1: z_n = z_first + Σ_j (Δτ_j D_j + ΔW_j).

        A sample's sum begins at its own point `starts`; points outside (`starts`, `ends`] stay as they are.
        """
        interval, noise_factor = self._interval(first, last)
        steps = np.arange(first, last)[:, None]
        begins = np.maximum(starts, first)
        z = torch.where(self.mask(steps == begins, self.x), interval.enter(self.x[first:last]), 0.0)
        noise = 0.0 if self.noise is None else self.noise[first:last] * noise_factor
        terms = update.increment(z, interval.dtau, drift, noise)
        terms = torch.where(self.mask(steps >= begins, self.x), terms, 0.0)
        # Summed in float64, as a parallel scan in float32 would lose what is small beside its largest partial sum.
        moved = interval.leave(terms.cumsum(0, dtype=torch.float64).to(terms))
        chosen = self.mask((steps >= begins) & (steps < self.front.ends), self.x)
        self.x[first + 1 : last + 1] = torch.where(chosen, moved, self.x[first + 1 : last + 1])

    def _make_interval(self, first: int, last: int) -> tuple[Interval, Tensor]:
        """Steps first … last − 1 with one anchor, and what takes their noises from their own anchors to it."""
        times = self.run.times
        steps = self.run.process.intervals(
            times[first:last], times[first + 1 : last + 1], np.full(last - first, times[last])
        )
        own = self.own.std[first:last]
        ratio = np.divide(steps.std, own, out=np.zeros_like(own), where=own > 0)
        shape = (-1, *(1,) * (self.x.ndim - ratio.ndim), *ratio.shape[1:])
        return steps.together(self.x), moved(ratio, self.x).view(shape)

    def advance(self, ends: Indices) -> Indices:
        """Open the points up to `ends` and read their noises; returns where each sample's new points begin."""
        starts = self.front.advance(ends)
        self._read_noise(int(self.front.ends.max()))
        return starts

    def _read_noise(self, last: int) -> None:
        """Noises of all steps up to `last`, each read once and in order."""
        if self.noise is None:
            return
        for n in range(self._read, last):
            self.noise[n] = self.run.noise(self.run.intervals[n])
        self._read = max(self._read, last)

    def changes(self, before: Tensor, opened: Mask) -> Floats:
        """[N, count]: how far the point after each open step has moved since `before`, over its scale; else 0."""
        moved = (self.x - before)[1:].detach().double().flatten(2).square().mean(dim=2).sqrt().cpu().numpy()
        return np.where(opened, moved / self.scale[1:, None], 0.0)

    def fill(self, starts: Indices) -> None:
        """First states after each sample's point `starts`: the state there, scaled as the process scales states."""
        for sample, (start, end) in enumerate(zip(starts.tolist(), self.front.ends.tolist(), strict=True)):
            if start < end:
                sizes = marginal_scale(self.run.process, self.run.times[start : end + 1])
                factors = moved(sizes[1:] / sizes[0], self.x)
                state = self.x[start, sample]
                self.x[start + 1 : end + 1, sample] = state * aligned(factors, self.x[start + 1 : end + 1, sample])

    def put(self, states: Tensor, starts: Indices) -> None:
        """Given states [N + 1, count, …] after each sample's point `starts`."""
        opened = self.front.open(starts)
        self.x[1:] = states[1:].where(self.mask(opened, states), self.x[1:])

    def state(self, drift: Tensor, residual: float | None, settled_before: int, last: int | None = None) -> State:
        """The report of a round: the state at point `last` (the end of the earliest open block or window), after D."""
        last, settled = int(self.front.ends.min()) if last is None else last, int(self.front.settled.min())
        process, times = self.run.process, self.run.times
        report = self.run.preview(last - 1, process.position(self.x[last - 1]), drift[last - 1], self.x[last])
        final = [
            (n, float(times[n]), process.position(x).clone(), _copied(process.velocity(x)))
            for n, x in enumerate(self.x[settled_before + 1 : settled + 1], start=settled_before + 1)
        ]
        for n in range(settled_before, settled):
            self.run.guard.watch_state(n, self.x[n + 1])
        return replace(
            report,
            step=settled,
            x=report.x.clone(),
            prediction=report.prediction.clone(),
            velocities=_copied(report.velocities),
            residual=residual,
            converged=not self.front.unconverged,
            settled=final,
        )

    def pieces(self, starts: Indices, stops: Sequence[int] = ()) -> Iterator[tuple[int, int]]:
        """The steps from `starts` on, cut at `stops` and where one anchor does not serve any longer."""
        going = starts < self.front.ends
        if not going.any():
            return
        low, high = int(starts[going].min()), int(self.front.ends[going].max())
        inside = sorted({stop for stop in (*self._cuts, *stops) if low < stop < high})
        yield from pairwise((low, *inside, high))


def _copied(velocities: Tensor | None) -> Tensor | None:
    return None if velocities is None else velocities.clone()


def marginal_scale(process: Process, times: Floats) -> Floats:
    """The size of states at each time, for data of unit variance: √(α² + σ²), 1 for Langevin dynamics."""
    schedule = process.model_schedule
    return np.ones_like(times) if schedule is None else np.hypot(schedule.alpha(times), schedule.sigma(times))


def _cuts(enter_factor: Floats) -> Sequence[int]:
    """The points where another anchor is needed: between two, log(z/x) varies by at most 20, or there is one step."""
    with np.errstate(divide="ignore"):
        change = -np.log(enter_factor)  # of log(z/x), over each step; +∞ where the run starts from pure noise
    heights = np.append(0.0, np.cumsum(np.where(np.isfinite(change), change, 0.0)))
    cuts: list[int] = []
    for n in range(2, len(heights)):
        piece = heights[cuts[-1] if cuts else 0 : n + 1]
        if piece.max() - piece.min() > _LARGEST_SPAN:
            cuts.append(n - 1)
    return cuts
