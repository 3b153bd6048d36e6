"""What `generate` and `Sampler` cost under load, and whether they keep every sample.

    python -m benchmarks.scale                          # 15 minutes on two idle cores, ten of them the queue's
    python -m benchmarks.scale --part equal,kills       # no timings: on a busy machine, too
    python -m benchmarks.scale --part overhead,processes,queue

One thread a process throughout. Each part keeps its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import typer

import multidrift as md
from benchmarks.record import Record, machine
from benchmarks.scale import equal, kills, overhead, processes, queue

PARTS: dict[str, Callable[[Record], None]] = {
    "equal": equal.measure,
    "kills": kills.measure,
    "overhead": overhead.measure,
    "processes": processes.measure,
    "queue": queue.measure,
}


def main(
    part: Annotated[str, typer.Option(help=f"which of {', '.join(PARTS)}, between commas")] = ",".join(PARTS),
) -> None:
    """Measure the parts and keep what was found."""
    torch.set_num_threads(1)
    for name in part.split(","):
        if name not in PARTS:
            raise md.MultidriftError(f"part: got {name!r}; it takes {', '.join(PARTS)}")
    for name in part.split(","):
        PARTS[name](Record(f"scale-{name}", {"benchmark": f"scale --part {name}", "machine": machine("cpu")}))
