"""A diffusers network from its configuration and the weight files that it is told to read, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from multidrift.basics.errors import MultidriftError
from multidrift.basics.json_files import entry, read_object


def read_network(folder: Path, weights: Sequence[Path], name: str) -> nn.Module:
    """The network whose configuration is folder/unet/config.json, with the weights of these files, in float32.

    The network is first laid out without memory, so that a configuration which does not belong to the weights is
    refused before any is asked for. Torch's generator is left as it was. Raises MultidriftError.
    """
    try:
        import diffusers  # an optional extra
    except ImportError as error:
        raise MultidriftError("loading a ladder needs diffusers: pip install 'multidrift[diffusers]'") from error
    config = read_object(folder / "unet" / "config.json", f"level {name}")
    kind = getattr(diffusers, str(entry(config, "_class_name", str, f"level {name}: config.json")), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise MultidriftError(f"level {name}: {config['_class_name']!r} of config.json is no network of diffusers")
    make = cast("Callable[[Mapping[str, object]], nn.Module]", kind.from_config)  # type: ignore[attr-defined]  # untyped
    try:
        state = _read_weights([file for file in weights if file.suffix == ".safetensors"])
        with torch.device("meta"):
            skeleton = make(config)
        _check_shapes(skeleton.state_dict(), state)
        with torch.random.fork_rng(devices=[]):
            network = make(config)
        network.load_state_dict(state)
    except Exception as error:  # diffusers and safetensors raise all kinds
        reason = " ".join(str(error).split())
        raise MultidriftError(f"level {name}: could not be read from {folder} ({reason})") from error
    return network.float().eval()


def _read_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file in files:
        part = load_file(file)
        twice = sorted(state.keys() & part.keys())
        if twice:
            raise MultidriftError(f"{file.name} has {twice[0]}, which another shard has, too")
        state |= part
    return state


def _check_shapes(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    for name in sorted(wanted.keys() ^ state.keys()):
        where = "the configuration" if name in state else "the weights"
        raise MultidriftError(f"{name} is missing in {where}")
    for name, value in wanted.items():
        if value.shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)} in the weights, {tuple(value.shape)} by the configuration"
            raise MultidriftError(f"{name} has shape {shapes}")
