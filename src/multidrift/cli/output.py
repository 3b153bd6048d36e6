"""Where a command writes to: checked before anything is sampled, and written whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from multidrift.basics.errors import keeping, require
from multidrift.basics.files import check_writable, write_folder, write_whole, writing
from multidrift.runs.pictures import write_image
from multidrift.runs.result import Result

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_ARRAYS = (".npz", ".safetensors")


def is_file_name(out: Path) -> bool:
    """Whether `out` names one file: a picture or an array; refuses names of other kinds of files."""
    suffix = out.suffix.lower()
    known = suffix in (*PICTURES, *_ARRAYS)
    if not out.is_dir():
        plain = bool(out.name) and not out.name.startswith(".") and (known or suffix == "")
        require(plain, "out", str(out), f"a name that ends in {', '.join((*PICTURES, *_ARRAYS))}, or a folder")
    return known and not out.is_dir()


def check_output(out: Path, *, file: bool = False, name: str = "out") -> None:
    """Refuse an `out` that could not be written to; make the folder, unless `out` is a file within one.

    `name`: the option's.
    """
    require(str(out) not in ("", "."), name, str(out), "a file or a folder")
    if file:
        require(out.parent.is_dir(), name, str(out), "a file in an existing folder")
        check_writable(out, name)
        return
    require(not out.exists() or out.is_dir(), name, str(out), "a folder")
    with writing(out, name):
        out.mkdir(parents=True, exist_ok=True)
    check_writable(out / "trial", name)


def check_new_folder(out: Path) -> None:
    """Refuse a folder that could not be made, or written to; it is not made yet."""
    require(str(out) not in ("", "."), "out", str(out), "a folder")
    require(not out.exists() or out.is_dir(), "out", str(out), "a folder")
    with writing(out, "out"):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    check_writable(out / "trial" if out.is_dir() else out, "out")


def write_result(result: Result, out: Path, first: int) -> None:
    """A picture of all samples, an array of them, or a folder with a picture each, numbered from `first`."""
    with keeping(result):
        if not is_file_name(out):
            named = {f"{first + i:06d}.png": image for i, image in enumerate(result.images())}
            write_folder(out, {name: partial(write_image, image) for name, image in named.items()})
            return
        samples, calls = result.samples.detach().cpu(), dict(result.calls)
        match out.suffix.lower():
            case ".npz":
                numbers = {
                    "samples": samples.numpy(),
                    "first": np.asarray(first),
                    "calls": np.asarray(sum(calls.values())),
                }
                write_whole(out, lambda fresh: np.savez_compressed(fresh, **numbers))  # type: ignore[arg-type]  # its allow_pickle
            case ".safetensors":
                tensors = {"samples": samples.contiguous(), "first": torch.tensor(first)}
                write_whole(out, lambda fresh: save_file(tensors, fresh))
            case _:
                result.save(out)
