"""The torch modules behind a callable: what has to be in eval mode, and whose dtype and device it computes in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType

import torch


def modules_behind(call: object) -> tuple[torch.nn.Module, ...]:
    """The modules a callable uses, each once, in the order in which they are found.

    A module is itself. Of a function they are looked for in the variables that its code names (those of its closure,
    globals, defaults), in lists and mappings there, and in the attributes that its code reads (`pipe.unet`); of another
    callable, in all its attributes. What is reached in other ways has to be named with `modules=`.
    """
    found = dict.fromkeys(_Search().within(call, set()))
    return tuple(one for one in found if isinstance(one, torch.nn.Module))


def tensors_behind(call: object) -> tuple[torch.Tensor, ...]:
    """The tensors among the variables and attributes that a callable uses, those in its modules aside.

    Not those in lists and mappings, which functions fill as they are called.
    """
    found = dict.fromkeys(_Search().within(call, set()))
    return tuple(one for one in found if isinstance(one, torch.Tensor))


class _Search:
    """One walk along variables; what was seen is not entered again."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def within(
        self, value: object, names: set[str], *, listed: bool = False
    ) -> Iterator[torch.nn.Module | torch.Tensor]:
        """The modules, and tensors unless they are `listed`, in a value which code that reads these names uses."""
        if id(value) in self.seen or isinstance(value, type) or inspect.ismodule(value):
            return
        self.seen.add(id(value))
        if isinstance(value, torch.nn.Module) or (isinstance(value, torch.Tensor) and not listed):
            yield value
        if isinstance(value, torch.nn.Module | torch.Tensor):
            return
        inside = listed or isinstance(value, Mapping | list | tuple)
        for inner in _parts(value, names):
            yield from self.within(inner, names | _names(value), listed=inside)


def _parts(value: object, names: set[str]) -> list[object]:
    """What a value consists of, as far as a network may stand in it."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, FunctionType):
        return _variables(value)
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    inside = getattr(value, "__dict__", {})
    read = [inner for name, inner in inside.items() if name in names]
    return list(inside.values()) if callable(value) and not read else read


def _variables(function: FunctionType) -> list[object]:
    """What the variables hold that a function does not make itself; of other functions, those of its own file."""
    own = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    try:
        named = inspect.getclosurevars(function)
    except ValueError:  # a variable of the closure is not set yet
        return own
    listed = [*named.nonlocals.values(), *named.globals.values(), *own]
    return [v for v in listed if not isinstance(v, FunctionType) or v.__module__ == function.__module__]


def _names(function: object) -> set[str]:
    """The names that a function's code reads, in functions within it as well."""
    codes, names = [getattr(function, "__code__", None)], set[str]()
    while codes:
        code = codes.pop()
        if isinstance(code, CodeType):
            names |= set(code.co_names)
            codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names
