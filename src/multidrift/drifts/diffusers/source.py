"""Network and scheduler of a pipeline, of a network alone, or of the folder of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.json_files import read_object
from multidrift.drifts.diffusers.family import Network
from multidrift.schedules.diffusers import Scheduler, is_scheduler

_PARTS = ("unet", "transformer")  # what pipelines call their network


@dataclass(frozen=True)
class Source:
    """What there is to read: the network, its scheduler where it is known, and the pipeline or its folder.

    `index`: of a folder, what its model_index.json says.
    """

    network: Network
    scheduler: Scheduler | None
    name: str
    pipeline: object | None = None
    folder: Path | None = None
    index: Mapping[str, object] = field(default_factory=dict)


def source_of(given: object, scheduler: object | None, dtype: torch.dtype | None) -> Source:
    """The parts of a pipeline, a network or a folder; `scheduler` takes the place of the pipeline's own."""
    if scheduler is not None:
        require(is_scheduler(scheduler), "scheduler", type(scheduler).__name__, "a scheduler of diffusers")
    chosen = cast("Scheduler | None", scheduler)
    if isinstance(given, str | Path):
        return _from_folder(Path(given), chosen, dtype)
    network = next((part for part in (getattr(given, name, None) for name in _PARTS) if part is not None), None)
    if network is not None:
        _refuse_two(type(given).__name__, getattr(given, "transformer_2", None))
        own = getattr(given, "scheduler", None)
        return Source(cast("Network", network), chosen or own, _name(network), pipeline=given)
    good = isinstance(given, torch.nn.Module) and hasattr(given, "config")
    require(
        good, "model", type(given).__name__, "a pipeline of diffusers, one of its networks, or the folder of either"
    )
    return Source(cast("Network", given), chosen, _name(given))


def _refuse_two(pipeline: str, second: object) -> None:
    """Raise on a pipeline that goes from one network to another on the way."""
    if second not in (None, [None, None]):
        raise MultidriftError(
            f"model: got {pipeline} with two networks, for more and for less noise; it takes one of them, "
            "md.Denoiser.from_diffusers(pipe.transformer, pipe.scheduler)"
        )


def _name(network: object) -> str:
    """The last part of where a network was loaded from, or "model"."""
    place = str(getattr(network, "name_or_path", "") or getattr(network, "_name_or_path", "") or "")
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", *_PARTS)]
    return parts[-1] if parts else "model"


def _from_folder(folder: Path, scheduler: Scheduler | None, dtype: torch.dtype | None) -> Source:
    """The network and the scheduler of a saved pipeline, without its other parts; or of a saved network."""
    require(folder.is_dir(), "model", str(folder), "a pipeline, a network, or the folder of one on this disk")
    if (folder / "model_index.json").is_file():
        index = read_object(folder / "model_index.json", "model")
        part = next((name for name in _PARTS if index.get(name) not in (None, [None, None])), None)
        require(part is not None, "model", str(folder), f"a pipeline with one of {', '.join(_PARTS)}")
        _refuse_two(str(index.get("_class_name")), index.get("transformer_2"))
        network = _load(folder / str(part), dtype)
        own = scheduler or (_load(folder / "scheduler", None) if (folder / "scheduler").is_dir() else None)
        return Source(cast("Network", network), cast("Scheduler | None", own), folder.name, folder=folder, index=index)
    good = (folder / "config.json").is_file()
    require(good, "model", str(folder), "a folder with model_index.json (a pipeline) or config.json (a network)")
    return Source(cast("Network", _load(folder, dtype)), scheduler, folder.name)


def _load(folder: Path, dtype: torch.dtype | None) -> object:
    """A network or a scheduler from its folder, weights from safetensors alone."""
    try:
        import diffusers  # an optional extra
    except ImportError as error:
        raise MultidriftError("reading a folder needs diffusers: pip install 'multidrift[diffusers]'") from error
    file = next((folder / n for n in ("config.json", "scheduler_config.json") if (folder / n).is_file()), None)
    require(file is not None, "model", str(folder), "a folder with config.json or scheduler_config.json")
    assert file is not None
    name = str(read_object(file, "model").get("_class_name"))
    require(hasattr(diffusers, name), "model", name, "a class of the diffusers that is installed")
    kind = getattr(diffusers, name)
    try:
        if file.name == "scheduler_config.json":
            return kind.from_pretrained(folder, local_files_only=True)
        settings = {} if dtype is None else {"torch_dtype": dtype}
        return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **settings).eval()
    except Exception as error:  # diffusers and safetensors raise all kinds
        raise MultidriftError(
            f"model: {name} could not be read from {folder} ({' '.join(str(error).split())})"
        ) from error
