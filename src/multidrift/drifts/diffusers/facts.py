"""What decides whether networks can be levels of one ladder: their latents, and how they were made from images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import safe_open

from multidrift.basics.json_files import read_object
from multidrift.basics.numbers import Floats
from multidrift.basics.reading import reading
from multidrift.drifts.diffusers.catalogue import family_of
from multidrift.drifts.diffusers.family import Shape, class_of
from multidrift.drifts.diffusers.source import Source

# How a VAE's output becomes latents, by the names of diffusers' configs.
_SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
_FIRST_VALUES = 8  # of each parameter: enough to tell finetuned weights apart, quick to read


@dataclass(frozen=True)
class Autoencoder:
    """A VAE: how it scales its latents, and the first values of each of its parameters."""

    scales: Mapping[str, object]
    values: Mapping[str, Floats]

    def has_weights_of(self, other: Autoencoder) -> bool:
        """Whether both have the same weights, up to the rounding of half precision."""
        if self.values.keys() != other.values.keys():
            return False
        pairs = ((value, other.values[name]) for name, value in self.values.items())
        return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-2, atol=1e-3) for a, b in pairs)


@dataclass(frozen=True)
class Facts:
    """One level: its network's class, latents and text, its VAE where there is one, and whether it was distilled.

    - `guided`: guidance is distilled into the network; `few_steps`: it was distilled to a few fixed steps
    """

    network: str
    channels: int
    shape: Shape | None
    text_width: int | None
    guided: bool
    few_steps: bool
    vae: Autoencoder | None


def facts_of(source: Source) -> Facts:
    """The facts of what was read."""
    family = family_of(source.network)
    width = family.setting(family.text_width or "")
    index = getattr(source.pipeline, "config", None) or source.index
    return Facts(
        network=class_of(source.network),
        channels=family.channels,
        shape=family.shape,
        text_width=width if isinstance(width, int) else None,
        guided=bool(family.setting("guidance_embeds")),
        few_steps=bool(index.get("is_distilled")),
        vae=_in_memory(getattr(source.pipeline, "vae", None)) if source.folder is None else _on_disk(source.folder),
    )


def _in_memory(vae: object) -> Autoencoder | None:
    if not isinstance(vae, torch.nn.Module):
        return None
    config = cast("Mapping[str, object]", vae.config)
    values = {name: _first(value.detach()) for name, value in vae.named_parameters()}
    return Autoencoder(_scales(config), values)


def _on_disk(folder: Path) -> Autoencoder | None:
    """The VAE of a pipeline's folder, without loading it."""
    weights = sorted((folder / "vae").glob("*.safetensors"))
    if not weights or not (folder / "vae" / "config.json").is_file():
        return None
    config = read_object(folder / "vae" / "config.json", "model")
    values: dict[str, Floats] = {}
    with reading(weights[0], "model"), safe_open(weights[0], framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            part = file.get_slice(name)
            values[name] = _first(part[:1] if part.get_shape() else part[:])
    return Autoencoder(_scales(config), values)


def _first(value: torch.Tensor) -> Floats:
    return value[:1].flatten()[:_FIRST_VALUES].double().cpu().numpy() if value.ndim else value.double().cpu().numpy()


def _scales(config: Mapping[str, object]) -> dict[str, object]:
    found = {name: config.get(name) for name in _SCALES}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items() if v is not None}
