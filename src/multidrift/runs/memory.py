"""What calls of a network take in memory, by counting the tensors that they make."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class CallMemory:
    """What calls of one level held at the most, by their numbers of rows; calls on more rows are found out by doubling.

    Counted are bytes of tensors, run eagerly; scratch space within an operation is not seen.
    """

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # rows: bytes

    @property
    def peak(self) -> int:
        """Bytes of the largest call."""
        return max(self._seen.values(), default=0)

    def measured(self, rows: int, call: Callable[[], Tensor]) -> Tensor:
        """What the call returns; counted where no call on as many rows was."""
        if self._seen and rows <= max(self._seen):
            return call()
        found, self._seen[rows] = _peak(call)
        return found

    def bytes_of(self, rows: int) -> float:
        """Bytes of a call on so many rows, on the line through the two nearest numbers that were seen."""
        known = sorted(self._seen.items())
        if len(known) == 1:
            return known[0][1] * rows / known[0][0]
        place = min(max(bisect_right(known, rows, key=lambda point: point[0]), 1), len(known) - 1)
        (low, at_low), (high, at_high) = known[place - 1], known[place]
        return at_low + (at_high - at_low) * (rows - low) / (high - low)

    def rows_within(self, limit: float, most: int) -> int:
        """The rows, at most `most`, of the next call within `limit` bytes: 1 at first, then at most twice the largest.

        A peak is convex in the rows, so that the line through smaller calls is a lower bound of it: hence by steps.
        """
        if not self._seen:
            return 1
        return bisect_right(range(1, min(most, 2 * max(self._seen)) + 1), limit, key=self.bytes_of)


def _peak(call: Callable[[], Tensor]) -> tuple[Tensor, int]:
    tensors = _Tensors()
    # A network that was compiled would not be compiled any more after a call under a dispatch mode.
    with torch.compiler.set_stance("force_eager"), tensors:
        found = call()
    return found, tensors.peak


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
    """Those of dense tensors; sparse ones have none of their own."""
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
    return [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
