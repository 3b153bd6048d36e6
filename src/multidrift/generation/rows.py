"""Labels and prompts from a file: one row a sample."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import torch

from multidrift.basics.checks import check_value
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.foreign import users_code
from multidrift.basics.json_files import parse_json
from multidrift.basics.reading import read_bytes
from multidrift.basics.types import PathLike, Seed

Encoder: TypeAlias = Callable[[Mapping[str, Sequence[object]]], Mapping[str, object]]

SEED = "seed"
PROMPT = "prompt"  # text even where it reads as a number
_LARGEST = 4_000_000_000  # bytes of a file of rows
_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Rows:
    """What each sample is conditioned on: `columns` by name, one value a sample; `seeds`: one a sample, or None."""

    columns: Mapping[str, Sequence[object]]
    seeds: tuple[int, ...] | None
    count: int

    def __len__(self) -> int:
        return self.count

    def part(self, first: int, count: int) -> Rows:
        """The rows of some samples."""
        cut = slice(first, first + count)
        columns = {name: values[cut] for name, values in self.columns.items()}
        return Rows(columns, None if self.seeds is None else self.seeds[cut], count)

    @property
    def fingerprint(self) -> str:
        """A hash of all rows."""
        text = json.dumps([dict(self.columns), self.seeds], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def conditioning(self, encode: Encoder | None) -> dict[str, object]:
        """What the network is given: what `encode` makes of the columns, else columns of numbers as tensors by name."""
        if not self.columns:
            return {}
        if encode is not None:
            with users_code("encode"):
                found: object = encode({name: list(values) for name, values in self.columns.items()})
            check_value(found, Mapping[str, object], "what encode returned")
            return dict(cast("Mapping[str, object]", found))
        return {name: _tensor(name, values) for name, values in self.columns.items()}


def _tensor(name: str, values: Sequence[object]) -> torch.Tensor:
    try:
        tensor = torch.tensor(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        takes = "a function from columns to what the network takes"
        raise MultidriftError(f"encode: got None, and column {name!r} holds no numbers; it takes {takes}") from error
    return tensor.float() if tensor.is_floating_point() else tensor


def read_rows(source: PathLike | Sequence[Mapping[str, object]]) -> Rows:
    """Rows of a CSV file with a header, a file of JSON lines, or a list of mappings.

    All rows have the same columns; `seed`, where there is one, is an integer a row. In CSV a column is of numbers where
    its first value is one, but for `prompt`. Raises MultidriftError that names the first bad row; rows count from 1,
    a header is none.
    """
    if not isinstance(source, str | os.PathLike):
        return _rows(list(enumerate(source, start=1)), "rows")
    path = Path(source)
    require(path.suffix.lower() in _SUFFIXES, "rows", str(path), f"a file that ends in {', '.join(_SUFFIXES)}")
    try:
        text = read_bytes(path, "rows", _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MultidriftError(f"rows: could not read {str(path)!r} ({error})") from error
    return _rows(_csv_rows(text, path) if path.suffix.lower() == ".csv" else _json_rows(text, path), str(path))


def _json_rows(text: str, path: Path) -> list[tuple[int, object]]:
    found: list[tuple[int, object]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        number = len(found) + 1
        found.append((number, parse_json(line.encode(), f"{path}: row {number}")))
    return found


def _csv_rows(text: str, path: Path) -> list[tuple[int, object]]:
    reader = csv.reader(text.splitlines(), strict=True)
    found: list[tuple[int, object]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for cells in filter(None, reader):
            number = len(found) + 1
            if len(cells) != len(header):
                raise MultidriftError(f"{path}: row {number} has {len(cells)} values; it takes {', '.join(header)}")
            found.append((number, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise MultidriftError(f"{path}: row {len(found) + 1} is no CSV ({error})") from error
    for name in header:
        _read_numbers(name, cast("list[tuple[int, dict[str, object]]]", found), path)
    return found


def _read_numbers(name: str, rows: Sequence[tuple[int, dict[str, object]]], path: Path) -> None:
    """Turn a column's texts into numbers, where its first one is one."""
    if not rows or name == PROMPT or (name != SEED and _number(rows[0][1][name]) is None):
        return
    for number, row in rows:
        value = _number(row[name])
        if value is None:
            raise MultidriftError(f"{path}: row {number}: {name} is {row[name]!r}; it takes a number")
        row[name] = value


def _number(text: object) -> int | float | None:
    for kind in (int, float):
        try:
            value = kind(cast("str", text))
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None


def _rows(numbered: Sequence[tuple[int, object]], name: str) -> Rows:
    require(len(numbered) > 0, name, "no rows", "one row a sample")
    first = numbered[0][1]
    for number, row in numbered:
        if not isinstance(row, Mapping):
            raise MultidriftError(f"{name}: row {number} is {row!r}; it takes names with values")
        if not isinstance(first, Mapping) or set(row) != set(first):
            wanted = ", ".join(map(str, first)) if isinstance(first, Mapping) else ""
            raise MultidriftError(f"{name}: row {number} has {', '.join(map(str, row))}; row 1 has {wanted}")
        if SEED in row:
            check_value(row[SEED], Seed, f"{name}: row {number}: seed")
        empty = [key for key, value in row.items() if value is None or value == ""]
        if empty:
            raise MultidriftError(f"{name}: row {number}: {empty[0]} is empty")
    rows = [cast("Mapping[str, object]", row) for _, row in numbered]
    columns = {str(key): [row[key] for row in rows] for key in rows[0] if key != SEED}
    seeds = tuple(cast("int", row[SEED]) for row in rows) if SEED in rows[0] else None
    return Rows(columns, seeds, len(rows))
