"""The one reader of JSON: of a bounded size and depth, of finite numbers, or an error that names the file.

What is written here and read back has a digest of its own content, so that a changed number is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar, cast

from multidrift.basics.checks import check_value
from multidrift.basics.errors import MultidriftError, keeping
from multidrift.basics.files import write_whole
from multidrift.basics.hints import Hint
from multidrift.basics.reading import read_bytes

_LARGEST = 256_000_000  # bytes: a plan of a thousand samples with draws of their own has a tenth of that
_DEEPEST = 32
_DIGEST = "digest"
_Built = TypeVar("_Built")


def read_json(path: Path, argument: str = "path") -> object:
    """What the JSON file holds; MultidriftError, with its name, on anything that is not plain, finite JSON."""
    return parse_json(read_bytes(path, argument, _LARGEST), str(path))


def read_object(path: Path, argument: str = "path") -> dict[str, object]:
    """The same of a file that holds one object."""
    return parse_object(read_bytes(path, argument, _LARGEST), str(path))


def parse_json(text: bytes, name: str) -> object:
    """The same of text; `name`: what to call it in an error."""
    from pydantic_core import from_json  # stops at 200 levels of brackets, where Python's own reader overflows

    try:
        content: object = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise MultidriftError(f"{name}: is damaged, no valid JSON ({error})") from error
    _check(content, name)
    return content


def parse_object(text: bytes, name: str) -> dict[str, object]:
    """The same of text that holds one object."""
    content = parse_json(text, name)
    if not isinstance(content, dict):
        raise MultidriftError(f"{name}: is damaged, no JSON object")
    return content


def _check(content: object, name: str) -> None:
    """Refuse what is nested deeper than anything that we write, and numbers such as 1e999."""
    level: list[object] = [content]
    for _ in range(_DEEPEST):
        infinite = next((value for value in level if isinstance(value, float) and abs(value) == float("inf")), None)
        if infinite is not None:
            raise MultidriftError(f"{name}: is damaged, it has a number too large to hold")
        level = [inner for value in level if isinstance(value, list | dict) for inner in _values(value)]
        if not level:
            return
    raise MultidriftError(f"{name}: is damaged, its brackets are nested more than {_DEEPEST} deep")


def _values(container: list[object] | dict[str, object]) -> list[object]:
    return list(container.values()) if isinstance(container, dict) else container


def entry(content: Mapping[str, object], key: str, hint: Hint, name: str) -> object:
    """One entry of an object, which must be there and be as the type hint says; `name`: what to call the object."""
    if key not in content:
        raise MultidriftError(f"{name}: {key!r} is missing")
    check_value(content[key], hint, f"{name}: {key!r}")
    return content[key]


def mapping(content: Mapping[str, object], key: str, name: str) -> dict[str, object]:
    """An entry that is an object itself."""
    return cast("dict[str, object]", entry(content, key, dict[str, object], name))


def signed(content: Mapping[str, object]) -> dict[str, object]:
    """The content with a digest of it, to be written as JSON."""
    return {**content, _DIGEST: _digest(content)}


def unsigned(content: Mapping[str, object], name: str) -> dict[str, object]:
    """What `signed` was given; raises where it was changed since. `name`: what to call it."""
    plain = {key: value for key, value in content.items() if key != _DIGEST}
    if content.get(_DIGEST) != _digest(plain):
        raise MultidriftError(f"{name}: is damaged or was changed (its hash differs)")
    return plain


class Described(Protocol):
    """What can be written as one JSON object."""

    def to_dict(self) -> dict[str, object]:
        """All of it as plain values."""
        ...


def write_signed(thing: Described, path: Path) -> None:
    """Write it as JSON with a digest, whole or not at all; the error of a disk that takes nothing keeps the thing."""
    text = json.dumps(signed(thing.to_dict())) + "\n"
    with keeping(thing):
        write_whole(path, lambda partial: partial.write_text(text))


def read_signed(path: Path, name: str, build: Callable[[Mapping[str, object]], _Built]) -> _Built:
    """What `build` makes of such a file, or an error that says what is wrong with the file; `name`: what it is."""
    content = read_object(path)
    try:
        found = build(content)
        unsigned(content, name)  # last, as what is wrong with an entry says more
    except MultidriftError as error:
        raise MultidriftError(f"{path}: {error}") from error
    return found


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
