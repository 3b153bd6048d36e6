"""Annotations as pydantic checks them: strictly, classes of ours and of torch by isinstance alone.

A bool is no number, a string no sequence of names, nan and infinity are no numbers.
"""

from __future__ import annotations

import collections.abc
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeAlias, TypeVar, Union, cast, get_args, get_origin

from multidrift.basics.types import MayBeInfinite

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

Hint: TypeAlias = object  # what may stand in an annotation
_PLAIN = (int, float, str, bool, bytes, type(None), None)
CONTAINERS = (collections.abc.Sequence, collections.abc.Mapping, list, dict, tuple)


@dataclass(frozen=True)
class _Instance:
    """In an annotation for pydantic: an instance of a class, whose fields are its own business."""

    kind: Hint

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Mapping[str, object]:
        from pydantic_core.core_schema import is_instance_schema

        return is_instance_schema(self.kind)


@dataclass(frozen=True)
class _NoBool:
    """In an annotation for pydantic: True is not the 1 of a Literal."""

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], object]) -> object:
        from pydantic_core.core_schema import no_info_before_validator_function

        return no_info_before_validator_function(_no_bool, cast("CoreSchema", handler(source)))


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a bool")  # noqa: TRY004 (pydantic's way to say no)
    return value


class Adapter(Protocol):
    """What checks a value: raises ValueError on a wrong one."""

    def validate_python(self, value: object, /) -> object: ...


@functools.cache
def adapter_of(hint: Hint) -> Adapter:
    """What checks values against a hint, made once."""
    from pydantic import ConfigDict, TypeAdapter

    settings = ConfigDict(strict=True, allow_inf_nan=False)
    return TypeAdapter(_rewritten(hint), config=settings)  # type: ignore[arg-type]  # a hint


def _rewritten(hint: Hint) -> Hint:  # noqa: PLR0911 (one line a kind of hint)
    """The hint as pydantic is to see it: every class of ours or of torch by isinstance alone."""
    from pydantic import AllowInfNan

    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal and not any(isinstance(choice, bool) for choice in args):
        return Annotated[hint, _NoBool()]
    if hint in _PLAIN or origin is Literal:
        return hint
    if hint is object or isinstance(hint, TypeVar) or getattr(hint, "_is_protocol", False):
        return typing.Any
    if origin is Annotated:
        notes: tuple[object, ...] = hint.__metadata__  # type: ignore[attr-defined]  # of Annotated
        limits = [AllowInfNan() if isinstance(note, MayBeInfinite) else note for note in notes]
        return Annotated[(_rewritten(args[0]), *limits)]
    if origin in (Union, types.UnionType):
        return Union[tuple(_rewritten(choice) for choice in args)]  # noqa: UP007  # made at run time
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return Callable
    if origin in CONTAINERS:
        return origin[tuple(part if part is ... else _rewritten(part) for part in args)]
    return Annotated[typing.Any, _Instance(origin or hint)]
