"""The folder that samples are generated into, and what lies in it until all are there.

manifest.json                 what was asked for; at the end, of each shard its hash, its calls and its seconds
shards/000000000000.…         samples from that number on
.work/                        until the end: leases, records of finished shards, failures, half-written files
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias, cast

from safetensors import SafetensorError

from multidrift.basics.errors import MultidriftError
from multidrift.basics.hints import Hint
from multidrift.basics.json_files import entry, parse_object, read_object, signed, unsigned
from multidrift.basics.types import Count, Index
from multidrift.generation.job import FORMAT, KIND, Shard

Values: TypeAlias = dict[str, object]

_MANIFEST, _SHARDS, _FEATURES, _WORK = "manifest.json", "shards", "features", ".work"
_RESULTS = "result"  # the key of the manifest that is no setting
_ENTRIES: Mapping[str, Hint] = {  # what reading the samples needs of a manifest
    "first": Index,
    "count": Count,
    "files": str,
    _RESULTS: Mapping[str, Mapping[str, object]] | None,
}


class Folder:
    """Where one job's samples go; `ending`: of the name of a shard's file."""

    def __init__(self, path: Path, ending: str) -> None:
        self.path, self.ending = path, ending

    @property
    def leases(self) -> Path:
        return self.path / _WORK / "leases"

    @property
    def features(self) -> Path:
        return self.path / _FEATURES

    def file(self, shard: Shard) -> Path:
        """Where a shard lies once it is whole."""
        return self.path / _SHARDS / (shard.name + self.ending)

    def begin(self, settings: Mapping[str, object], *, resume: bool) -> None:
        """Make the folder of this job, or find it begun; raises where something else lies there.

        Failures of earlier attempts are forgotten.
        """
        with written(self.path):
            if self.path.is_dir() and any(self.path.iterdir()):
                self._check(settings, resume=resume)
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / _MANIFEST).exists():
                with self.scratch() as fresh:
                    _write(fresh, {**settings, _RESULTS: None})
                    with contextlib.suppress(FileExistsError):  # another process of the same job was first
                        os.link(fresh, self.path / _MANIFEST)
            (self.path / _SHARDS).mkdir(exist_ok=True)
            shutil.rmtree(self.path / _WORK / "failures", ignore_errors=True)

    def _check(self, settings: Mapping[str, object], *, resume: bool) -> None:
        foreign = sorted(p.name for p in self.path.iterdir() if p.name not in (_MANIFEST, _SHARDS, _FEATURES, _WORK))
        if foreign or not (self.path / _MANIFEST).is_file():
            if not foreign and [p.name for p in self.path.iterdir()] == [_WORK]:
                return  # stopped before its first file was there
            found = ", ".join(foreign[:3]) or "no manifest.json"
            raise MultidriftError(f"out: got {str(self.path)!r}, in which lies {found}; it takes a new or empty folder")
        there = read_manifest(self.path)
        differing = _difference({**there, _RESULTS: None}, {**settings, _RESULTS: None})
        if differing is not None:
            name, other, value = differing
            raise MultidriftError(
                f"out: {str(self.path)!r} holds another run's samples: {name} is {_short(other)}, not {_short(value)}"
            )
        if not resume:
            takes = "a new or empty folder, or resume=True (--resume), which goes on"
            raise MultidriftError(f"out: got {str(self.path)!r}, which holds this run's samples; it takes {takes}")

    @contextlib.contextmanager
    def scratch(self, ending: str = "") -> Iterator[Path]:
        """A name of this process's own for what is still being written; nothing is left there."""
        room = self.path / _WORK / "half-written"
        room.mkdir(parents=True, exist_ok=True)
        fresh = room / f"{secrets.token_hex(8)}{ending}"
        try:
            yield fresh
        finally:
            _remove(fresh)

    def put(self, shard: Shard, write: Callable[[Path], None], record: Mapping[str, object]) -> None:
        """Have `write` fill the shard's file, put it in its place, then its record with the file's hash."""
        with written(self.file(shard)), self.scratch(self.ending) as fresh:
            write(fresh)
            digest = content_hash(fresh)
            place = self.file(shard)
            if place.is_dir():  # of an attempt that was stopped before its record
                with self.scratch() as old:
                    os.replace(place, old)
            os.replace(fresh, place)
            self._put_json("records", shard, {"first": shard.first, "count": shard.count, **record, "hash": digest})

    def fail(self, shard: Shard, message: str) -> None:
        """Note why a shard could not be drawn."""
        self._put_json("failures", shard, {"error": message})

    def _put_json(self, room: str, shard: Shard, values: Mapping[str, object]) -> None:
        with written(self.path), self.scratch() as fresh:
            (self.path / _WORK / room).mkdir(parents=True, exist_ok=True)
            _write(fresh, values)
            os.replace(fresh, self.path / _WORK / room / f"{shard.name}.json")

    def records(self) -> dict[str, Values]:
        """Of each shard that is in its place, what is known of it, by name."""
        known = cast("dict[str, Values] | None", read_manifest(self.path)[_RESULTS]) or {}
        known = {**known, **self._notes("records")}
        return {name: known[name] for name in sorted(known) if (self.path / _SHARDS / (name + self.ending)).exists()}

    def failures(self) -> dict[str, str]:
        """Why shards could not be drawn in this attempt, by name."""
        return {name: str(note["error"]) for name, note in self._notes("failures").items()}

    def _notes(self, room: str) -> dict[str, Values]:
        found: dict[str, Values] = {}
        for path in (self.path / _WORK / room).glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # another process has just tidied up
                found[path.stem] = unsigned(parse_object(path.read_bytes(), str(path)), str(path))
        return found

    def finish(self, settings: Mapping[str, object], count: int) -> bool:
        """Where all of so many shards are there: their records into the manifest, the work room away. Whether so."""
        records = self.records()
        if len(records) < count:
            return False
        with written(self.path):
            if read_manifest(self.path)[_RESULTS] != records:
                try:
                    with self.scratch() as fresh:
                        _write(fresh, {**settings, _RESULTS: records})
                        os.replace(fresh, self.path / _MANIFEST)
                except FileNotFoundError:  # another process has just done so and tidied up
                    if read_manifest(self.path)[_RESULTS] != records:
                        raise
            shutil.rmtree(self.path / _WORK, ignore_errors=True)
        return True


