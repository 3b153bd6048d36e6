"""What spreading the rows of a round costs and gains: rows a rank, bytes a round, and when it pays."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from multidrift.basics.checks import Settings, check_fields, checked
from multidrift.basics.errors import require
from multidrift.basics.types import Count, Dimensions, NotNegative, Positive
from multidrift.drifts.model import AnyModel, as_model, process_for
from multidrift.methods.method import Method
from multidrift.processes.process import Process

_SMALL, _LARGE = 1, 1 << 20  # values a rank sends to measure a link
_REPEATS = 5


@dataclass(frozen=True)
class Link(Settings):
    """What an all-gather takes: `latency` seconds, and `bandwidth` bytes a second that a rank receives."""

    latency: NotNegative = 1e-4
    bandwidth: Positive = 1e9

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Latency:
    """One round of `rows` rows on `ranks` ranks.

    - `rows_a_rank`: the most that one evaluates; `bytes_a_round`: what each receives from the others
    - `seconds_of_gather`: what that takes on the link
    - `break_even`: seconds a row of the network above which the round is faster than on one rank, ∞ where it never is
    """

    rows: int
    ranks: int
    rows_a_rank: int
    bytes_a_round: int
    seconds_of_gather: float
    break_even: float

    def __str__(self) -> str:
        return (
            f"{self.rows} rows a round on {self.ranks} ranks: {self.rows_a_rank} a rank, "
            f"{self.bytes_a_round / 1e6:.3g} MB a round in about {self.seconds_of_gather * 1e3:.3g} ms; pays where a "
            f"row of the network takes more than {self.break_even * 1e3:.3g} ms"
        )

    @checked
    def gain(self, seconds_a_row: Positive) -> float:
        """How many times faster a round is than on one rank, where a row takes so long and rows take their sum."""
        return self.rows * seconds_a_row / (self.rows_a_rank * seconds_a_row + self.seconds_of_gather)


@checked
def round_latency(rows: Count, values: Count, ranks: Count, itemsize: Count = 4, link: Link | None = None) -> Latency:
    """The model: a rank's rows one after another, then latency + bytes / bandwidth of the all-gather.

    - `values`: of one row's prediction, each of `itemsize` bytes
    """
    link = link or Link()
    share = -(-rows // ranks)
    sent = (ranks - 1) * (share * values + 1) * itemsize
    seconds = link.latency + sent / link.bandwidth if ranks > 1 else 0.0
    saved = rows - share
    return Latency(rows, ranks, share, sent, seconds, seconds / saved if saved else math.inf)


@checked
def latency(
    model: AnyModel,
    method: Method,
    count: Count = 1,
    ranks: Count | None = None,
    process: Process | None = None,
    shape: Dimensions | None = None,
    dtype: torch.dtype = torch.float32,
    link: Link | None = None,
) -> Latency:
    """What a round of a run would take on so many ranks, by default those of the group; see `Latency`.

    - `link`: what the ranks take to send, from `measured_link`; by default 0.1 ms and 1 GB a second
    - the other arguments are those of `md.sample`
    """
    model = as_model(model)
    size = model.shape if shape is None else tuple(shape)
    require(size is not None, "shape", shape, "one sample's shape, as the model does not know it")
    assert size is not None
    process_for(model, process)  # refuses what does not fit
    rows = rows_a_round(method.to_dict(), method.number_of_evaluations, count)
    group = ranks or (dist.get_world_size() if dist.is_initialized() else 1)
    return round_latency(rows, math.prod(size), group, dtype.itemsize, link)


def outlook(what: Mapping[str, object], start: Tensor, ranks: int, link: Link | None) -> Latency:
    """The same of a run that begins: its method's settings are among `what`."""
    settings = cast("Mapping[str, object]", what["method"])
    times = cast("Sequence[float] | None", settings.get("times"))
    evaluations = cast("int", settings.get("steps")) if times is None else len(times)
    rows = rows_a_round(settings, evaluations, len(start))
    return round_latency(rows, start[0].numel(), ranks, start.element_size(), link)


def rows_a_round(settings: Mapping[str, object], evaluations: int, count: int) -> int:
    """The most rows of one call of a method with these settings: its window or block, of every sample."""
    if "window" not in settings:
        return count
    blocks = settings.get("blocks", 1)
    number = blocks if isinstance(blocks, int) else len(cast("Sequence[float]", blocks)) + 1
    steps = -(-(evaluations - 1) // number)
    return count * min(steps, cast("int | None", settings["window"]) or steps)


@checked
def measured_link(group: dist.ProcessGroup | None = None, device: torch.device | str = "cpu") -> Link:
    """The link between the ranks of a group as it is now; all of them call this.

    The latency is that of an all-gather of one value a rank, the bandwidth that of a million.
    """
    require(dist.is_initialized(), "group", group, "a process group, which torch.distributed starts")
    size = dist.get_world_size(group)
    small, large = (_seconds_of_gather(values, size, group, device) for values in (_SMALL, _LARGE))
    received = (size - 1) * (_LARGE - _SMALL) * 4
    return Link(small, received / max(large - small, 1e-9))


def _seconds_of_gather(values: int, size: int, group: dist.ProcessGroup | None, device: torch.device | str) -> float:
    """The median time of an all-gather of so many values a rank."""
    payload = torch.zeros(values, device=device)
    gathered = [torch.empty_like(payload) for _ in range(size)]
    taken = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        dist.all_gather(gathered, payload, group)
        gathered[0][0].item()  # waits for the device
        taken.append(time.perf_counter() - started)
    return sorted(taken[1:])[_REPEATS // 2]  # the first one opens the connections
