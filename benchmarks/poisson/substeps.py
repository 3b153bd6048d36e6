"""What the number of substeps costs: Poisson midpoint steps with K = 10, 100 and 1000 at equal network calls.

    python -m benchmarks.poisson.substeps            # about a minute on two cores

Only substeps that fire are visited, so K should not matter. Milliseconds a network call, medians of runs that take
turns: with a network (f3 of the bundled ladder, 16 images) and with a drift that costs nothing, where all is ours.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from rich.console import Console

import multidrift as md
from benchmarks.record import Record, machine

SUBSTEPS = (10, 100, 1000)
REPEATS = 3
STEPS = 20


def digits(model: md.Denoiser, substeps: int, draws: str) -> md.Result:
    """Sixteen images of 28×28 pixels."""
    return md.sample(
        model, md.PoissonMidpoint(STEPS, "blend", substeps=substeps, draws=draws), count=16, progress=False
    )


def chains(substeps: int, process: md.Overdamped | md.Underdamped) -> md.Result:
    """Twenty thousand chains on a Gaussian, whose gradient costs nothing."""
    method = md.PoissonMidpoint(STEPS, substeps=substeps)
    return md.sample(lambda x: -x, method, process, count=20_000, shape=(2,), progress=False)


def main() -> None:
    """Time all jobs in turns and print milliseconds a call."""
    ladder = md.Ladder.bundled("digits")
    free = md.Denoiser(lambda x, t: x, ladder.schedule, "sample", shape=(1, 28, 28))  # noqa: ARG005 (a network's)
    jobs: dict[str, Callable[[int], md.Result]] = {
        "f3, 16 digits, independent": lambda k: digits(ladder["f3"], k, "independent"),
        "f3, 16 digits, single": lambda k: digits(ladder["f3"], k, "single"),
        "free drift, 16 digits, independent": lambda k: digits(free, k, "independent"),
        "free drift, 20,000 overdamped chains": lambda k: chains(k, md.Overdamped(4.0)),
        "free drift, 20,000 underdamped chains": lambda k: chains(k, md.Underdamped(4.0, friction=2.0)),
    }
    times: dict[str, dict[int, list[float]]] = {label: {k: [] for k in SUBSTEPS} for label in jobs}
    for repeat in range(REPEATS + 1):
        for label, job in jobs.items():
            for substeps in SUBSTEPS:
                result = job(substeps)
                if repeat:  # the first turn warms up
                    times[label][substeps].append(1000 * result.seconds / next(iter(result.calls.values())))
    record = Record("substeps", {"benchmark": "substeps", "machine": machine("cpu"), "steps": STEPS})
    for label, found in times.items():
        medians = {str(k): statistics.median(values) for k, values in found.items()}
        ratio = medians[str(SUBSTEPS[-1])] / medians[str(SUBSTEPS[0])]
        record.add({"label": label, "milliseconds_a_call": medians, "ratio": ratio, "runs": REPEATS})
        Console(stderr=True).print(f"{label:40s} {medians}  K = 1000 over K = 10: {ratio:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
