"""A ladder on disk: `ladder.json` beside one diffusers pipeline folder a level.

    ladder.json                  format, schedule, levels (predicts, clip, shape), costs, a hash of every file
    f1/unet/config.json, diffusion_pytorch_model.safetensors (or several shards and their index)
    f1/scheduler/scheduler_config.json, f1/model_index.json      where the schedule is a training chain
    gaussian.safetensors         mean and covariance of the data, where the ladder has them
    covariances.json             how the levels' drifts vary together, where that was measured

Weights are read from safetensors alone, and from no file that ladder.json does not list; links out of the folder are
refused. A folder is written under a temporary name and put in its place, in one step, when it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, cast

import torch

from multidrift.basics.checks import check_value
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.files import scratch_folder, sweep, writing
from multidrift.basics.folders import locked, put_in_place, recover_to_read
from multidrift.basics.json_files import entry, mapping, read_json, read_object, signed, unsigned
from multidrift.basics.types import Count, Positive
from multidrift.drifts.costs import Costs
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.drift import Drift
from multidrift.drifts.gaussian import GaussianDenoiser
from multidrift.drifts.network import read_network
from multidrift.processes.predictions import Prediction
from multidrift.schedules.catalogue import from_dict
from multidrift.schedules.chain import Discrete
from multidrift.schedules.schedule import Schedule

BUNDLED = Path(__file__).parent.parent / "bundled"
FORMAT = 2  # 1 had no digest of the description itself
_DESCRIPTION = "ladder.json"
_GAUSSIAN = "gaussian.safetensors"
_COVARIANCES = "covariances.json"
_CONFIG = "unet/config.json"
_WEIGHTS = "unet/diffusion_pytorch_model"  # what names of weight files, whole or in shards, begin with
_HARMLESS = (".md", ".txt", ".png", ".jpg")  # unlisted files that no loader takes


class _Saveable(Protocol):
    """The part of a diffusers network that writing needs."""

    config: Mapping[str, object]

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> _Saveable: ...
    def save_pretrained(self, folder: Path, *, safe_serialization: bool, max_shard_size: int) -> None: ...
    def state_dict(self) -> dict[str, torch.Tensor]: ...
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> object: ...
    def half(self) -> _Saveable: ...


def write_levels(
    folder: Path,
    levels: Mapping[str, Drift],
    costs: Costs | None,
    gaussian: GaussianDenoiser | None,
    covariances: Sequence[DriftCovariance] = (),
    *,
    overwrite: bool,
    half: bool,
    shard_size: int,
) -> None:
    """Write all levels to `folder`; on any failure, or a kill, what was there before stays as it was."""
    denoisers = _saveable(levels)
    with writing(folder, "folder"):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _check_place(folder, overwrite=overwrite)
        with writing(folder, "folder"):
            sweep(folder.absolute().parent)
            with scratch_folder(folder.absolute().parent) as fresh:
                for name, denoiser in denoisers.items():
                    _write_level(fresh / name, denoiser, half=half, shard_size=shard_size)
                if gaussian is not None:
                    gaussian.save(fresh / _GAUSSIAN)
                if covariances:
                    text = json.dumps([covariance.to_dict() for covariance in covariances])
                    (fresh / _COVARIANCES).write_text(text + "\n")
                _write_description(fresh, denoisers, costs)
                put_in_place(fresh, folder)


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Raise where a ladder could not be written to `folder`: before the work that makes one."""
    with writing(folder, "folder"):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        recover_to_read(folder)
        _check_place(folder, overwrite=overwrite)
        with scratch_folder(folder.absolute().parent):
            pass


def _check_place(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not overwrite:
        raise MultidriftError(f"folder: got {str(folder)!r}, which exists; it takes a new folder, or overwrite=True")
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / _DESCRIPTION).is_file():
        raise MultidriftError(f"folder: got {str(folder)!r}, which is no ladder; overwrite=True replaces ladders only")


