"""What a network is given beside x and t: cut with the batch where it is per sample, passed as it is where shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.types import Takes

Values: TypeAlias = Tensor | NDArray[np.generic]  # type: ignore[explicit-any]  # an array of any dtype


@dataclass(frozen=True, eq=False)
class Shared:
    """A tensor or array that serves every sample alike, whatever its first dimension is; see `shared`."""

    value: Values


@checked
def shared(value: Annotated[Values, Takes("a tensor or a numpy array")]) -> Shared:
    """Mark a tensor or numpy array of `conditioning=` as one for all samples: every call gets it as it is.

    Raises MultidriftError on anything else, which is passed as it is without it.
    """
    return Shared(value)


def check_conditioning(
    conditioning: Mapping[str, object] | None, count: int, called: str = "conditioning"
) -> Mapping[str, object]:
    """The conditioning of a run of so many samples, {} for None; raises, naming the place, what cannot be told."""
    given = {} if conditioning is None else conditioning
    named = isinstance(given, Mapping) and all(isinstance(name, str) for name in given)
    require(named, called, type(given).__name__, "None or a mapping from names to values")

    def check(value: Values, path: str) -> None:
        if value.ndim > 0 and len(value) not in (1, count):
            wrap = "md.shared(tensor)" if isinstance(value, Tensor) else "md.shared(array)"
            raise MultidriftError(f"{path}: got first dimension {len(value)}; it takes count={count} rows, or {wrap}")

    for name, value in given.items():
        _each(value, f"{called}[{name!r}]", check)
    return given


def cut_conditioning(conditioning: Mapping[str, object], count: int, rows: Tensor) -> dict[str, object]:
    """The conditioning of these samples of `count`, rows [n]; `md.shared` taken off."""
    on_host: list[NDArray[np.intp]] = []  # filled where a numpy array needs it: it waits for the device

    def cut(value: Values, path: str) -> Values:
        del path
        if value.ndim == 0 or len(value) != count:
            return value
        if isinstance(value, Tensor):
            return value[rows.to(value.device)]
        if not on_host:
            on_host.append(rows.cpu().numpy())
        return cast("Values", value[on_host[0]])

    return {name: _each(value, name, cut) for name, value in conditioning.items()}


def part_of_conditioning(conditioning: Mapping[str, object], count: int, rows: Tensor) -> dict[str, object]:
    """The conditioning of a run of these samples of `count` alone, rows [n]: what all share is marked as shared."""

    def cut(value: Values, path: str) -> Values | Shared:
        del path
        if value.ndim == 0:
            return value
        if len(value) != count:
            return Shared(value)
        return value[rows.to(value.device)] if isinstance(value, Tensor) else cast("Values", value[rows.numpy()])

    return {name: _each(value, name, cut, shared_as=lambda mark: mark) for name, value in conditioning.items()}


def _each(
    value: object,
    path: str,
    act: Callable[[Values, str], Values | Shared | None],
    shared_as: Callable[[Shared], object] = lambda mark: mark.value,
) -> object:
    """`act` on every tensor and array within nested mappings, lists and tuples; the same structure of its results."""
    if isinstance(value, Shared):
        return shared_as(value)
    if isinstance(value, Tensor | np.ndarray):
        return act(value, path)
    if isinstance(value, Mapping):
        return {key: _each(inner, f"{path}[{key!r}]", act, shared_as) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        parts = [_each(inner, f"{path}[{index}]", act, shared_as) for index, inner in enumerate(value)]
        if isinstance(value, list):
            return parts
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value
