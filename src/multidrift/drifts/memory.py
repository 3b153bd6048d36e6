"""What a call of a network takes in memory, by counting the tensors that it makes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class CallMemory:
    """Bytes of a call of one level: `fixed`, and `per_row` for every row."""

    fixed: int
    per_row: int

    def of(self, rows: int) -> int:
        """Bytes of a call on so many rows."""
        return self.fixed + rows * self.per_row

    def rows_within(self, limit: float, most: int) -> int:
        """The rows, at most `most`, of a call that stays within `limit` bytes; 0 where one is too many."""
        if self.of(most) <= limit:
            return most
        return max(int((limit - self.fixed) // self.per_row), 0)


def call_memory(call: Callable[[int], object]) -> CallMemory:
    """What `call(rows)` holds at the most, from calls on one row and on two."""
    one, two = _peak(lambda: call(1)), _peak(lambda: call(2))
    return CallMemory(max(2 * one - two, 0), max(two - one, 0))


def _peak(call: Callable[[], object]) -> int:
    tensors = _Tensors()
    with tensors:
        call()
    return tensors.peak


class _Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Counts the bytes of all tensors that come into being, until they are gone; those that were there are free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(  # type: ignore[explicit-any]  # any operation of torch
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        del types
        given = {storage._cdata for storage in _storages((args, kwargs))}  # noqa: SLF001  # the storage's identity
        found = func(*args, **(kwargs or {}))
        for storage in _storages(found):
            if storage._cdata not in given and storage._cdata not in self._alive:  # noqa: SLF001
                self._count(storage)
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        number, size = storage._cdata, storage.nbytes()  # noqa: SLF001
        self._alive.add(number)
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self._alive.discard(number)
            self.now -= size

        weakref.finalize(storage, gone)


def _storages(values: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