def _saveable(levels: Mapping[str, Drift]) -> dict[str, Denoiser]:
    for name, level in levels.items():
        if not isinstance(level, Denoiser) or not hasattr(level.net, "save_pretrained"):
            raise MultidriftError(
                f"level {name}: got {type(level.net).__name__}; saving takes diffusers networks that are called as "
                "net(x, t) alone; of others keep the pipelines' folders, for md.Ladder.from_diffusers"
            )
        if level.layers:
            raise MultidriftError(
                f"level {name}: has guidance or a transform; save the plain ladder and add them later"
            )
        own = level.trained_on.has_noise_of(level.schedule)
        require(own, f"level {name}", "a schedule that is not its network's", "levels on the schedule of all to save")
    return {name: level for name, level in levels.items() if isinstance(level, Denoiser)}


Parts = tuple[list[Denoiser], Costs | None, GaussianDenoiser | None, list[DriftCovariance]]


def read_levels(folder: Path) -> Parts:
    """All levels of a ladder folder, costs, the Gaussian and covariances, or an error that says what is wrong."""
    recover_to_read(folder)
    while True:
        description = _read_description(folder)
        try:
            return _read_parts(folder, description)
        except MultidriftError:
            if not (folder / _DESCRIPTION).is_file() or _read_description(folder) == description:
                raise
            # Somebody has put another ladder in its place meanwhile: read that one.


def _read_parts(folder: Path, description: Mapping[str, object]) -> Parts:
    name = _DESCRIPTION
    try:
        schedule = from_dict(mapping(description, "schedule", name))
        listed = mapping(description, "levels", name)
        require(bool(listed), f"{name}: 'levels'", listed, "at least one level")
        levels = [_read_level(folder, level, mapping(listed, level, name), schedule) for level in listed]
        costs = None if description.get("costs") is None else _read_costs(mapping(description, "costs", name))
        gaussian = _read_gaussian(folder, description.get("gaussian"), schedule)
        covariances = _read_covariances(folder, description.get("covariances"))
        if description["format"] != 1 or "digest" in description:
            unsigned(description, name)  # last, as what is wrong with an entry says more
    except MultidriftError as error:
        raise MultidriftError(f"{folder}: {error}") from error
    return levels, costs, gaussian, covariances


def _write_level(folder: Path, level: Denoiser, *, half: bool, shard_size: int) -> None:
    network = cast("_Saveable", level.net)
    network = _half_copy(network) if half else network
    network.save_pretrained(folder / "unet", safe_serialization=True, max_shard_size=shard_size)
    if isinstance(level.schedule, Discrete) and level.predicts in ("epsilon", "sample", "v_prediction"):
        _write_pipeline(folder, level, type(level.net).__name__)


def _half_copy(network: _Saveable) -> _Saveable:
    copy = type(network).from_config(network.config)
    copy.load_state_dict(network.state_dict())
    return copy.half()


def _write_pipeline(folder: Path, level: Denoiser, network_class: str) -> None:
    from diffusers import DDPMScheduler, __version__  # an optional extra

    assert isinstance(level.schedule, Discrete)
    scheduler = DDPMScheduler(
        num_train_timesteps=level.schedule.training_steps,
        trained_betas=list(level.schedule.betas),
        prediction_type=level.predicts,
        clip_sample=level.clip is not None,
        clip_sample_range=level.clip or 1.0,
    )
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": __version__,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", network_class],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_description(folder: Path, levels: Mapping[str, Denoiser], costs: Costs | None) -> None:
    top = list(levels.values())[-1]
    entries = {}
    for name, level in levels.items():
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        entries[name] = {
            "predicts": level.predicts,
            "clip": level.clip,
            "shape": None if level.shape is None else list(level.shape),
            "files": {path.relative_to(folder / name).as_posix(): _hash(path) for path in files},
        }
    description = {
        "format": FORMAT,
        "data_range": [-1.0, 1.0],
        "schedule": top.schedule.to_dict(),
        "levels": entries,
        "costs": None if costs is None else asdict(costs),
        "gaussian": _hash(folder / _GAUSSIAN) if (folder / _GAUSSIAN).is_file() else None,
        "covariances": _hash(folder / _COVARIANCES) if (folder / _COVARIANCES).is_file() else None,
    }
    (folder / _DESCRIPTION).write_text(json.dumps(signed(description), indent=1) + "\n")


