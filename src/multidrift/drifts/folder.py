"""A ladder on disk: `ladder.json` beside one diffusers pipeline folder a level.

    ladder.json                  format, schedule, levels (predicts, clip, shape), costs, a hash of every file
    f1/unet/config.json, diffusion_pytorch_model.safetensors
    f1/scheduler/scheduler_config.json, f1/model_index.json      where the schedule is a training chain
    gaussian.safetensors         mean and covariance of the data, where the ladder has them
    covariances.json             how the levels' drifts vary together, where that was measured

Weights are read from safetensors alone. A folder is written under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, cast

import torch

from multidrift.basics.errors import MultidriftError, require
from multidrift.drifts.costs import Costs
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.drift import Drift
from multidrift.drifts.gaussian import GaussianDenoiser
from multidrift.processes.predictions import Prediction
from multidrift.schedules.catalogue import from_dict
from multidrift.schedules.chain import Discrete
from multidrift.schedules.schedule import Schedule

BUNDLED = Path(__file__).parent.parent / "bundled"
FORMAT = 1
_DESCRIPTION = "ladder.json"
_GAUSSIAN = "gaussian.safetensors"
_COVARIANCES = "covariances.json"
_NEEDED = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors")


class _Saveable(Protocol):
    """The part of a diffusers network that writing needs."""

    config: Mapping[str, object]

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> _Saveable: ...
    def save_pretrained(self, folder: Path, *, safe_serialization: bool) -> None: ...
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
) -> None:
    """Write all levels to `folder`; on any failure what was there before stays as it was."""
    if folder.exists() and not overwrite:
        raise MultidriftError(f"folder: got {str(folder)!r}, which exists; it takes a new folder, or overwrite=True")
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / _DESCRIPTION).is_file():
        raise MultidriftError(f"folder: got {str(folder)!r}, which is no ladder; overwrite=True replaces ladders only")
    denoisers: dict[str, Denoiser] = {}
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
        denoisers[name] = level
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            fresh = Path(scratch) / "new"
            for name, denoiser in denoisers.items():
                _write_level(fresh / name, denoiser, half=half)
            if gaussian is not None:
                gaussian.save(fresh / _GAUSSIAN)
            if covariances:
                text = json.dumps([covariance.to_dict() for covariance in covariances])
                (fresh / _COVARIANCES).write_text(text + "\n")
            _write_description(fresh, denoisers, costs)
            _swap(folder, fresh)
    except OSError as error:
        raise MultidriftError(f"folder: could not write {str(folder)!r} ({error}); nothing was changed") from error


def _swap(folder: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `folder`; the old one is kept beside it until the new one is there."""
    kept = folder.with_name(f".{folder.name}.replaced")
    if not folder.exists():
        os.replace(fresh, folder)
        return
    os.replace(folder, kept)
    try:
        os.replace(fresh, folder)
    except OSError:
        os.replace(kept, folder)
        raise
    shutil.rmtree(kept)


def read_levels(
    folder: Path,
) -> tuple[list[Denoiser], Costs | None, GaussianDenoiser | None, list[DriftCovariance]]:
    """All levels of a ladder folder, costs, the Gaussian and covariances, or an error that says what is wrong."""
    description = _read_description(folder)
    try:
        schedule = from_dict(_mapping(description, "schedule"))
        levels = []
        for name, entry in _mapping(description, "levels").items():
            settings = _mapping({name: entry}, name)
            _check_files(folder, name, _mapping(settings, "files"))
            levels.append(_read_level(folder / name, name, schedule, settings))
        costs = None if description.get("costs") is None else _read_costs(_mapping(description, "costs"))
        gaussian = _read_gaussian(folder, description.get("gaussian"), schedule)
        return levels, costs, gaussian, _read_covariances(folder, description.get("covariances"))
    except MultidriftError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise MultidriftError(f"{folder / _DESCRIPTION}: is damaged ({type(error).__name__}: {error})") from error


