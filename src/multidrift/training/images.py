"""Training images: from an `.npz` file or a folder of pictures to one tensor in [−1, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.reading import read_arrays, read_picture

_LEAST = 2  # images: errors are compared between pairs, a Gaussian is fitted to the rest
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Split:
    """Images kept apart for training and for measuring: each [n, channels, height, width] in [−1, 1]."""

    train: Tensor
    held_out: Tensor


def load_images(path: Path) -> Tensor:
    """All images at `path` as uint8 [n, channels, height, width].

    `path` is an `.npz` with an array `x` of shape [n, height, width] or [n, height, width, channels] in uint8,
    or a folder of pictures of one size (transparency is laid on white, 16 bits are scaled to 8). Raises
    MultidriftError, with the file's name, on any that cannot be read.
    """
    if path.suffix == ".npz" and not path.is_dir():
        return _from_npz(path)
    require(path.is_dir(), "images", str(path), "an .npz file or a folder of pictures")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    require(bool(files), "images", str(path), f"a folder with pictures ({', '.join(SUFFIXES)})")
    arrays = [read_picture(file) for file in files]
    for file, array in zip(files, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise MultidriftError(f"images: {file.name} is {array.shape}, {files[0].name} is {arrays[0].shape}")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def split(images: Tensor, held_out: float, seed: int) -> Split:
    """Shuffle by `seed` and keep the share `held_out` apart."""
    require(0 < held_out < 1, "held_out", held_out, "a share in (0, 1)")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    count = max(_LEAST, round(held_out * len(images)))
    enough = count >= _LEAST and len(images) - count >= _LEAST
    takes = f"at least {_LEAST} to train on and {_LEAST} to keep apart"
    require(enough, "images", f"{len(images)} images, of which {count} are kept apart", takes)
    scaled = images[order].float() / 127.5 - 1.0
    return Split(train=scaled[count:], held_out=scaled[:count])


def _from_npz(path: Path) -> Tensor:
    x = read_arrays(path, "images", ("x",))["x"]
    good = x.dtype == np.uint8 and x.ndim in (3, 4) and len(x) > 0
    require(good, "images", f"{x.dtype} {x.shape}", "uint8 [n, height, width] or [n, height, width, channels]")
    x = x[..., None] if x.ndim == 3 else x
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
