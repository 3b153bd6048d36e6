"""Two processes with a thread each against one, and against two that share nothing: the machine's own limit."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.ranks import run_ranks

import multidrift as md
from benchmarks.record import Record

_PATIENCE = 900.0


def measure(
    record: Record, level: str = "f5", count: int = 256, steps: int = 5, batch_size: int = 32, repeats: int = 2
) -> None:
    """Seconds from the start of the processes, forked with torch loaded, to the end of the last one, in turns."""
    model, method = md.Ladder.bundled("digits")[level], md.Euler(steps)

    def generate(out: Path) -> int:
        return md.generate(
            model, method, out, count=count, batch_size=batch_size, shard_size=batch_size, progress=False
        ).count

    def half(out: Path) -> int:
        del out
        return len(md.sample(model, method, count=count // 2, batch_size=batch_size, progress=False).samples)

    loops = {
        "md.generate, one process": (1, generate, count),
        "md.generate, two processes": (2, generate, count),
        "md.sample of one half each, two processes": (2, half, count // 2),
    }
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, (size, job, wanted) in loops.items():
            taken[name].append(_seconds(size, job, wanted))
    record.header |= {"count": count, "batch_size": batch_size}
    for name, seconds in taken.items():
        entry = {
            "level": level, "label": name, "steps": steps, "seconds": statistics.median(seconds), "all": seconds
        }  # fmt: skip
        print(entry)
        record.add(entry)


def _seconds(size: int, job: Callable[[Path], int], wanted: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        answers = run_ranks(size, job, Path(folder) / "out", patience=_PATIENCE)
        assert answers == [wanted] * size, answers
        return time.perf_counter() - began
