"""One process of a job: it takes a free shard, draws it, puts it in its place, and takes the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLease, Timeout
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.generation.folder import Folder
from multidrift.generation.job import Job, Shard
from multidrift.runs.result import Result, State

_TRIES = 3  # shards in a row that fail before a worker gives up: the fault is then not the shard's
_PAUSE = 0.2  # seconds between looks at what the others hold
_PATIENCE = 4.0  # times the longest shard so far, after which an idle worker draws what another one holds


class Leases:
    """Who draws which shard. A lease whose holder is dead, or was not heard of for `seconds`, may be taken.

    A file system's leases are hints: two workers may draw one shard, and then write the same bits.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self._seen: dict[str, SoftFileLease] = {}  # a lease of another machine expires by how long we have watched it
        self._lost = threading.Event()

    def take(self, shard: Shard) -> SoftFileLease | None:
        """The lease of a shard, held; None where another worker has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{shard.name}.lease"
        if shard.name not in self._seen:
            self._seen[shard.name] = SoftFileLease(
                path, lease_duration=self.seconds, on_compromise=lambda _: self._lost.set()
            )
        lease = self._seen[shard.name]
        try:
            lease.acquire(blocking=False)
        except (Timeout, FileNotFoundError):  # the latter where another process has just tidied up
            return None
        self._lost.clear()
        return lease

    @property
    def lost(self) -> bool:
        """Whether the lease that was taken last has meanwhile become another worker's."""
        return self._lost.is_set()


@dataclass(frozen=True)
class Worker:
    """Draws shards of a job into a folder until none is left that nobody else draws.

    - `place`: where in the job it begins to look, in [0, 1); `landed(shard, samples)` is called for each that it has
      drawn, `put()` when that is in its place, `watch()` at every step and while it waits
    """

    job: Job
    folder: Folder
    leases: Leases
    place: float
    landed: Callable[[Shard, Tensor], None]
    put: Callable[[], None]
    watch: Callable[[], None]

    def work(self) -> None:
        """Until every shard is in its place or has failed."""
        failed_in_a_row = 0
        for shard in self._free():
            try:
                result = self.job.run(shard, self._step)
            except (MultidriftError, RuntimeError) as error:  # torch's own are RuntimeErrors
                self.folder.fail(shard, str(error))
                failed_in_a_row += 1
                if failed_in_a_row == _TRIES:
                    raise
            else:
                failed_in_a_row = 0
                if result.finished:
                    self._put(shard, result)

    def _step(self, state: State) -> bool:
        """After a step of a run: whether to stop, as the shard's lease is lost."""
        del state
        self.watch()
        return self.leases.lost

    def _put(self, shard: Shard, result: Result) -> None:
        record: dict[str, object] = {
            "seconds": result.seconds,
            "calls": {name: calls * shard.count for name, calls in result.calls.items()},
        }
        samples = result.samples.detach().cpu()
        self.landed(shard, samples)
        self.folder.put(shard, lambda path: self.job.format.write(path, samples, shard.first), record)
        self.put()

    def _free(self) -> Iterator[Shard]:
        """Shards that this worker is to draw, each under its lease while the caller has it."""
        shards = self.job.shards
        start = int(self.place * len(shards))
        order = [*shards[start:], *shards[:start]]
        waiting_since = time.monotonic()
        while True:
            records = self.folder.records()
            done = records.keys() | self.folder.failures().keys()
            left = [shard for shard in order if shard.name not in done]
            if not left:
                return
            for shard in left:
                lease = self.leases.take(shard)
                if lease is None:
                    continue
                try:
                    if shard.name not in self.folder.records():
                        yield shard
                finally:
                    lease.release()
                waiting_since = time.monotonic()
                break
            else:
                longest = max((float(str(record["seconds"])) for record in records.values()), default=float("inf"))
                if time.monotonic() - waiting_since > max(_PATIENCE * longest, self.leases.seconds):
                    yield left[0]
                    waiting_since = time.monotonic()
                self.watch()
                time.sleep(_PAUSE)
