"""The processes that torchrun started: which one this is, and whether all were asked for the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch.distributed as dist

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError
from multidrift.basics.types import Positive


@dataclass(frozen=True)
class World:
    """Which process of `size` this one is: its `rank`, and `local_rank` on its own machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @staticmethod
    def here() -> World:
        """As the running group says, else the environment that torchrun sets; alone without either."""
        rank, size = _from_environment("RANK", 0), _from_environment("WORLD_SIZE", 1)
        if dist.is_available() and dist.is_initialized():
            rank, size = dist.get_rank(), dist.get_world_size()
        return World(rank, size, _from_environment("LOCAL_RANK", rank))


def _from_environment(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise MultidriftError(f"{name}: got {value!r} in the environment; it takes a number, as torchrun sets it")
    return int(value)


@checked
@contextlib.contextmanager
def joined(timeout: Positive = 300.0) -> Iterator[World]:
    """The group of all processes, on gloo, for as long as this lasts; the one that runs already, where there is one.

    - `timeout`: seconds to wait for the others. Raises MultidriftError where they cannot be reached
    """
    world = World.here()
    if world.size == 1 or dist.is_initialized():
        yield world
        return
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:  # torch's errors of the network are RuntimeErrors
        raise MultidriftError(
            f"rendezvous: rank {world.rank} of {world.size} did not meet the others at {place} in {timeout:g} s "
            f"({str(error).splitlines()[0]})"
        ) from error
    try:
        yield world
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def meeting() -> Iterator[None]:
    """Around what all ranks do at once: where one of them has died, the others raise MultidriftError."""
    try:
        yield
    except RuntimeError as error:  # torch's errors of the network
        raise MultidriftError(f"ranks: another one is gone ({str(error).splitlines()[0]})") from error


@checked
def agree(what: Mapping[str, object], group: dist.ProcessGroup | None = None) -> None:
    """Raise, on every rank alike, where a rank was asked for something else; the error names what and which rank."""
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return
    everyone: list[object] = [None] * dist.get_world_size(group)
    with meeting():
        dist.all_gather_object(everyone, dict(what), group)
    first, *others = [cast("dict[str, object]", one) for one in everyone]
    for rank, other in enumerate(others, start=1):
        differing = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        if differing:
            name = differing[0]
            raise MultidriftError(
                f"{name}: rank {rank} has {other.get(name)!r}, rank 0 has {first.get(name)!r}; all ranks take the same"
            )
