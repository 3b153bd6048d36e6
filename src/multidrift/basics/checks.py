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
from abc import ABCMeta
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from typing import (
    Annotated,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.hints import CONTAINERS, Adapter, Hint, adapter_of
from multidrift.basics.types import MOST_STEPS, Takes

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_LARGEST_WHOLE = (1 << 63) - 1
_NAMES: dict[Hint, str] = {
    int: "an integer",
    float: "a finite number",
    str: "a string",
    bool: "True or False",
    Tensor: "a tensor",
    type(None): "None",
    None: "None",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose arguments are checked against their annotations before it is called.

    Raises MultidriftError, naming the argument, what it got and what it takes.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    plain = all(parameter.kind in _BY_NAME for parameter in parameters.values())
    placed = [
        name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    needed = {name for name, default in defaults.items() if default is inspect.Parameter.empty}

    def named(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Mapping[str, object]:
        """The arguments by name; the usual call without `bind`, which takes as long as all else."""
        given = dict(zip(placed, args, strict=False))
        count = len(given) + len(kwargs)
        given.update(kwargs)
        if plain and len(args) <= len(placed) and len(given) == count and needed <= given.keys() <= parameters.keys():
            return given
        try:
            return signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise MultidriftError(f"{function.__qualname__}: {error}; it takes {_listed(signature)}") from None

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        validators = _validators(function)
        for name, value in named(args, kwargs).items():
            if name in function.__annotations__ and value is not defaults[name]:
                _check(value, name, *validators[name])
        return function(*args, **kwargs)

    return guarded


class _Named(ABCMeta):
    """Says in a MultidriftError which arguments a class takes, where it is given others."""

    def __call__(cls: type[T], *args: object, **kwargs: object) -> T:
        try:
            return cast("T", type.__call__(cls, *args, **kwargs))
        except TypeError as error:
            signature = inspect.signature(cls.__init__)
            try:
                signature.bind(None, *args, **kwargs)
            except TypeError as unfit:
                raise MultidriftError(f"{cls.__name__}: {unfit}; it takes {_listed(signature)}") from None
            raise error from error.__cause__


class Settings(metaclass=_Named):
    """Base of frozen dataclasses that users make: wrong names of settings are a MultidriftError."""


def check_fields(settings: object) -> None:
    """Check every field of a dataclass against its annotation."""
    validators = _validators(cast("Hashable", type(settings)))
    for field in fields(settings):  # type: ignore[arg-type]  # any dataclass
        value = getattr(settings, field.name)
        if value is not field.default:
            _check(value, field.name, *validators[field.name])
            if type(value) is int and abs(value) > _LARGEST_WHOLE:  # of a float, as whose numpy would not take it
                object.__setattr__(settings, field.name, float(value))


def check_value(value: object, hint: Hint, name: str) -> None:
    """Raise a MultidriftError unless the value is as a type hint says."""
    _check(value, name, hint, adapter_of(hint))


def _check(value: object, name: str, hint: Hint, adapter: Adapter) -> None:
    if not _passes(value, adapter):
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
    return _passes(value, adapter_of(hint))


def _passes(value: object, adapter: Adapter) -> bool:
    try:
        adapter.validate_python(value)
    except (ValueError, OverflowError):  # the former pydantic's ValidationError
        plain = _plain(value)
        return plain is not value and _passes(plain, adapter)
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
        notes: tuple[object, ...] = hint.__metadata__  # type: ignore[attr-defined]  # of Annotated
        return next((note.text for note in reversed(notes) if isinstance(note, Takes)), None) or describe(args[0])
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
    if origin in CONTAINERS:
        return f"a sequence of {_plural(args[0])}"
    name = getattr(origin or hint, "__name__", str(hint))
    return _NAMES.get(hint, f"a {name}" if name[:1] not in "AEIOU" else f"an {name}")


def _plural(hint: Hint) -> str:
    names: dict[Hint, str] = {int: "integers", float: "finite numbers", str: "strings", object: "anything"}
    return names.get(hint, f"values each {describe(hint)}")


def _listed(signature: inspect.Signature) -> str:
    return ", ".join(name for name in signature.parameters if name != "self") or "no arguments"


class _Validators(dict[str, tuple[Hint, Adapter]]):
    """The hint of each argument or field, and what checks it: made when it is first asked for."""

    def __init__(self, annotated: object) -> None:
        super().__init__()
        self._hints: dict[str, Hint] = _hints(annotated)

    def __missing__(self, name: str) -> tuple[Hint, Adapter]:
        hint = self._hints[name]
        self[name] = (hint, adapter_of(hint))
        return self[name]


_validators = functools.cache(_Validators)


def _hints(annotated: object) -> dict[str, Hint]:
    """The annotations of fields or arguments; what a function returns may be known to type checkers alone."""
    if isinstance(annotated, type):
        return typing.get_type_hints(annotated, include_extras=True)
    function = cast("types.FunctionType", inspect.unwrap(cast("types.FunctionType", annotated)))
    named = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    arguments = types.SimpleNamespace(__annotations__=named)
    return typing.get_type_hints(arguments, function.__globals__, include_extras=True)
