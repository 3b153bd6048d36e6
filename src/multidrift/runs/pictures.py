"""Samples as pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.files import write_whole

Pixels = NDArray[np.uint8]


def to_pixels(samples: Tensor) -> list[Pixels]:
    """Samples [n, 1 or 3, height, width] in [−1, 1] as arrays of bytes, one a picture."""
    shape = tuple(samples.shape)
    require(len(shape) == 4 and shape[1] in (1, 3), "samples", shape, "[count, 1 or 3, height, width] for pictures")
    scaled = ((samples.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    arrays = scaled.permute(0, 2, 3, 1).numpy()
    return [array[..., 0] if shape[1] == 1 else array for array in arrays]


def image_grid(pixels: list[Pixels], columns: int | None = None) -> Image.Image:
    """Pictures of one size side by side, two pixels apart."""
    width = min(columns, len(pixels)) if columns is not None else max(1, round(len(pixels) ** 0.5))
    rows = -(-len(pixels) // width)
    height, breadth = pixels[0].shape[:2]
    size = (rows * (height + 2) - 2, width * (breadth + 2) - 2, *pixels[0].shape[2:])
    canvas = np.full(size, 255, dtype=np.uint8)
    for index, array in enumerate(pixels):
        top, left = (index // width) * (height + 2), (index % width) * (breadth + 2)
        canvas[top : top + height, left : left + breadth] = array
    return Image.fromarray(canvas)


def save_image(image: Image.Image, path: Path) -> None:
    """Write under a temporary name, then rename, so that no half-written file is left."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    require(kind in Image.SAVE, "path", str(path), "a file name that ends in .png, .jpg or another picture format")
    write_whole(path, lambda partial: write_image(image, partial, kind))


def write_image(image: Image.Image, path: Path, kind: str | None = "PNG") -> None:
    """The picture's bytes at once: Pillow's own JPEG writer stops at the end of a full disk without a word."""
    image.save(encoded := io.BytesIO(), format=kind)
    path.write_bytes(encoded.getvalue())
