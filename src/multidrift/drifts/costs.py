"""The one timer: what a call of each level costs on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from multidrift.basics.checks import Settings, check_fields
from multidrift.basics.devices import named_device
from multidrift.basics.errors import require
from multidrift.basics.types import Count, NotNegative
from multidrift.drifts.drift import Drift
from multidrift.drifts.evaluation_mode import evaluation_mode

_FEWEST, _HALVINGS = 8, 3  # smaller parts of a batch are not tried
_TRIES, _SAVING = 2, 0.9


@dataclass(frozen=True)
class Costs(Settings):
    """Seconds per call of each level, measured at one batch size on one machine."""

    seconds: Mapping[str, NotNegative]
    batch: Count
    machine: str

    def __post_init__(self) -> None:
        check_fields(self)


def machine_name(device: torch.device) -> str:
    """What the figures were measured on: the device and, for a processor, its model and number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def processor_name() -> str:
    """The processor's model where the system tells it, else its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def measure_costs(
    levels: Mapping[str, Drift],
    shape: tuple[int, ...],
    batch: int,
    repeats: int,
    device: torch.device | str | None,
) -> Costs:
    """The median time of a call of each level on `batch` samples, the levels taking turns `repeats` times.

    Units: seconds. Raises on batch < 1 and repeats < 1.
    """
    times, where = time_calls(levels, shape, batch, repeats, device)
    return Costs({name: statistics.median(s) for name, s in times.items()}, batch, machine_name(where))


def time_calls(
    levels: Mapping[str, Drift],
    shape: tuple[int, ...],
    batch: int,
    repeats: int,
    device: torch.device | str | None,
) -> tuple[dict[str, list[float]], torch.device]:
    """Seconds of each of `repeats` calls of each level on `batch` samples, the levels taking turns; and where."""
    require(batch >= 1, "batch", batch, "a count of at least 1")
    require(repeats >= 1, "repeats", repeats, "a count of at least 1")
    own = next((level.device for level in levels.values() if level.device is not None), torch.device("cpu"))
    where = own if device is None else named_device(device)
    times: dict[str, list[float]] = {name: [] for name in levels}
    with evaluation_mode(levels.values()):
        for turn in range(repeats + 1):  # the first turn warms up
            for name, level in levels.items():
                seconds = _one_call(level, shape, batch, where)
                if turn:
                    times[name].append(seconds)
    return times, where


def fastest_rows(
    levels: Mapping[str, Drift], shape: tuple[int, ...], batch: int, device: torch.device | str | None
) -> dict[str, int | None]:
    """The parts that each level takes a batch in fastest, by halves and halves again; None where that is the whole.

    Of parts only those count that save a tenth, more than what timings differ by.
    """
    found: dict[str, int | None] = {}
    for name, level in levels.items():
        sizes = [batch >> halvings for halvings in range(_HALVINGS + 1) if batch >> halvings >= _FEWEST]
        tried = {f"{size}": level.optimized(rows=size) for size in sizes}
        times = time_calls(tried, shape, batch, _TRIES, device)[0] if len(tried) > 1 else {}
        best = min(times, key=lambda size: min(times[size]), default="")
        saves = bool(best) and min(times[best]) < _SAVING * min(times[f"{batch}"])
        found[name] = int(best) if saves else None
    return found


def part_of(level: Drift, left: int) -> int:
    """The rows of the next call where so many are left: all, or an even part within the level's `rows`."""
    return left if level.rows is None else -(-left // -(-left // level.rows))


def _one_call(level: Drift, shape: tuple[int, ...], batch: int, where: torch.device) -> float:
    x = torch.zeros((batch, *shape), device=where)
    middle = 0.0 if level.schedule is None else 0.5 * (level.schedule.t_max + level.schedule.t_min)
    _wait(where)
    start = time.perf_counter()
    with torch.no_grad():
        rows = part_of(level, batch)
        for first in range(0, batch, rows):
            level.predict(x[first : first + rows], middle, "sample", {})
    _wait(where)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
