"""What a server is asked for, and which requests may share a run."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from multidrift.methods.method import Method

Conditioning: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Request:
    """Samples `first` … `first + count − 1` of a seed; `answer` is given once they are drawn.

    The answer stays pending while they are drawn, so that it can be cancelled until the end.
    """

    method: Method
    seed: int
    first: int
    count: int
    conditioning: Conditioning
    answer: Future[Tensor] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> Hashable:
        """Requests of one kind may share a run: the same method, and conditioning of the same names and shapes."""
        return repr(self.method), tuple((name, self._kind_of(value)) for name, value in self.conditioning.items())

    def _kind_of(self, value: object) -> Hashable:
        if self.has_rows(value):
            return tuple(cast("Tensor", value).shape[1:]), str(cast("Tensor", value).dtype)
        plain = isinstance(value, int | float | str | bool | None)
        return (type(value).__name__, value) if plain else id(value)

    def has_rows(self, value: object) -> bool:
        """Whether a value of the conditioning has a row a sample."""
        return isinstance(value, Tensor | np.ndarray) and value.ndim > 0 and len(value) == self.count


def seeds_of(requests: Sequence[Request]) -> list[int]:
    """The seed of every sample of requests that share a run."""
    return [request.seed for request in requests for _ in range(request.count)]


def numbers_of(requests: Sequence[Request]) -> list[int]:
    """The number that every sample has among those of its own seed."""
    return [request.first + i for request in requests for i in range(request.count)]


def conditioning_of(requests: Sequence[Request]) -> dict[str, object]:
    """The conditioning of requests of one kind that share a run: rows one after another, all else as it is."""
    first = requests[0]
    return {
        name: _joined([request.conditioning[name] for request in requests]) if first.has_rows(value) else value
        for name, value in first.conditioning.items()
    }


def _joined(values: Sequence[object]) -> object:
    if isinstance(values[0], Tensor):
        return torch.cat(cast("list[Tensor]", list(values)))
    return np.concatenate(cast("list[np.typing.NDArray[np.float64]]", list(values)))
