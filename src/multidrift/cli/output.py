"""Where a command writes to, checked before anything is sampled."""

from __future__ import annotations

from pathlib import Path

from multidrift.basics.errors import MultidriftError, require


def check_output(out: Path, takes: str, *, picture: bool = False) -> None:
    """Refuse an `out` that could not be written to; make the folder, unless `out` is a picture within one."""
    folder = out.parent if picture else out
    try:
        require(folder.is_dir() if picture else not out.is_file(), "out", str(out), takes)
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{out.name}.partial"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise MultidriftError(f"out: could not write to {str(out)!r} ({error})") from error
