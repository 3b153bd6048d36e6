"""`generate`: any number of samples, by any number of processes, into a folder."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, cast

import torch
import torch.distributed as dist
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError
from multidrift.basics.foreign import users_code
from multidrift.basics.types import Count, Dimensions, Index, PathLike, Positive, Seed, Takes
from multidrift.distributed.world import World, agree, joined, meeting
from multidrift.drifts.model import AnyModel
from multidrift.generation.folder import Folder
from multidrift.generation.formats import format_named
from multidrift.generation.job import Job, Shard
from multidrift.generation.metrics import Estimate, Metrics, Tally
from multidrift.generation.progress import Progress
from multidrift.generation.rows import Encoder, read_rows
from multidrift.generation.worker import Leases, Worker
from multidrift.methods.method import Method
from multidrift.processes.process import Process
from multidrift.runs.plan import Plan

BATCH_SIZE = 64


@dataclass(frozen=True)
class Generation:
    """What was generated, by all processes together.

    - `folder`: where it lies, for `read_samples`; `count`: samples that are there, of `wanted`
    - `calls`: rows passed to each level, per sample; `seconds`: wall time of this call; `worked`: seconds that all
      processes spent on shards, those of earlier attempts included
    - `metrics`: of all samples that are there, on the first rank, where they were asked for
    - `failures`: shards that could not be drawn, by name, and why; a run with `resume` tries them again
    """

    folder: Path
    count: int
    wanted: int
    calls: Mapping[str, float]
    seconds: float
    worked: float
    failures: Mapping[str, str] = field(default_factory=dict)
    metrics: Estimate | None = None


@checked
def generate(
    model: AnyModel,
    method: Method | Plan,
    out: PathLike,
    process: Process | None = None,
    count: Count | None = None,
    seed: Annotated[Seed, Takes("an integer; seeds of single samples stand in rows=")] = 0,
    first: Index = 0,
    plan_seed: Seed = 0,
    rows: PathLike | Sequence[Mapping[str, object]] | None = None,
    encode: Encoder | None = None,
    conditioning: Mapping[str, object] | None = None,
    shape: Dimensions | None = None,
    batch_size: Count = BATCH_SIZE,
    shard_size: Count | None = None,
    format: str = "safetensors",  # noqa: A002 (the command line's word for it)
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    resume: bool = False,
    lease_seconds: Positive = 30.0,
    timeout: Positive = 300.0,
    metrics: Metrics | None = None,
    report: Callable[[Estimate], None] | None = None,
    progress: bool | None = None,
) -> Generation:
    """Draw `count` samples into the folder `out`, alone or as one of the processes that torchrun started.

    Sample i is that of `md.sample(model, method, …, seed=seed, first=first)`, bit for bit at this batch size, whoever
    draws it: the processes share ranges of samples ("shards") by leases, small files in the folder, and take over the
    ranges of those that died. A shard is written whole or not at all. Processes may also be started one by one, with
    `resume=True`, on one folder that all of them see.

    - `count`: number of samples, by default one for each of `rows`
    - `rows`: a CSV file with a header, JSON lines or a list of mappings, a row a sample. Columns of numbers are passed
      to the network by name; `encode(columns)` makes what is passed out of the columns of some rows, where they are
      texts. A column `seed` has a seed a sample: it is then the one of `md.sample(seed=[…])`
    - `batch_size`: rows of one network call, exactly; `shard_size`: samples of one file, by default as many as make
      about a hundred files, 64 batches at the most
    - `format`: "safetensors", to the bit; "images", a PNG a sample; "webdataset", tars with a PNG or an array a sample
    - `resume`: go on where earlier processes stopped; they must have been asked for the same
    - `lease_seconds`: after so many without a sign of life a worker of another machine is taken for dead (one of this
      machine at once); `timeout`: seconds to wait for the other processes at the start
    - `metrics`: how far samples are from real ones, as they land; `report(estimate)` is called on the first rank each
      time that their number has doubled
    - the other arguments are those of `md.sample`

    Returns once every shard is there or has failed. Raises MultidriftError, before anything is drawn, on arguments that
    no run takes, a folder that holds something else, ranks that were asked for different things or do not meet; later
    where the folder cannot be written.
    """
    started = time.perf_counter()
    table = None if rows is None else read_rows(rows)
    job = Job(
        model=model, method=method, process=process, count=_count(count, None if table is None else len(table)),
        seed=seed, first=first, plan_seed=plan_seed, rows=table, encode=encode, conditioning=conditioning or {},
        shape=None if shape is None else tuple(shape), batch_size=batch_size, shard_size=shard_size,
        format=format_named(format), device=device, dtype=dtype,
    )  # fmt: skip
    settings = job.settings(version("multidrift"))
    folder = Folder(Path(out), job.format.ending)
    with joined(timeout) as world:
        agree(settings)
        _begin(folder, settings, world, resume=resume or _restarted())
    bar = Progress(folder, job, wanted=world.rank == 0 and (sys.stderr.isatty() if progress is None else progress))
    tally = None if metrics is None else Tally(metrics, folder, job.format)

    def landed(shard: Shard, samples: Tensor) -> None:
        if tally is not None:
            tally.landed(shard, samples)

    def put() -> None:
        news = tally.news() if tally is not None and report is not None and world.rank == 0 else None
        if news is not None and report is not None:
            with users_code("report"):
                report(news)

    worker = Worker(job, folder, Leases(folder.leases, lease_seconds), world.rank / world.size, landed, put, bar.watch)
    try:
        with bar:
            worker.work()
    except RuntimeError as error:  # torch's own
        raise MultidriftError(f"model: {error}") from error
    failures = folder.failures()
    estimate = tally.estimate() if tally is not None and world.rank == 0 else None
    folder.finish(settings, len(job.shards))
    return replace(_summary(folder, job, failures, time.perf_counter() - started), metrics=estimate)


def _count(count: int | None, rows: int | None) -> int:
    number = rows if count is None else count
    if number is None:
        raise MultidriftError("count: got None; it takes a number of samples, or rows= with one each")
    return number


def _begin(folder: Folder, settings: Mapping[str, object], world: World, *, resume: bool) -> None:
    """The first rank makes the folder; all hear whether it could."""
    error: list[object] = [None]
    if world.rank == 0:
        try:
            folder.begin(settings, resume=resume)
        except MultidriftError as raised:
            error = [str(raised)]
    if world.size > 1:
        with meeting():
            dist.broadcast_object_list(error)
    if error[0] is not None:
        raise MultidriftError(str(error[0]))


def _restarted() -> bool:
    """Whether torchrun has started these workers again after one of them failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _summary(folder: Folder, job: Job, failures: Mapping[str, str], seconds: float) -> Generation:
    records = folder.records().values()
    rows: Counter[str] = Counter()
    for record in records:
        rows.update(cast("dict[str, float]", record["calls"]))
    count = sum(cast("int", record["count"]) for record in records)
    return Generation(
        folder=folder.path,
        count=count,
        wanted=job.count,
        calls={name: number / max(count, 1) for name, number in rows.items()},
        seconds=seconds,
        worked=sum(cast("float", record["seconds"]) for record in records),
        failures=failures,
    )
