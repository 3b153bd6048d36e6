"""What the noise costs: one thousand steps with a free drift, and the Brownian path alone.

python -m benchmarks.noise
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console

import multidrift as md
from benchmarks.record import Record, machine
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath

REPEATS = 7
STEPS = 1000


def path_alone(count: int, shape: tuple[int, ...]) -> int:
    """Read the path over a 1000-step grid; returns how many batches of normals were drawn."""
    process = md.Diffusion(md.schedules.ddpm())
    keys = Keys.of((0,) * count, range(count), Stream.NOISE, torch.device("cpu"))
    path = BrownianPath(process, keys, shape, torch.float32)
    lam = process.schedule.log_snr(md.grid_times(process.schedule, STEPS)).tolist()
    for low, high in itertools.pairwise(lam):
        path.increment(low, high)
    return path.draws


def free_run(eta: float) -> None:
    """A whole run whose drift costs nothing."""
    schedule = md.schedules.ddpm()
    free = md.Denoiser(lambda x, t: x, schedule, "sample", shape=(1, 28, 28))  # noqa: ARG005 (a network's signature)
    md.sample(free, md.Euler(STEPS, "blend"), md.Diffusion(schedule, eta), count=16, progress=False)


def main() -> None:
    """Time all jobs in turns and print milliseconds a step."""
    jobs: dict[str, Callable[[], object]] = {
        "whole run, free drift, DDPM, [16, 1, 28, 28]": lambda: free_run(1.0),
        "whole run, free drift, DDIM, [16, 1, 28, 28]": lambda: free_run(0.0),
        "noise alone, [16, 1, 28, 28]": lambda: path_alone(16, (1, 28, 28)),
        "torch.randn, [16, 1, 28, 28]": lambda: [torch.randn(16, 1, 28, 28) for _ in range(STEPS)],
        "noise alone, [200000, 2]": lambda: path_alone(200_000, (2,)),
    }
    times: dict[str, list[float]] = {label: [] for label in jobs}
    for repeat in range(REPEATS + 1):
        for label, job in jobs.items():
            if "200000" in label and repeat > 2:
                continue
            began = time.perf_counter()
            job()
            if repeat:
                times[label].append(1000 * (time.perf_counter() - began) / STEPS)
    record = Record("noise", {"benchmark": "noise", "machine": machine("cpu"), "steps": STEPS})
    for label, values in times.items():
        record.add({"label": label, "milliseconds_a_step": statistics.median(values), "runs": len(values)})
        Console(stderr=True).print(f"{label:46s} {statistics.median(values):7.3f} ms a step, {len(values)} runs")


if __name__ == "__main__":
    main()
