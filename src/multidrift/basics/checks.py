"""The one checker at the public border: types and ranges of arguments and settings, read from their annotations.

`checked` guards a function, `check_fields` a frozen dataclass, `check_value` one value, such as what a file holds.
pydantic does the checking, strictly: a bool is no number, a string no sequence of names, nan and infinity are no
numbers. It is imported, and a function's annotations are read, when the function is first called.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import reprlib
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, Union, cast, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.types import MOST_STEPS, MayBeInfinite, Takes

P = ParamSpec("P")
R = TypeVar("R")
Hint: TypeAlias = object  # what may stand in an annotation

_PLAIN = (int, float, str, bool, bytes, type(None), None)
_CONTAINERS = (collections.abc.Sequence, collections.abc.Mapping, list, dict, tuple)
_NAMES: dict[Hint, str] = {
    int: "an integer",
    float: "a finite number",
    str: "a string",
    bool: "True or False",
    Tensor: "a tensor",
    type(None): "None",
    None: "None",
}


@dataclass(frozen=True)
class _Instance:
    """In an annotation for pydantic: an instance of a class, whose fields are its own business."""

    kind: Hint

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Mapping[str, object]:
        from pydantic_core.core_schema import is_instance_schema

        return is_instance_schema(self.kind)


class _Adapter(Protocol):
    def validate_python(self, value: object, /) -> object: ...


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose arguments are checked against their annotations before it is called.

    Raises MultidriftError, naming the argument, what it got and what it takes.
    """
    signature = inspect.signature(function)
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise MultidriftError(f"{function.__qualname__}: {error}; it takes {_listed(signature)}") from None
        hints = _hints(function)
        for name, value in bound.arguments.items():
            if name in hints and value is not defaults[name]:
                check_value(value, hints[name], name)
        return function(*args, **kwargs)

    return guarded


def check_fields(settings: object) -> None:
    """Check every field of a dataclass against its annotation."""
    hints = _hints(cast("Hashable", type(settings)))
    for field in fields(settings):  # type: ignore[arg-type]  # any dataclass
        value = getattr(settings, field.name)
        if value is not field.default:
            check_value(value, hints[field.name], field.name)


def check_value(value: object, hint: Hint, name: str) -> None:
    """Raise a MultidriftError unless the value is as a type hint says."""
    if not _fits(value, hint):
        where, got, takes = _fault(value, hint, name)
        raise MultidriftError(f"{where}: got {described(got)}; it takes {takes}")


def described(value: object) -> str:
    """A value in an error: its repr, a tensor's or an array's shape, or the beginning of what is long."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim > 0:
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of shape {tuple(value.shape)}"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 160
    short.maxlist = short.maxtuple = short.maxdict = 8
    return short.repr(value)


def _fits(value: object, hint: Hint) -> bool:
    from pydantic import ValidationError  # only where something is checked

    adapter = _adapter(hint)
    try:
        adapter.validate_python(value)
    except (ValidationError, OverflowError):
        plain = _plain(value)
        return plain is not value and _fits(plain, hint)
    return True


def _plain(value: object) -> object:
    """Numbers and arrays of numpy and torch as Python's own, also in a list; anything else as it is."""
    if isinstance(value, np.generic | np.ndarray) and value.size <= MOST_STEPS:
        return cast("object", value.tolist())
    if (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_meta
        and value.numel() <= MOST_STEPS
    ):
        return value.detach().cpu().numpy().tolist()
    if isinstance(value, list | tuple):
        plain = [_plain(item) for item in value]
        return plain if any(a is not b for a, b in zip(plain, value, strict=True)) else value
    return value


def _fault(value: object, hint: Hint, name: str) -> tuple[str, object, str]:
    """The place at fault, what is there, and what it takes: of a mapping or a list the first entry that is wrong."""
    content = _content(value, hint)
    for key, inner, of_inner in content:
        if not _fits(inner, of_inner):
            return _fault(inner, of_inner, f"{name}[{key!r}]")
    return name, value, describe(hint)


def _content(value: object, hint: Hint) -> list[tuple[object, object, Hint]]:
    """The entries of a value with a hint for each, where the hint has one container that the value is."""
    for choice in _choices(hint):
        origin, args = get_origin(choice), get_args(choice)
        if origin in (dict, collections.abc.Mapping) and isinstance(value, Mapping):
            return [(key, value[key], args[1]) for key in value]
        listed = isinstance(value, list | tuple) and origin in (list, collections.abc.Sequence)
        if listed and isinstance(value, list | tuple):
            return [(index, inner, args[0]) for index, inner in enumerate(value)]
    return []


def _choices(hint: Hint) -> tuple[Hint, ...]:
    """The alternatives of a union; a hint alone."""
    if get_origin(hint) is Annotated:
        return _choices(get_args(hint)[0])
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def describe(hint: Hint) -> str:  # noqa: PLR0911 (one line a kind of hint)
    """What a hint takes, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((note.text for note in hint.__metadata__ if isinstance(note, Takes)), None) or describe(args[0])  # type: ignore[attr-defined]  # of Annotated
    if origin in (Union, types.UnionType):
        ordered = sorted(args, key=lambda choice: choice is not type(None))
        return " or ".join(dict.fromkeys(describe(choice) for choice in ordered))
    if origin is Literal:
        *others, last = (str(choice) for choice in args)
        return f"{', '.join(others)} or {last}" if others else last
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return "a function"
    if origin in (dict, collections.abc.Mapping):
        return f"a mapping from {_plural(args[0])} to {_plural(args[1])}"
    if origin in _CONTAINERS:
        return f"a sequence of {_plural(args[0])}"
    name = getattr(origin or hint, "__name__", str(hint))
    return _NAMES.get(hint, f"a {name}" if name[:1] not in "AEIOU" else f"an {name}")


def _plural(hint: Hint) -> str:
    names: dict[Hint, str] = {int: "integers", float: "finite numbers", str: "strings", object: "anything"}
    return names.get(hint, f"values each {describe(hint)}")


def _listed(signature: inspect.Signature) -> str:
    return ", ".join(name for name in signature.parameters if name != "self") or "no arguments"


@functools.cache
def _hints(annotated: Hashable) -> dict[str, Hint]:
    hints = typing.get_type_hints(annotated, include_extras=True)
    return {name: hint for name, hint in hints.items() if name != "return"}


@functools.cache
def _adapter(hint: Hint) -> _Adapter:
    from pydantic import ConfigDict, TypeAdapter

    settings = ConfigDict(strict=True, allow_inf_nan=False)
    return TypeAdapter(_rewritten(hint), config=settings)  # type: ignore[arg-type]  # a hint


def _rewritten(hint: Hint) -> Hint:  # noqa: PLR0911 (one line a kind of hint)
    """The hint as pydantic is to see it: every class of ours or of torch by isinstance alone."""
    from pydantic import AllowInfNan

    origin, args = get_origin(hint), get_args(hint)
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
    if origin in _CONTAINERS:
        return origin[tuple(part if part is ... else _rewritten(part) for part in args)]
    return Annotated[typing.Any, _Instance(origin or hint)]
