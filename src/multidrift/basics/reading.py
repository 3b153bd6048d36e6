"""The one reader of files that others made: bytes, pictures and arrays, each whole or an error that names the file."""

from __future__ import annotations

import contextlib
import math
import stat
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from multidrift.basics.errors import MultidriftError
from multidrift.basics.memory import memory

Array: TypeAlias = NDArray[np.generic]  # type: ignore[explicit-any]  # an array of any dtype

_NPY = b"\x93NUMPY"
_MOST_PIXELS = 1 << 28  # of one picture, 268 million: what is larger was made to fill the memory
_MEMORY_SHARE = 0.5  # of this machine's memory is the most that one file's arrays may take
_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_bytes(path: Path, argument: str, largest: int) -> bytes:
    """A regular file's content."""
    size = check_file(path, argument)
    if size > largest:
        raise MultidriftError(f"{argument}: {str(path)!r} has {size:,} bytes; it takes at most {largest:,}")
    with reading(path, argument):
        return path.read_bytes()


def check_file(path: Path, argument: str) -> int:
    """The size of a regular file that is not empty; a folder, a pipe, a dead link or nothing at all is refused."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        what = "is a link to a file that is not there" if path.is_symlink() else "is not there, or cannot be read"
        raise MultidriftError(f"{argument}: {str(path)!r} {what}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "pipe or device"
        raise MultidriftError(f"{argument}: {str(path)!r} is a {kind}; it takes a file")
    if found.st_size == 0:
        raise MultidriftError(f"{argument}: {str(path)!r} is empty")
    return found.st_size


def read_picture(path: Path, argument: str = "images") -> NDArray[np.uint8]:
    """A picture as bytes [height, width, 1 or 3]; transparency is laid on white, 16 bits are scaled to 8.

    Raises MultidriftError, with the file's name, on what is no picture, is damaged, moves, or is a bomb.
    """
    check_file(path, argument)
    with reading(path, argument), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours, below
        with Image.open(path) as image:
            width, height = image.size
            if width * height > _MOST_PIXELS:
                raise MultidriftError(
                    f"{argument}: {str(path)!r} has {width}×{height} pixels; it takes {_MOST_PIXELS:,}"
                )
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise MultidriftError(
                    f"{argument}: {str(path)!r} has {frames} frames; it takes pictures that stand still"
                )
            return _pixels(image)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _GREY_16:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"values from {values.min()} to {values.max()}, beyond 16 bits")
        return np.round(values / 257).astype(np.uint8)[..., None]
    if image.mode == "F":
        raise ValueError("values that are not whole numbers")
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))[..., None]
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return np.asarray(image.convert("RGB"))
    layer = image.convert("RGBA")
    paper = Image.new("RGBA", layer.size, "white")
    return np.asarray(Image.alpha_composite(paper, layer).convert("RGB"))


def read_arrays(path: Path, argument: str, wanted: Sequence[str] | None = None) -> dict[str, Array]:
    """Arrays of an .npz file by name (`wanted`: of these names), or that of an .npy file under "".

    Numbers alone, and nothing from pickles. Raises MultidriftError, with the file's name, on what is damaged, is no
    such file whatever its suffix says, and on arrays larger than half of this machine's memory.
    """
    check_file(path, argument)
    with reading(path, argument):
        with path.open("rb") as file:
            if file.read(len(_NPY)) == _NPY:
                return {"": _array(file, path.stat().st_size)}
        if not zipfile.is_zipfile(path):
            raise ValueError("neither an .npz nor an .npy file")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in wanted or () if name not in members]
            if missing:
                raise ValueError(f"no array {missing[0]!r} among {', '.join(sorted(members)) or 'none'}")
            found = {}
            for name in members if wanted is None else wanted:
                with archive.open(members[name]) as member:
                    found[name] = _array(member, members[name].file_size)
            return found


def _array(file: IO[bytes], size: int) -> Array:
    """The array that begins here, in so many bytes; its header is believed only where it says the same."""
    file.seek(0)
    if file.read(len(_NPY)) != _NPY:
        raise ValueError("what is stored is no array")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed != there:
        raise ValueError(f"an array {shape} takes {needed:,} bytes, and there are {there:,}")
    most = _MEMORY_SHARE * memory()
    if needed > most:
        raise ValueError(f"an array of {needed:,} bytes; it takes at most {most:,.0f}, half of this machine's memory")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


@contextlib.contextmanager
def reading(path: Path, argument: str) -> Iterator[None]:
    """Whatever a decoder makes of a damaged file becomes one error with the file's name."""
    try:
        yield
    except MultidriftError:
        raise
    except Exception as error:  # decoders raise all kinds: OSError, SyntaxError, struct.error, zlib.error, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MultidriftError(f"{argument}: could not read {str(path)!r} ({reason})") from error
