"""How far a parallel run has come: which time points are final, which are iterated on, and where blocks end.

One sample's row of time points, N = 9, in its second block or window (`#` final, `o` open, `.` not opened yet):

    point      0   1   2   3   4   5   6   7   8   9
               #   #   #   #   o   o   o   .   .   .
                           |           |
                       settled = 3   ends = 6

D is needed at points 3, 4 and 5: the step after an open or the last final point makes the next one. Each sample has a
row of its own; a round moves `settled` to the right by one point at least.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.processes.process import Process
from multidrift.schedules.grids import Grid, forward_time

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


class Front:
    """Where each sample's row of time points 0 … N stands.

    - `settled` [count]: points up to this one are final and are not touched again
    - `ends` [count]: points up to this one are being iterated on
    - `unconverged`: the largest change of points that were given up on
    """

    def __init__(self, increments: int, count: int) -> None:
        self.increments, self.count = increments, count
        self.settled = np.zeros(count, dtype=np.intp)
        self.ends = np.zeros(count, dtype=np.intp)
        self.unconverged = 0.0
        self._rounds = np.zeros((increments, count), dtype=np.intp)  # that the point after each step was open

    @property
    def done(self) -> bool:
        """Whether every point of every sample is settled."""
        return bool(np.all(self.settled == self.increments))

    def open(self, first: Indices | None = None) -> Mask:
        """[N, count]: at which steps of which sample D is needed: from `first` (by default the settled point) on."""
        first = self.settled if first is None else first
        steps = np.arange(self.increments)[:, None]
        return (steps >= first) & (steps < self.ends)

    def advance(self, ends: Indices) -> Indices:
        """Open the points up to `ends`; returns where each sample's new points begin."""
        before = np.maximum(self.ends, self.settled)
        self.ends = np.where(self.settled < self.increments, ends, self.increments)
        return before

    def settle(self, changes: Floats, tolerance: float, most_rounds: int, *, by_rounds: bool = False) -> float:
        """Move every sample's settled point on after a round of these `changes` [N, count], 0 where nothing is open.

        The first point that moved by more than the tolerance is settled as well: it was computed from points that
        did not, the first of all from points that were final. So is one after `most_rounds` rounds; `unconverged`
        keeps the largest change of such points. Where `by_rounds` a point that stands still is not settled for that:
        every round then settles one point and those that have had all their rounds. Returns the largest change.
        """
        opened = self.open()  # entry n is of the step to point n + 1
        self._rounds += opened
        moved = changes > tolerance
        going = opened if by_rounds else moved
        first_moved = np.where(going.any(axis=0), going.argmax(axis=0) + 1, self.ends)
        worn = np.where(opened & (self._rounds >= most_rounds), np.arange(1, self.increments + 1)[:, None], 0).max(
            axis=0
        )
        given_up = moved & (np.arange(1, self.increments + 1)[:, None] > first_moved) & (self._rounds >= most_rounds)
        self.unconverged = max(self.unconverged, float(np.where(given_up, changes, 0.0).max()))
        self.settled = np.where(self.settled < self.increments, np.maximum(first_moved, worn), self.increments)
        return float(changes.max())


def check_blocks(blocks: object) -> int | tuple[float, ...]:
    """A number of blocks, or the times at which they end as plain floats."""
    takes = "a number of blocks of at least 1, or the times at which blocks end"
    if type(blocks) is int:
        require(blocks >= 1, "blocks", blocks, takes)
        return blocks
    listed = isinstance(blocks, Sequence | np.ndarray) and not isinstance(blocks, str)
    require(listed and len(blocks) > 0, "blocks", blocks, takes)  # type: ignore[arg-type]  # a sequence by now
    return tuple(float(time) for time in blocks)  # type: ignore[attr-defined]  # likewise


def block_boundaries(process: Process, times: Floats, blocks: int | Sequence[float], grid: Grid | None) -> Indices:
    """The number of the last point of each block, increasing, the run's end the last of all.

    A number of blocks makes them of equal length: in the process's own place, λ or time, and of a diffusion on grid
    "piadm" in the forward time s = log(1 + e^(−2λ)), PIADM, section 3. Both kinds of boundaries are moved to the
    nearest times of the grid. Raises where there are more blocks than steps.
    """
    steps = len(times) - 1
    places = _places(process, times, grid)
    if isinstance(blocks, int):
        require(blocks <= steps, "blocks", blocks, f"at most one a step, {steps}")
        wanted = np.linspace(places[0], places[-1], blocks + 1)[1:-1]
    else:
        ends = np.asarray(blocks, dtype=np.float64)
        inside = (ends - times[0]) * (ends - times[-1]) < 0
        require(bool(inside.all()), "blocks", tuple(blocks), f"times between {times[0]:g} and {times[-1]:g}")
        wanted = _places(process, ends, grid)
        require(bool(np.all(np.diff(wanted) > 0)), "blocks", tuple(blocks), "times in the order of the run")
    count = len(wanted) + 1
    if count > steps:
        raise MultidriftError(f"blocks: got {count} blocks; it takes at most one a step, {steps}")
    nearest = np.abs(places[:, None] - wanted).argmin(axis=0) if count > 1 else np.zeros(0, dtype=np.intp)
    # Where several fall on one point they are spread to its neighbours, so that every block has a step.
    number = np.arange(1, count)
    forward = np.maximum.accumulate(np.maximum(nearest, number) - number) + number
    return np.append(np.minimum(forward, steps - count + number), steps).astype(np.intp)


def _places(process: Process, times: Floats, grid: Grid | None) -> Floats:
    """Where times lie on the line that blocks are of equal length on, increasing and finite."""
    places = process.place(times)
    if len(places) > 1 and np.isneginf(places[0]):  # a start from pure noise lies at λ = −∞
        places[0] = places[1]
    return -forward_time(places) if grid == "piadm" and process.model_schedule is not None else places
