"""The same digits by one, two and three processes and in batches of three sizes, compared with one run bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from tests.ranks import run_ranks

import multidrift as md
from benchmarks.record import Record

_PATIENCE = 3600.0
BATCH_SIZES = (16, 50, 64)
PROCESSES = (1, 2, 3)


def measure(record: Record, level: str = "f1", count: int = 2000, steps: int = 3) -> None:
    """Of every number of processes and batch size: samples that differ from `md.sample`'s in any bit."""
    model, method = md.Ladder.bundled("digits")[level], md.Euler(steps)
    record.header |= {"count": count, "level": level, "steps": steps}
    first = None
    for batch_size in BATCH_SIZES:
        whole = md.sample(model, method, count=count, batch_size=batch_size, progress=False).samples
        first = whole if first is None else first
        for size in PROCESSES:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out"

                def generate(out: Path = out, batch_size: int = batch_size) -> int:
                    return md.generate(model, method, out, count=count, batch_size=batch_size, progress=False).count

                answers = run_ranks(size, generate, patience=_PATIENCE)
                assert answers == [count] * size, answers
                found = md.read_samples(out)
                shards = len(list((out / "shards").iterdir()))
            different = (found != whole).flatten(1).any(dim=1) if found.shape == whole.shape else torch.ones(count)
            entry = {
                "label": f"{size} processes, batches of {batch_size}",
                "processes": size,
                "batch_size": batch_size,
                "shards": shards,
                "different": int(different.sum()),
                "from_another_batch_size": float((found - first).abs().max()),
            }
            print(entry)
            record.add(entry)
