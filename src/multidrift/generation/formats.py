"""How a shard lies on the disk: one safetensors file, a folder of pictures, or a tar as WebDataset reads it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.runs.pictures import to_pixels, write_image

_TENSOR = "samples"


class Format(Protocol):
    """One way to keep samples; `ending` is that of a shard's name, "" for a folder."""

    name: str
    ending: str

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise where samples of this shape cannot be kept so."""

    def write(self, path: Path, samples: Tensor, first: int) -> None:
        """Write the samples first … of a shard; the same samples give the same bytes."""

    def read(self, path: Path) -> Tensor:
        """The samples of a shard."""


class Safetensors:
    """A tensor `samples` a shard, to the last bit."""

    name, ending = "safetensors", ".safetensors"

    def check(self, shape: tuple[int, ...]) -> None:
        """Any shape."""

    def write(self, path: Path, samples: Tensor, first: int) -> None:
        save_file({_TENSOR: samples.contiguous()}, path, {"first": str(first)})

    def read(self, path: Path) -> Tensor:
        return load_file(path)[_TENSOR]


class Pictures:
    """A folder a shard, in it a PNG a sample, 8 bits a value: data in [−1, 1]."""

    name, ending = "images", ""

    def check(self, shape: tuple[int, ...]) -> None:
        require(_is_picture(shape), "format", self.name, f"samples [1 or 3, height, width]; these are {shape}")

    def write(self, path: Path, samples: Tensor, first: int) -> None:
        path.mkdir()
        for number, pixels in enumerate(to_pixels(samples), start=first):
            write_image(Image.fromarray(pixels), path / f"{number:012d}.png")

    def read(self, path: Path) -> Tensor:
        return torch.stack([_from_pixels(Image.open(file)) for file in sorted(path.glob("*.png"))])


class WebDataset:
    """A tar a shard: `<i>.png` where samples are pictures, else `<i>.npy`, each beside `<i>.json` with its number i."""

    name, ending = "webdataset", ".tar"

    def check(self, shape: tuple[int, ...]) -> None:
        """Any shape."""

    def write(self, path: Path, samples: Tensor, first: int) -> None:
        ending, parts = _members(samples)
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, content in enumerate(parts, start=first):
                _add(tar, f"{number:012d}.{ending}", content)
                _add(tar, f"{number:012d}.json", json.dumps({"i": number}).encode())

    def read(self, path: Path) -> Tensor:
        found = []
        with tarfile.open(path) as tar:
            for member in tar:
                content = cast("io.BufferedReader", tar.extractfile(member)).read()
                if member.name.endswith(".png"):
                    found.append(_from_pixels(Image.open(io.BytesIO(content))))
                elif member.name.endswith(".npy"):
                    found.append(torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False)))
        return torch.stack(found)


FORMATS: dict[str, Format] = {kept.name: kept for kept in (Safetensors(), Pictures(), WebDataset())}


def format_named(name: str) -> Format:
    """The format of that name; raises MultidriftError on any other."""
    require(name in FORMATS, "format", name, ", ".join(FORMATS))
    return FORMATS[name]


def read_shard(kept: Format, path: Path) -> Tensor:
    """The samples of a file, or an error that names it."""
    try:
        return kept.read(path)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, tarfile.TarError) as error:
        raise MultidriftError(f"{path}: is missing or damaged ({type(error).__name__}: {error})") from error


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _from_pixels(image: Image.Image) -> Tensor:
    """A picture as data in [−1, 1], [1 or 3, height, width]."""
    array = torch.from_numpy(np.array(image)).float() / 127.5 - 1
    return array[None] if array.ndim == 2 else array.permute(2, 0, 1)


def _members(samples: Tensor) -> tuple[str, list[bytes]]:
    parts = []
    if not _is_picture(tuple(samples.shape[1:])):
        for array in samples.numpy():
            np.save(buffer := io.BytesIO(), array, allow_pickle=False)
            parts.append(buffer.getvalue())
        return "npy", parts
    for pixels in to_pixels(samples):
        Image.fromarray(pixels).save(buffer := io.BytesIO(), format="png")
        parts.append(buffer.getvalue())
    return "png", parts


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # no owner and no time, so that equal samples make equal files
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
