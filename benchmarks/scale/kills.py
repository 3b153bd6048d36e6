"""`kill -9` of one worker, of the leader and of all, at random moments; then `--resume`, and what was lost."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TypeAlias, cast

import torch
from tests.ranks import free_port, receive, run_ranks, start

import multidrift as md
from benchmarks.record import Record
from multidrift.generation.folder import read_manifest

Contents: TypeAlias = dict[str, tuple[int, int]]

RANKS = 3
COUNT, SIZE = 90, 3  # samples, and samples a shard and a batch
METHOD = md.Euler(4)
_CALL = 0.004  # seconds that a call of the network takes
_SHARD = 0.05  # seconds, about, that a shard takes
_PATIENCE = 120.0
VICTIMS = {"one worker": (1,), "the leader": (0,), "all": tuple(range(RANKS))}


def slow() -> md.Denoiser:
    """A closed form whose calls take their time, so that kills fall within them."""
    target = md.GaussianMixture([0.4, 0.6], [[0.6, 0.0], [-0.5, 0.3]], [[[0.3, 0.1], [0.1, 0.4]]] * 2)
    schedule = md.schedules.ddpm()
    exact = target.denoiser(schedule)

    def net(x: torch.Tensor, t: torch.Tensor) -> object:
        time.sleep(_CALL)
        return exact.net(x, t)

    return md.Denoiser(net, schedule, "sample", name="slow", shape=(2,))


def measure(record: Record, points: int = 20, seed: int = 0) -> None:
    """So many kills, each in a folder of its own, at a random shard of the run and a random moment within it."""
    model, draw = slow(), random.Random(seed)  # noqa: S311 (moments, not secrets)
    whole = md.sample(model, METHOD, count=COUNT, batch_size=SIZE).samples
    record.header |= {"count": COUNT, "shards": COUNT // SIZE, "ranks": RANKS}
    for point in range(points):
        victims = list(VICTIMS)[point % len(VICTIMS)]
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            shard, pause = draw.randrange(COUNT // SIZE), draw.random() * _SHARD
            entry = {"label": f"{point}", "victims": victims, **killed(model, out, VICTIMS[victims], shard, pause)}
            entry |= resumed(model, out, whole)
            entry["left_over"] += [path.name for path in Path(folder).iterdir() if path != out]
        print(entry)
        record.add(entry)


def generate(model: md.Denoiser, out: Path, *, resume: bool = False) -> int:
    """The job of a rank; the number of samples that are there at its end."""
    settings = {"count": COUNT, "batch_size": SIZE, "shard_size": SIZE, "lease_seconds": 5.0, "timeout": 20.0}
    return md.generate(model, METHOD, out, resume=resume, progress=False, **settings).count


def killed(model: md.Denoiser, out: Path, victims: tuple[int, ...], shards: int, pause: float) -> dict[str, object]:
    """Start all ranks, kill some when so many shards are there and a pause is over, and wait for the others."""
    port = free_port()
    ranks = [start(rank, RANKS, port, generate, model, out) for rank in range(RANKS)]
    limit = time.monotonic() + _PATIENCE
    while len(contents(out)) < shards and time.monotonic() < limit:
        time.sleep(0.001)
    time.sleep(pause)
    there = len(contents(out))
    for rank in victims:
        if ranks[rank][0].is_alive():
            os.kill(ranks[rank][0].pid, signal.SIGKILL)
    for rank in victims:
        ranks[rank][0].join()
    survivors = [rank for rank in range(RANKS) if rank not in victims]
    answers = [receive(ranks[rank][1]) if ranks[rank][1].poll(_PATIENCE) else "no answer" for rank in survivors]
    for rank in survivors:
        ranks[rank][0].join(10)
    return {"pause": pause, "there": there, "survivors": answers}


def resumed(model: md.Denoiser, out: Path, whole: torch.Tensor) -> dict[str, object]:
    """Go on with two ranks, and compare with one run: what is lost, doubled, changed or left over."""
    recorded = recorded_shards(out)
    before = {name: stamp for name, stamp in contents(out).items() if name in recorded}
    answers = run_ranks(2, lambda: generate(model, out, resume=True), patience=_PATIENCE)
    assert answers == [COUNT] * 2, answers
    assert md.verify_samples(out) == COUNT
    found, after = md.read_samples(out), contents(out)
    records = cast("dict[str, dict[str, int]]", read_manifest(out)["result"])
    numbers = Counter(
        i for record in records.values() for i in range(record["first"], record["first"] + record["count"])
    )
    changed = (found != whole).any(dim=1).sum() if found.shape == whole.shape else COUNT
    return {
        "lost": COUNT - len(numbers),
        "doubled": sum(times - 1 for times in numbers.values()),
        "changed": int(changed),
        "drawn_again": sum(after[name] != stamp for name, stamp in before.items()),
        "left_over": sorted(path.name for path in out.iterdir() if path.name not in ("manifest.json", "shards")),
    }


def contents(out: Path) -> Contents:
    """Of each shard's file which it is and when it was written."""
    return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("shards/*")}


def recorded_shards(out: Path) -> set[str]:
    """Shards whose record lies in the folder: they are done."""
    if not (out / "manifest.json").is_file():
        return set()
    done = cast("dict[str, object] | None", read_manifest(out)["result"]) or {}
    return {*done, *(path.stem for path in out.glob(".work/records/*.json"))}
