"""`generate` beside `md.sample` on the same samples: what shards, leases, hashes and files add."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import multidrift as md
from benchmarks.record import Record


def measure(
    record: Record, level: str = "f5", count: int = 128, steps: int = 5, batch_size: int = 64, repeats: int = 3
) -> None:
    """Seconds of both in turns, on the wall and of the processor; the first turn, on one batch, warms up."""
    model, method = md.Ladder.bundled("digits")[level], md.Euler(steps)

    def sampled(number: int) -> None:
        md.sample(model, method, count=number, batch_size=batch_size, progress=False)

    def generated(number: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            md.generate(model, method, out, count=number, batch_size=batch_size, shard_size=batch_size, progress=False)

    loops = {"md.sample": sampled, "md.generate": generated}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for loop in loops.values():
        loop(batch_size)
    for turn in range(repeats):
        for name in sorted(loops, reverse=turn % 2 == 0):
            taken[name].append(_seconds(lambda loop=loops[name]: loop(count)))
    record.header |= {"count": count, "batch_size": batch_size}
    for name, seconds in taken.items():
        wall, own = (statistics.median(values) for values in zip(*seconds, strict=True))
        entry = {"level": level, "label": name, "steps": steps, "seconds": wall, "processor": own, "runs": repeats}
        print(entry)
        record.add(entry)


def _seconds(job: Callable[[], None]) -> tuple[float, float]:
    """What a job takes on the wall, and of this process's own."""
    wall, own = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - own