def _read_description(folder: Path) -> dict[str, object]:
    require(folder.is_dir(), "folder", str(folder), f"a ladder's folder, with a {_DESCRIPTION}")
    file = _inside(folder, folder / _DESCRIPTION, "folder")
    require(file.is_file(), "folder", str(folder), f"a ladder's folder, with a {_DESCRIPTION}")
    description = read_object(file, "folder")
    version = description.get("format")
    if type(version) is not int or version < 1:
        raise MultidriftError(f"{file}: is not a ladder's description (format {version!r})")
    if version > FORMAT:
        raise MultidriftError(f"{file}: has format {version}; this version of multidrift reads up to {FORMAT}")
    return description


def _read_level(folder: Path, name: str, settings: Mapping[str, object], schedule: Schedule) -> Denoiser:
    what = f"level {name}"
    require(name not in ("", ".", "..") and not set(name) & set("/\\\0"), "level", name, "a name of a folder")
    files = mapping(settings, "files", what)
    _check_files(folder, name, files)
    predicts = entry(settings, "predicts", Prediction, what)
    clip, shape = entry(settings, "clip", Positive | None, what), entry(settings, "shape", list[Count] | None, what)
    network = read_network(folder / name, [folder / name / file for file in files if file.startswith(_WEIGHTS)], name)
    made = Denoiser(network, schedule, cast("Prediction", predicts), cast("float | None", clip), name)
    known = made.shape  # where the network's configuration tells it
    listed = None if shape is None else tuple(cast("list[int]", shape))
    require(known is None or listed in (None, known), f"{what}: 'shape'", listed, f"{known}, as its network says")
    made.shape = known if listed is None else listed
    return made


def _check_files(folder: Path, name: str, files: Mapping[str, object]) -> None:
    """Every listed file is there and as it was; nothing else is, that a loader would take for a part of the level."""
    level = _inside(folder, folder / name, f"level {name}")
    require(level.is_dir(), "folder", str(folder), f"a folder for level {name}, which is missing")
    require(_CONFIG in files, f"level {name}", sorted(files), f"a hash of {_CONFIG}")
    weights = any(file.startswith(_WEIGHTS) and file.endswith(".safetensors") for file in files)
    require(weights, f"level {name}", sorted(files), f"a hash of {_WEIGHTS}.safetensors, or of every shard of it")
    for relative, digest in files.items():
        _check_listed(folder, level / relative, f"level {name}", digest)
    for path in sorted(level.rglob("*")):
        unlisted = not path.is_dir() and path.relative_to(level).as_posix() not in files
        if unlisted and not path.name.startswith(".") and path.suffix.lower() not in _HARMLESS:
            raise MultidriftError(f"level {name}: {path.relative_to(level)} is not listed in {_DESCRIPTION}; remove it")


def _check_listed(folder: Path, path: Path, name: str, digest: object) -> Path:
    """A file that ladder.json lists, if it is there, inside the folder, and as it was."""
    shown = path.name if path.parent == folder else path.relative_to(folder).as_posix().partition("/")[2]
    _inside(folder, path, name)
    require(path.is_file(), name, f"no file {shown}", "every file that ladder.json lists")
    if _hash(path) != digest:
        raise MultidriftError(f"{name}: {shown} is damaged or was changed (its hash differs)")
    return path


def _inside(folder: Path, path: Path, name: str) -> Path:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise MultidriftError(f"{name}: {str(path)!r} lies outside the ladder's folder")
    return path


def _read_gaussian(folder: Path, digest: object, schedule: Schedule) -> GaussianDenoiser | None:
    if digest is None:
        return None
    return GaussianDenoiser.load(_check_listed(folder, folder / _GAUSSIAN, "gaussian", digest), schedule)


def _read_covariances(folder: Path, digest: object) -> list[DriftCovariance]:
    if digest is None:
        return []
    listed = read_json(_check_listed(folder, folder / _COVARIANCES, "covariances", digest), "covariances")
    check_value(listed, list[dict[str, object]], "covariances")
    return [DriftCovariance.from_dict(values) for values in cast("list[dict[str, object]]", listed)]


def _read_costs(values: Mapping[str, object]) -> Costs:
    seconds = cast("dict[str, float]", entry(values, "seconds", dict[str, Positive], "costs"))
    batch, machine = entry(values, "batch", Count, "costs"), entry(values, "machine", str, "costs")
    return Costs(seconds, cast("int", batch), cast("str", machine))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
