"""The rows of a round on several ranks: each evaluates its share, all get all predictions."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
import torch.distributed as dist
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Count, Index
from multidrift.distributed.latency import Link, outlook
from multidrift.distributed.world import agree, meeting
from multidrift.drifts.drift import Drift
from multidrift.runs.evaluator import Here


@dataclass(frozen=True)
class Spread:
    """An evaluator for `md.sample(…, evaluate=…)`: the rows of every call are shared by the ranks of a group.

    Rank r evaluates the r-th part of the rows, an all-gather gives every rank all predictions, and each makes the scan
    and its decisions itself: no state is sent, and the random numbers of all are the same by their keys. Predictions
    are the same bits on every rank; ranks on devices of one kind then stay together. See `spread` for the settings.
    """

    group: dist.ProcessGroup | None = None
    least: int = 2
    holders: Mapping[str, Sequence[int]] = field(default_factory=dict)
    link: Link | None = None
    announce: bool | None = None

    def begin(self, levels: Mapping[str, Drift], what: Mapping[str, object], start: Tensor) -> None:
        """Compare what the ranks were asked for; tell on the first what spreading is expected to cost and to gain."""
        require(dist.is_initialized(), "evaluate", "spread()", "a process group, which torch.distributed starts")
        size = dist.get_world_size(self.group)
        for level, ranks in self.holders.items():
            good = level in levels and len(ranks) > 0 and all(0 <= rank < size for rank in ranks)
            takes = f"ranks 0 to {size - 1} for levels out of {', '.join(levels)}"
            require(good, "holders", {level: tuple(ranks)}, takes)
        # Ranks that do not hold a level may have anything in its place.
        held = {name: level.fingerprint for name, level in levels.items() if name not in self.holders}
        given = hashlib.sha256(start.detach().cpu().numpy().tobytes()).hexdigest()[:16]
        agree({"version": version("multidrift"), "ladder": held, **what, "start": given}, self.group)
        wanted = sys.stderr.isatty() if self.announce is None else self.announce
        if wanted and dist.get_rank(self.group) == 0:
            sys.stderr.write(f"{outlook(what, start, size, self.link)}\n")

    def __call__(self, here: Here, level: str, x: Tensor, t: float | Floats, rows: Tensor) -> Tensor:
        """The predictions for all rows; this rank evaluates its part of them."""
        size = dist.get_world_size(self.group)
        working = tuple(self.holders.get(level, range(size)))
        if size == 1 or (len(x) < self.least and len(working) == size):
            return here(x, t, rows)
        share = -(-len(x) // len(working))
        rank = dist.get_rank(self.group)
        first = working.index(rank) * share if rank in working else len(x)
        cut = slice(first, first + share)
        payload = x.new_zeros(share * x[0].numel() + 1)
        failure: Exception | None = None
        if first < len(x):
            try:
                own = here(x[cut], t if isinstance(t, float) else t[cut], rows[cut])
                payload[1 : 1 + own.numel()] = own.detach().reshape(-1)
            except Exception as error:  # noqa: BLE001 (whatever it is, the others must not wait for it)
                failure = error
                payload[0] = 1.0
        gathered = [torch.empty_like(payload) for _ in range(size)]
        with meeting():
            dist.all_gather(gathered, payload, self.group)
        if failure is not None:
            raise failure
        failed = [number for number in working if bool(gathered[number][0] != 0)]
        if failed:
            raise MultidriftError(f"evaluate: rank {failed[0]} failed in a call of {level}; its own error says why")
        parts = torch.cat([gathered[number][1:].view(share, *x.shape[1:]) for number in working])
        return parts[: len(x)]


@checked
def spread(
    group: dist.ProcessGroup | None = None,
    *,
    least: Count = 2,
    holders: Mapping[str, Sequence[Index]] | None = None,
    link: Link | None = None,
    announce: bool | None = None,
) -> Spread:
    """Spread the rows of every network call over ranks: `md.sample(…, evaluate=md.distributed.spread())`.

    Every rank makes the same call of `md.sample` and gets the same samples. What a rank computes beside the network is
    that of the whole run. A `callback` that stops a run must do so on every rank alike.

    - `group`: whose ranks share the rows, by default all. Where a network is itself spread over ranks (context
      parallel, FSDP), it is the group of those that hold the same part of it, such as `mesh["rows"].get_group()`
    - `least`: calls on fewer rows than this are made on every rank, which sends nothing
    - `holders`: of levels that only some ranks of the group hold, which; elsewhere anything may stand in their place
    - `link`: what the group takes to send, from `measured_link`, for the outlook
    - `announce`: print the outlook on rank 0's stderr before a run; by default where it is a terminal

    The run raises MultidriftError on every rank where they were asked for different things, or one of them failed.
    """
    return Spread(group, least, dict(holders or {}), link, announce)
