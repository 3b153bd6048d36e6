"""What stands in a network's weights, read again only where something was written to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from multidrift.basics.numbers import bit_sum, bits_of

_LOOKED_AT = 16  # values of each tensor, in even distances
_Seen: TypeAlias = tuple[list[tuple[object, ...]], bytes]


class Weights:
    """Sums over all bits of some tensors, one of each, kept from one question to the next.

    A network of billions of weights takes seconds to read, and a run asks more than once. They are read again where a
    tensor was replaced, has another version (torch counts what is written in place) or differs in one of 16 values
    that are looked at, which a change past torch's counter (`weight.data += …`) seldom leaves alone.
    """

    def __init__(self) -> None:
        self._known: tuple[_Seen | None, bytes] = (None, b"")

    def sums(self, tensors: Sequence[Tensor]) -> bytes:
        """`bit_sum` of each tensor, as bytes of int64."""
        seen = None if any(value.is_inference() for value in tensors) else _seen(tensors)  # those have no versions
        before, sums = self._known
        if seen is None or seen != before:
            sums = torch.stack([bit_sum(value).cpu() for value in tensors]).numpy().tobytes()
            self._known = seen, sums
        return sums


def _seen(tensors: Sequence[Tensor]) -> _Seen:
    """Where tensors lie, how often they were written to, and a few of their values."""
    places: list[tuple[object, ...]] = [
        (value.data_ptr(), value._version, value.dtype, value.shape, value.stride())  # noqa: SLF001
        for value in tensors
    ]
    steps = {device: torch.arange(_LOOKED_AT, device=device) for device in {value.device for value in tensors}}
    few: dict[torch.device, list[Tensor]] = {device: [] for device in steps}
    for value in tensors:
        if value.numel() > 0:
            bits = bits_of(value)
            few[value.device].append(bits.take(steps[value.device] * (bits.numel() - 1) // (_LOOKED_AT - 1)).long())
    return places, b"".join(torch.cat(looked).cpu().numpy().tobytes() for looked in few.values() if looked)