def _write_level(folder: Path, level: Denoiser, *, half: bool) -> None:
    network = cast("_Saveable", level.net)
    network = _half_copy(network) if half else network
    network.save_pretrained(folder / "unet", safe_serialization=True)
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
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def _read_description(folder: Path) -> dict[str, object]:
    file = folder / _DESCRIPTION
    require(file.is_file(), "folder", str(folder), f"a ladder's folder, with a {_DESCRIPTION}")
    try:
        description: object = json.loads(file.read_text())
    except ValueError as error:
        raise MultidriftError(f"{file}: is damaged, no valid JSON ({error})") from error
    if not isinstance(description, dict):
        raise MultidriftError(f"{file}: is damaged, no JSON object")
    version = description.get("format")
    if not isinstance(version, int) or version < 1:
        raise MultidriftError(f"{file}: is not a ladder's description (format {version!r})")
    if version > FORMAT:
        raise MultidriftError(f"{file}: has format {version}; this version of multidrift reads up to {FORMAT}")
    return description


def _mapping(values: Mapping[str, object], key: str) -> dict[str, object]:
    value = values.get(key)
    if not isinstance(value, dict):
        raise MultidriftError(f"{_DESCRIPTION}: {key!r} is missing or damaged")
    return value


def _check_files(folder: Path, name: str, files: Mapping[str, object]) -> None:
    require((folder / name).is_dir(), "folder", str(folder), f"a folder for level {name}, which is missing")
    for needed in _NEEDED:
        require(needed in files, f"level {name}", sorted(files), f"a hash of {needed}")
    for relative, digest in files.items():
        path = folder / name / relative
        if not path.resolve().is_relative_to(folder.resolve()):
            raise MultidriftError(f"level {name}: {relative!r} lies outside the ladder's folder")
        require(path.is_file(), f"level {name}", f"no file {relative}", "every file that ladder.json lists")
        if _hash(path) != digest:
            raise MultidriftError(f"level {name}: {relative} is damaged or was changed (its hash differs)")


def _read_level(folder: Path, name: str, schedule: Schedule, settings: Mapping[str, object]) -> Denoiser:
    try:
        import diffusers  # an optional extra
    except ImportError as error:
        raise MultidriftError("loading a ladder needs diffusers: pip install 'multidrift[diffusers]'") from error
    try:
        config = json.loads((folder / "unet" / "config.json").read_text())
        network_class = getattr(diffusers, str(config["_class_name"]))
        require(issubclass(network_class, diffusers.ModelMixin), f"level {name}", network_class, "a diffusers network")
        network = network_class.from_pretrained(
            folder / "unet", torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        clip, shape = settings.get("clip"), settings.get("shape")
        return Denoiser(
            network.eval(),
            schedule,
            predicts=cast("Prediction", settings["predicts"]),
            clip=None if clip is None else float(cast("float", clip)),
            name=name,
            shape=None if shape is None else tuple(cast("list[int]", shape)),
        )
    except (OSError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise MultidriftError(f"level {name}: could not be read from {folder} ({error})") from error


def _read_gaussian(folder: Path, digest: object, schedule: Schedule) -> GaussianDenoiser | None:
    path = None if digest is None else _listed(folder / _GAUSSIAN, "gaussian", digest)
    return None if path is None else GaussianDenoiser.load(path, schedule)


def _read_covariances(folder: Path, digest: object) -> list[DriftCovariance]:
    path = None if digest is None else _listed(folder / _COVARIANCES, "covariances", digest)
    listed: list[dict[str, object]] = [] if path is None else json.loads(path.read_text())
    return [DriftCovariance.from_dict(values) for values in listed]


def _listed(path: Path, name: str, digest: object) -> Path:
    """The path of a file beside the levels, if it is there and as ladder.json says."""
    require(path.is_file(), name, f"no file {path.name}", "every file that ladder.json lists")
    if _hash(path) != digest:
        raise MultidriftError(f"{name}: {path.name} is damaged or was changed (its hash differs)")
    return path


def _read_costs(values: Mapping[str, object]) -> Costs:
    seconds = {name: float(cast("float", value)) for name, value in _mapping(values, "seconds").items()}
    return Costs(seconds, int(cast("int", values["batch"])), str(values["machine"]))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
