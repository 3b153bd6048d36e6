"""Transformers on the DDPM chain that learn a variance, too: DiT and PixArt."""

from __future__ import annotations

import torch
from torch import Tensor

from multidrift.drifts.diffusers.family import Family

_PIXELS = 8  # a side of the image over that of its latents


class DiT(Family):
    """Class-conditional: `class_labels` [n], 1000 for no class. Its variance channels are left out."""

    classes = ("DiTTransformer2DModel",)
    needs = ("class_labels",)
    per_row = needs

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        return self.network(x, timestep=t, return_dict=False, **conditioning)[0]


class PixArt(Family):
    """PixArt-α and -Σ: `encoder_hidden_states` and `encoder_attention_mask`; size and aspect are those of x."""

    classes = ("PixArtTransformer2DModel",)
    needs = ("encoder_hidden_states",)
    per_row = ("encoder_hidden_states", "encoder_attention_mask", "added_cond_kwargs")
    text_width = "caption_channels"

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        given = {"added_cond_kwargs": self._size_of(x), **conditioning}
        return self.network(x, timestep=t, return_dict=False, **given)[0]

    def _size_of(self, x: Tensor) -> dict[str, Tensor | None]:
        """Resolution and aspect ratio of the image, for the networks that were trained with them."""
        if not getattr(self.network, "use_additional_conditions", False):
            return {"resolution": None, "aspect_ratio": None}
        height, width = x.shape[-2:]
        sizes = [
            torch.full((len(x), 1), float(_PIXELS * side), dtype=x.dtype, device=x.device) for side in (height, width)
        ]
        aspect = torch.full((len(x), 1), height / width, dtype=x.dtype, device=x.device)
        return {"resolution": torch.cat(sizes, dim=1), "aspect_ratio": aspect}
