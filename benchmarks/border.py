"""`python -m benchmarks.border`: what it costs that public calls check their arguments. The bound is 50 µs a call."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import multidrift as md
from benchmarks.record import RESULTS, Record, machine
from benchmarks.tables import machine as measured_on
from benchmarks.tables import results, rows
from multidrift.basics.checks import check_fields, checked

REPEATS = 2000
BOUND = 50e-6  # seconds


def seconds(call: Callable[[], object]) -> float:
    """The median time of a call."""
    call()  # reads the annotations
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def only_checked(function: Callable[..., object]) -> Callable[..., object]:
    """The checks of a function with nothing behind them."""

    @functools.wraps(function)
    def nothing(*args: object, **kwargs: object) -> None:
        del args, kwargs

    return checked(nothing)


def calls() -> dict[str, Callable[[], object]]:
    """What is timed, by name: the checks alone."""
    schedule = md.schedules.ddpm()
    model = md.GaussianMixture([1.0], [[0.0, 0.0]], [np.eye(2)]).denoiser(schedule)
    x, sample = torch.zeros(2, 2), only_checked(md.sample.__wrapped__)
    score = only_checked(md.GaussianMixture.score.__wrapped__)
    method, process = md.Multilevel(50, levels=("a", "b"), calls=(50, 20)), md.Diffusion(schedule)
    every = {
        "process": process, "count": 2, "seed": [1, 2], "first": 3, "start": x, "shape": (2,), "plan_seed": 3,
        "conditioning": {"y": x}, "batch_size": 3, "device": "cpu", "save": 3,
        "dtype": torch.float64,
        "callback": print, "progress": False, "grad": True, "velocities": x, "memory_limit": 1e9,
        "save_transitions": True,
    }  # fmt: skip
    return {
        "a function of one tensor": lambda: score(model, x),
        "md.sample with five arguments": lambda: sample(model, method, process, count=2, seed=3),
        "md.sample with all of its arguments": lambda: sample(model, method, **every),
        "the settings of md.Euler": lambda: check_fields(md.Euler(50)),
        "the settings of md.Multilevel": lambda: check_fields(method),
        "the settings of md.Diffusion": lambda: check_fields(process),
        "1,000 betas of a schedule": lambda: check_fields(schedule),
    }


def table() -> str:
    """Microseconds of each, for the page."""
    if not (RESULTS / "border.json").is_file():
        return "Not measured yet: `python -m benchmarks.border` does it, on idle cores."
    record = results("border")
    lines = [[entry["label"], f"{entry['microseconds']:.1f}"] for entry in record["entries"]]
    return f"{rows(['what is checked', 'µs'], lines)}\n\n{measured_on(record)}."


def main() -> None:
    """Print and record the median seconds of each."""
    torch.set_num_threads(1)
    record = Record("border", {"benchmark": "border", "machine": machine("cpu"), "repeats": REPEATS})
    for name, call in calls().items():
        value = seconds(call)
        print(f"{name:40} {value * 1e6:6.1f} µs{'' if value < BOUND else ', above the bound'}")
        record.add({"label": name, "microseconds": round(value * 1e6, 1)})


if __name__ == "__main__":
    main()
