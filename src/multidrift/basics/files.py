"""Files appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from multidrift.basics.errors import MultidriftError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then rename it; on failure what was there before stays.

    The temporary name keeps the suffix, by which picture libraries choose a format. Raises MultidriftError.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        write(partial)
        os.replace(partial, path)
    except (OSError, ValueError) as error:
        raise MultidriftError(f"path: could not write {str(path)!r} ({error})") from error
    finally:
        partial.unlink(missing_ok=True)
