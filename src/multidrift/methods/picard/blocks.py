"""Where the blocks of a parallel run end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.processes.process import Process
from multidrift.schedules.grids import Grid, forward_time

Indices = NDArray[np.intp]


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
