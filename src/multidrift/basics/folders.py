"""Folders that one process writes at a time, and that change from old to new in one step."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from multidrift.basics.errors import MultidriftError
from multidrift.basics.files import writing

_AT_WORKING_FOLDER = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_LOOKS, _PAUSE = 20, 0.01  # at a lock that is taken, and the seconds between them
_TIME = "%Y-%m-%d %H:%M:%S"
_PATIENCE = 10.0  # seconds that a reader waits for a writer which is between two renames


@contextlib.contextmanager
def locked(folder: Path, argument: str = "folder", timeout: float = 0.0) -> Iterator[None]:
    """Hold `folder`, which need not exist, against every other process that locks it.

    The lock is a file beside the folder that tells who holds it; the system frees it when the holder ends. Raises
    MultidriftError, naming the holder, where it is still taken after `timeout` seconds.
    """
    from filelock import FileLock, Timeout  # a twentieth of a second, and no run needs it

    path = _beside(folder, "lock")
    with writing(folder, argument):
        lock = FileLock(path, timeout=timeout)
        for left in reversed(range(_LOOKS)):
            try:
                lock.acquire()
                break
            except Timeout as error:
                holder = _holder(path)
                if holder or not left:
                    who = holder or "another process"
                    raise MultidriftError(f"{argument}: {str(folder)!r} is being written by {who}") from error
                time.sleep(_PAUSE)  # it has just begun, and not said yet who it is; or it is just ready
    try:
        with writing(folder, argument):
            path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime(_TIME)}\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: whoever waits for it takes the next file of this name
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def put_in_place(fresh: Path, folder: Path) -> None:
    """Move the folder `fresh` to `folder`, in one step where the system can; an old one is then at `fresh`, or gone.

    Call it with `folder` locked.
    """
    recover(folder)
    if not folder.exists():
        os.replace(fresh, folder)
    elif not _exchange(fresh, folder):
        kept = _beside(folder, "replaced")
        os.replace(folder, kept)
        try:
            os.replace(fresh, folder)
        except OSError:
            os.replace(kept, folder)
            raise
        shutil.rmtree(kept, ignore_errors=True)


def recover(folder: Path) -> None:
    """Finish what a killed `put_in_place` left: the old folder comes back, or goes if the new one is there."""
    kept = _beside(folder, "replaced")
    if not kept.exists():
        return
    if folder.exists():
        shutil.rmtree(kept, ignore_errors=True)
    else:
        os.replace(kept, folder)


def recover_to_read(folder: Path) -> None:
    """Before reading: wait for a writer that is between two steps, or finish what a killed one left."""
    if folder.exists() or not _beside(folder, "replaced").exists():
        return
    with locked(folder, timeout=_PATIENCE), writing(folder, "folder"):
        recover(folder)


def _beside(folder: Path, ending: str) -> Path:
    return folder.absolute().with_name(f".{folder.absolute().name}.{ending}")


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; False where the system or the file system cannot."""
    if os.name != "posix":
        return False
    library, names = ctypes.CDLL(None, use_errno=True), (os.fsencode(one), os.fsencode(other))
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return bool(library.renamex_np(*names, _EXCHANGE) == 0)
    if hasattr(library, "renameat2"):
        here = _AT_WORKING_FOLDER
        return bool(library.renameat2(here, names[0], here, names[1], _EXCHANGE) == 0)
    return False