def read_manifest(path: Path) -> Values:
    """What a folder of samples says of itself; raises MultidriftError where it is none."""
    file = path / _MANIFEST
    if not file.is_file():
        raise MultidriftError(f"folder: got {str(path)!r}, which has no {_MANIFEST}; it takes one of md.generate")
    values = read_object(file, "folder")
    version = values.get("format")
    if values.get("kind") != KIND or type(version) is not int or version != FORMAT:
        raise MultidriftError(f"{file}: is no manifest that this version reads")
    for name, hint in _ENTRIES.items():
        entry(values, name, hint, str(file))
    return unsigned(values, str(file))


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else (path,):
        digest.update(file.name.encode() if path.is_dir() else b"")
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """While `path` is written: what the system or safetensors raises on a full disk becomes one MultidriftError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise MultidriftError(f"out: could not write {str(path)!r} ({error})") from error


def _write(path: Path, values: Mapping[str, object]) -> None:
    with path.open("w") as file:
        file.write(json.dumps(signed(values)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _difference(one: object, other: object, name: str = "") -> tuple[str, object, object] | None:
    """The first place where two plain values differ, and what stands there in each; None where they are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**other, **one}:
            found = _difference(one.get(key), other.get(key), f"{name}.{key}".removeprefix("."))
            if found is not None:
                return found
        return None
    return None if one == other else (name, one, other)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:100] + "…"
