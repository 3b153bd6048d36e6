"""Files appear whole or not at all, and what a killed process left half-written is swept by the next one.

A half-written file or folder lies beside its place under a name of its own, and whoever writes it holds it with an
advisory lock that the system gives back when the process ends, however it ends. What nobody holds is litter.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from multidrift.basics.errors import MultidriftError

try:
    import fcntl
except ImportError:  # no such locks on Windows, where litter then stays
    fcntl = None  # type: ignore[assignment]

_BLOCK = 4096  # bytes: less is free on no disk that is of use
_PARTIAL = ".multidrift-"  # what names of half-written files and folders begin with


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then rename it; on failure what was there before stays.

    The temporary name keeps the suffix, by which picture libraries choose a format. Raises MultidriftError.
    """
    with writing(path):
        sweep(path.parent)
        with scratch_file(path.parent, path.suffix) as partial:
            write(partial)
            os.replace(partial, path)


def write_folder(folder: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Write several files into `folder`: a new one appears with all of them or not at all.

    In a folder that is there they all lie ready before the first takes its place. Raises MultidriftError.
    """
    with writing(folder):
        sweep(folder.parent)
        with scratch_folder(folder.parent) as fresh:
            for name, write in files.items():
                write(fresh / name)
            if not folder.exists():
                os.replace(fresh, folder)
                return
            for name in files:
                os.replace(fresh / name, folder / name)


@contextlib.contextmanager
def writing(path: Path, argument: str = "path") -> Iterator[None]:
    """Whatever goes wrong while `path` is written becomes one MultidriftError that says what could not be."""
    try:
        yield
    except MultidriftError:
        raise
    except Exception as error:  # libraries that write have errors of their own for a full disk
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MultidriftError(f"{argument}: could not write {str(path)!r} ({reason}); nothing was changed") from error


def check_writable(path: Path, argument: str) -> None:
    """Raise unless a file of this name could be written now; nothing is left of the trial."""
    with writing(path, argument):
        sweep(path.parent)
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # a name that is too long fails here
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        with scratch_file(path.parent, path.suffix) as trial:
            trial.write_bytes(bytes(_BLOCK))  # a full disk takes empty files


@contextlib.contextmanager
def scratch_file(folder: Path, suffix: str = "") -> Iterator[Path]:
    """An empty file of a name that nobody else has, held until the end and then gone, unless it was renamed."""
    path, handle = _held(folder, f".partial{suffix}", _new_file)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """The same of an empty folder."""
    path, handle = _held(parent, ".partial", _new_folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what processes that are no more left half-written in `folder`; never raises."""
    with contextlib.suppress(OSError):
        for path in [Path(entry) for entry in os.scandir(folder) if entry.name.startswith(_PARTIAL)]:
            with contextlib.suppress(OSError):
                _sweep_one(path)


def _sweep_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _hold(handle, wait=False):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        os.close(handle)


def _held(folder: Path, ending: str, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A new file or folder and the handle that holds it."""
    while True:
        path = folder / f"{_PARTIAL}{secrets.token_hex(8)}{ending}"
        handle = make(path)
        _hold(handle, wait=True)
        if path.exists():  # nobody swept it before it was held
            return path, handle
        os.close(handle)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY)


def _hold(handle: int, *, wait: bool) -> bool:
    """Whether the file or folder is ours now; where the file system has no locks, nothing ever is."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True
