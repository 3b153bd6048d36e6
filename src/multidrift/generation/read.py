"""What was generated, back from its folder, and whether it is still what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import torch
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.types import Count, Index, PathLike
from multidrift.generation.folder import Folder, content_hash, read_manifest
from multidrift.generation.formats import format_named, read_shard
from multidrift.generation.job import Shard, shards_of

_Kept: TypeAlias = tuple[Shard, Path, Mapping[str, object] | None]


@checked
def read_samples(folder: PathLike, first: Index | None = None, count: Count | None = None) -> Tensor:
    """The samples that `generate` wrote, [count, …] in order of i; pictures as data in [−1, 1].

    - `first`, `count`: those from number `first` on, so many; by default all. Only their files are read

    Raises MultidriftError on folders that are not complete, ranges beyond them, and files that are missing or damaged.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    shards = _shards(path, manifest)
    _check_complete(path, shards, manifest)
    low, size = cast("int", manifest["first"]), cast("int", manifest["count"])
    start = low if first is None else first
    require(low <= start < low + size, "first", first, f"None, or a number from {low} to {low + size - 1}")
    number = low + size - start if count is None else count
    require(1 <= number <= low + size - start, "count", count, f"None, or from 1 to {low + size - start}")
    parts = []
    for shard, file, record in shards:
        begin, end = max(start, shard.first), min(start + number, shard.first + shard.count)
        if begin < end:
            _check_shard(file, record)
            part = read_shard(format_named(str(manifest["files"])), file)
            parts.append(part[begin - shard.first : end - shard.first])
    return torch.cat(parts)


@checked
def verify_samples(folder: PathLike) -> int:
    """Check every file that `generate` wrote against its hash; returns the number of samples.

    Raises MultidriftError that names each file that is missing, was changed or does not belong there, and says so where
    a run was stopped.
    """
    path = Path(folder)
    faults, known, count = [], set(), 0
    for shard, file, record in _shards(path, read_manifest(path)):
        known.add(file.name)
        count += shard.count
        try:
            _check_shard(file, record)
        except MultidriftError as error:
            faults.append(str(error))
    faults += [
        f"{file} does not belong there" for file in sorted((path / "shards").glob("*")) if file.name not in known
    ]
    if (path / ".work").exists():
        faults.append(f"{path / '.work'} is left of a run that was stopped; --resume goes on with it")
    if faults:
        raise MultidriftError(f"folder: {len(faults)} faults: " + "; ".join(faults))
    return count


def _shards(path: Path, manifest: Mapping[str, object]) -> list[_Kept]:
    """Every shard of a run with its file and its record, None of one that is not in its place."""
    folder = Folder(path, format_named(str(manifest["files"])).ending)
    whole = cast("Mapping[str, Mapping[str, object]] | None", manifest["result"])
    records = folder.records() if whole is None else whole
    first, count, size = (cast("int", manifest[name]) for name in ("first", "count", "shard_size"))
    return [(shard, folder.file(shard), records.get(shard.name)) for shard in shards_of(first, count, size)]


def _check_complete(path: Path, shards: Sequence[_Kept], manifest: Mapping[str, object]) -> None:
    if manifest["result"] is None:
        done = sum(shard.count for shard, _, record in shards if record is not None)
        raise MultidriftError(
            f"folder: {str(path)!r} is not complete, {done} of {manifest['count']} samples are there; resume=True "
            "(--resume) goes on"
        )


def _check_shard(file: Path, record: Mapping[str, object] | None) -> None:
    if record is None or not file.exists():
        raise MultidriftError(f"{file} is missing")
    if content_hash(file) != record["hash"]:
        raise MultidriftError(f"{file} was changed or is cut short")
