"""`Sampler`: a model kept ready, and requests from any thread batched into its runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.types import Count, Dimensions, Index, NotNegative, Seed
from multidrift.drifts.conditioning import check_conditioning
from multidrift.drifts.model import AnyModel
from multidrift.methods.method import Method
from multidrift.prepare import Arguments, prepare
from multidrift.processes.process import Process
from multidrift.runs.result import State
from multidrift.sampling import sample
from multidrift.serving.requests import Request, conditioning_of, numbers_of, seeds_of


class QueueFull(MultidriftError):  # noqa: N818 (queue.Full's name for it)
    """A request that was refused, as too many samples wait already."""


class Sampler:
    """Answers requests for samples from any thread; those that come together share a run.

        with md.Sampler(model, md.Euler(50)) as sampler:
            answer = sampler.submit(seed=7, count=4)      # a Future; from asyncio: asyncio.wrap_future(answer)
            samples = answer.result()                     # [4, …], as of md.sample(…, seed=7, count=4)

    A sample does not depend on the requests beside it: it is that of its own run to rounding, with a `batch_size` to
    the bit. One thread draws, so that networks are never called by two at once, and stay as they were compiled: where
    that is for one shape, take a `batch_size`. Requests of another method or another shape of conditioning have runs of
    their own. A request that fails does not take the others of its run with it.

    - `max_rows`: samples of one run, and so the memory it takes; `max_waiting`: samples that may wait
    - `wait`: seconds that a request waits for others to join it
    - the other arguments are those of `md.sample`

    Raises MultidriftError on a model and a method that do not fit.
    """

    @checked
    def __init__(
        self,
        model: AnyModel,
        method: Method,
        process: Process | None = None,
        *,
        shape: Dimensions | None = None,
        plan_seed: Seed = 0,
        batch_size: Count | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        max_rows: Count = 64,
        max_waiting: Count = 1024,
        wait: NotNegative = 0.005,
    ) -> None:
        self.model, self.method, self.process, self.shape = model, method, process, shape
        self.plan_seed, self.batch_size, self.device, self.dtype = plan_seed, batch_size, device, dtype
        self.max_rows, self.max_waiting, self.wait = max_rows, max_waiting, wait
        self._check(method)
        self._queue: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="multidrift sampler", daemon=True)
        self._thread.start()

    @checked
    def submit(
        self,
        seed: Seed,
        count: Count = 1,
        first: Index = 0,
        conditioning: Mapping[str, object] | None = None,
        method: Method | None = None,
    ) -> Future[Tensor]:
        """Ask for samples `first` … `first + count − 1` of a seed; the answer holds them, [count, …], or an error.

        - `conditioning`: as for `md.sample`; tensors and arrays of first dimension `count` have a row a sample
        - `method`: in place of the sampler's own

        `answer.cancel()` takes a request back until it is answered. Raises QueueFull where too many samples wait, and
        MultidriftError on arguments that no run takes.
        """
        require(count <= self.max_rows, "count", count, f"at most max_rows={self.max_rows}")
        given = check_conditioning(conditioning, count)
        if method is not None and method != self.method:
            self._check(method)
        request = Request(method or self.method, seed, first, count, given)
        with self._changed:
            if self._closed:
                raise MultidriftError("sampler: is closed")
            waiting = self._waiting()
            if waiting + count > self.max_waiting:
                raise QueueFull(f"sampler: {waiting} samples wait already; it takes at most {self.max_waiting}")
            self._queue.append(request)
            self._changed.notify()
        return request.answer

    @checked
    def sample(
        self,
        seed: Seed,
        count: Count = 1,
        first: Index = 0,
        conditioning: Mapping[str, object] | None = None,
        method: Method | None = None,
    ) -> Tensor:
        """The same, waiting for the samples."""
        return self.submit(seed, count, first, conditioning, method).result()

    @property
    def waiting(self) -> int:
        """Samples that wait for a run."""
        with self._changed:
            return self._waiting()

    def close(self) -> None:
        """Stop; what still waits is answered with an error, as is what is being drawn."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _waiting(self) -> int:
        """Cancelled requests leave the queue here, so that they take no room."""
        self._queue = deque(request for request in self._queue if not request.answer.cancelled())
        return sum(request.count for request in self._queue)

    def _check(self, method: Method) -> None:
        """Refuse what no run takes, before a request waits for it."""
        prepare(
            Arguments(
                model=self.model, method=method, process=self.process, count=1, seed=0, first=0, start=None,
                velocities=None, shape=self.shape, plan_seed=self.plan_seed, conditioning=None,
                batch_size=self.batch_size, memory_limit=None, device=self.device, dtype=self.dtype, grad=False,
            )
        )  # fmt: skip

    def _serve(self) -> None:
        """The sampler's thread: run after run, until it is closed."""
        while batch := self._next():
            self._answer(batch)
        with self._changed:
            for request in self._queue:
                _fail(request, MultidriftError("sampler: was closed before this was drawn"))
            self._queue.clear()

    def _next(self) -> list[Request]:
        """The requests of the next run: the oldest, and others of its kind as far as they fit; none at the end."""
        with self._changed:
            while True:
                self._waiting()
                if self._closed:
                    return []
                if self._queue:
                    chosen = self._chosen()
                    left = self._queue[0].arrived + self.wait - time.monotonic()
                    if left <= 0 or sum(request.count for request in chosen) >= self.max_rows:
                        self._queue = deque(request for request in self._queue if request not in chosen)
                        return chosen
                self._changed.wait(left if self._queue else None)

    def _chosen(self) -> list[Request]:
        chosen: list[Request] = []
        rows, kind = 0, self._queue[0].kind
        for request in self._queue:
            if request.kind == kind and rows + request.count <= self.max_rows:
                chosen.append(request)
                rows += request.count
        return chosen

    def _answer(self, batch: list[Request]) -> None:
        """Draw a run and give each request its part; where it fails, each alone, to tell whose fault it is."""
        try:
            samples = self._draw(batch)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the request's answer)
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for request in batch:
                self._answer([request])
            return
        if samples is None:
            return
        parts = torch.split(samples, [request.count for request in batch])
        for request, part in zip(batch, parts, strict=True):
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_result(part.clone())  # else an answer would hold its whole run

    def _draw(self, batch: list[Request]) -> Tensor | None:
        """The samples of a run; None where everybody has gone meanwhile."""

        def nobody_waits(state: State) -> bool:
            del state
            return self._closed or all(request.answer.cancelled() for request in batch)

        result = sample(
            self.model, batch[0].method, self.process, seed=seeds_of(batch), first=numbers_of(batch), shape=self.shape,
            plan_seed=self.plan_seed, conditioning=conditioning_of(batch), batch_size=self.batch_size,
            device=self.device, dtype=self.dtype, callback=nobody_waits, progress=False,
        )  # fmt: skip
        if self._closed and not result.finished:
            raise MultidriftError("sampler: was closed while this was drawn")
        return result.samples if result.finished else None


def _fail(request: Request, error: Exception) -> None:
    if request.answer.set_running_or_notify_cancel():
        request.answer.set_exception(error)
