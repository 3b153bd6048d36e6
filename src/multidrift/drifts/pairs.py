"""Two conditionings as one of twice the rows, for one call of a network on both."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from multidrift.drifts.conditioning import Shared
from multidrift.drifts.drift import Conditioning


class Unlike(Exception):  # noqa: N818  # it is caught where it matters and means no error
    """Two conditionings that no one call takes."""


def paired(first: Conditioning, second: Conditioning, count: int) -> Conditioning | None:
    """The conditioning of 2·count samples, `first`'s before `second`'s; None where they do not fit into one call.

    They do where they have the same names and the values of each differ in nothing but their rows.
    """
    try:
        found = _pair(dict(first), dict(second), count)
    except Unlike:
        return None
    assert isinstance(found, dict)
    return found


def expanded(value: object, count: int) -> object:
    """The same with a row for each of `count` samples where tensors, also within, have one row for all."""
    if isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1:
        return value.expand(count, *value.shape[1:])
    if isinstance(value, Mapping):
        return {key: expanded(inner, count) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return _like(value, [expanded(inner, count) for inner in value])
    return value


def _pair(a: object, b: object, count: int) -> object:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _rows(a, b, count)
    if isinstance(a, Shared) and isinstance(b, Shared) and a.value is b.value:
        return a
    if isinstance(a, dict) and isinstance(b, dict) and set(a) == set(b):
        return {key: _pair(inner, b[key], count) for key, inner in a.items()}
    if isinstance(a, list | tuple) and type(a) is type(b) and isinstance(b, list | tuple) and len(a) == len(b):
        return _like(a, [_pair(x, y, count) for x, y in zip(a, b, strict=True)])
    plain = (str, int, float, bool, type(None))
    if isinstance(a, plain) and isinstance(b, plain) and a == b:
        return a
    raise Unlike


def _rows(a: Tensor, b: Tensor, count: int) -> Tensor:
    """The rows of both, of `a` first; one tensor for all samples stays as it is."""
    for_all = a.ndim == 0 or len(a) != count
    if a is b and for_all:
        return a
    if a.ndim == 0 or b.ndim == 0 or a.shape[1:] != b.shape[1:] or (a.dtype, a.device) != (b.dtype, b.device):
        raise Unlike
    return torch.cat([value.expand(count, *value.shape[1:]) for value in (a, b)])


def _like(sequence: list[object] | tuple[object, ...], parts: list[object]) -> object:
    """The parts as the kind of sequence they came from."""
    if isinstance(sequence, list):
        return parts
    return sequence._make(parts) if hasattr(sequence, "_make") else tuple(parts)
