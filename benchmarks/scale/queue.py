"""`Sampler` under load: fifty clients at a time, mixed methods and sizes, some that go away and some that fail."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import psutil
import torch
from torch import Tensor

import multidrift as md
from benchmarks.record import Record

Answer: TypeAlias = tuple[str, float, Tensor | None]  # what became of a request, after how long, and its samples

METHODS = (md.Euler(10), md.Multistep(8), md.PoissonMidpoint(5, substeps=4), md.Picard(8), md.Multistep(5))
_LARGEST = 8  # samples of one request
_BATCH = 8  # rows of a call of the network: at an equal number answers are those of own runs to the bit
_GONE, _FAILING = 20, 33  # every so-manieth request is taken back, or has a network that fails


@dataclass(frozen=True)
class Asked:
    """One request."""

    number: int
    method: md.Method
    seed: int
    first: int
    count: int

    @property
    def gone(self) -> bool:
        """Whether its client goes away."""
        return self.number % _GONE == _GONE - 1

    @property
    def failing(self) -> bool:
        """Whether its samples cannot be drawn."""
        return self.number % _FAILING == _FAILING - 1


def requests(number: int, seed: int = 0) -> list[Asked]:
    """So many, of all methods and sizes."""
    draw = random.Random(seed)  # noqa: S311 (load, not secrets)
    return [
        Asked(i, draw.choice(METHODS), draw.randrange(1000), draw.randrange(100), draw.randint(1, _LARGEST))
        for i in range(number)
    ]


def breakable(level: str) -> md.Denoiser:
    """A level of the digits whose samples are not finite where `broken` says so: it shares its runs with good ones."""
    digits = md.Ladder.bundled("digits")[level]

    def net(x: Tensor, t: Tensor, broken: Tensor) -> Tensor:
        found: Tensor = digits.net(x, t).sample
        return torch.where(broken.view(-1, 1, 1, 1), torch.nan, found)

    return md.Denoiser(net, digits.schedule, digits.predicts, clip=digits.clip, name=level, shape=digits.shape)


class Clients:
    """Threads that ask, wait, and note how long it took."""

    def __init__(self, sampler: md.Sampler, parallel: int) -> None:
        self.sampler, self.parallel = sampler, parallel

    def ask(self, asked: Asked) -> Answer:
        """What became of a request (drawn, cancelled or failed), after how many seconds, and its samples."""
        began = time.perf_counter()
        broken = torch.full((asked.count,), asked.failing)
        answer = self.sampler.submit(
            asked.seed, asked.count, asked.first, conditioning={"broken": broken}, method=asked.method
        )
        if asked.gone:
            answer.cancel()
        try:
            samples = answer.result(600)
        except CancelledError:
            return "cancelled", time.perf_counter() - began, None
        except md.MultidriftError as error:
            return f"failed{'' if 'not finite' in str(error) else f': {error}'}", time.perf_counter() - began, None
        return "drawn", time.perf_counter() - began, samples

    def all(self, wanted: list[Asked]) -> list[Answer]:
        """The answers to all, so many asked at a time."""
        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(self.ask, wanted))


def measure(record: Record, level: str = "f1", number: int = 500, parallel: int = 50, minutes: float = 10.0) -> None:
    """The load once; then again and again, and the memory; then every answer of the first is compared with its own run.

    That is at the sampler's batch size, and once more without one, where rounding differs.
    """
    model, wanted = breakable(level), requests(number)
    with md.Sampler(model, METHODS[0], max_rows=64, batch_size=_BATCH) as sampler:
        clients = Clients(sampler, parallel)
        began = time.perf_counter()
        answers = clients.all(wanted)
        seconds = time.perf_counter() - began
        memory = list(_memory(clients, number, minutes))
    times = sorted(taken for what, taken, _ in answers if what == "drawn")
    entry = {
        "level": level,
        "label": "load",
        "requests": number,
        "parallel": parallel,
        "answers": Counter(what for what, _, _ in answers),
        "wanted": Counter(_wanted(asked) for asked in wanted),
        "samples": sum(len(samples) for _, _, samples in answers if samples is not None),
        "seconds": seconds,
        "median": times[len(times) // 2],
        "p99": times[min(int(0.99 * len(times)), len(times) - 1)],
        **_differences(model, wanted, answers),
        "memory": memory,
    }
    print(entry)
    record.add(entry)


def _wanted(asked: Asked) -> str:
    return "cancelled" if asked.gone else "failed" if asked.failing else "drawn"


def _differences(model: md.Denoiser, wanted: list[Asked], answers: list[Answer]) -> dict[str, float]:
    """The largest difference of all answers at the sampler's batch size; without one the largest, and the median."""
    same = [_difference(model, *pair, _BATCH) for pair in zip(wanted, answers, strict=True)]
    other = sorted(
        _difference(model, *pair) for pair in zip(wanted, answers, strict=True) if _wanted(pair[0]) == "drawn"
    )
    return {"largest_difference": max(same), "rounding": other[-1], "median_rounding": other[len(other) // 2]}


def _difference(model: md.Denoiser, asked: Asked, answer: Answer, batch_size: int | None = None) -> float:
    """The largest difference between an answer and a run of its own; ∞ where one was not answered as it should be."""
    what, _, samples = answer
    if what != _wanted(asked):
        return float("inf")
    if samples is None:
        return 0.0
    own = md.sample(
        model, asked.method, seed=asked.seed, first=asked.first, count=asked.count, batch_size=batch_size,
        progress=False,
        conditioning={"broken": torch.zeros(asked.count, dtype=torch.bool)},
    )  # fmt: skip
    return float((samples - own.samples).abs().max())


def _memory(clients: Clients, number: int, minutes: float) -> Iterator[dict[str, float]]:
    """The process's resident MB at the start and after every minute of load, and the requests answered by then."""
    process, began, answered, looks = psutil.Process(), time.perf_counter(), 0, 0
    while True:
        passed = (time.perf_counter() - began) / 60
        if passed >= min(looks, minutes):
            look = {"minutes": passed, "megabytes": process.memory_info().rss / 1e6, "answered": answered}
            print(look, flush=True)
            yield look
            looks += 1
            if passed >= minutes:
                return
        answered += len(clients.all(requests(clients.parallel, seed=1 + answered % number)))
