"""Sana."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from multidrift.drifts.diffusers.family import Family


class Sana(Family):
    """A flow in latents of 32 channels: `encoder_hidden_states` and `encoder_attention_mask`; time scaled by config."""

    classes = ("SanaTransformer2DModel",)
    needs = ("encoder_hidden_states",)
    per_row = ("encoder_hidden_states", "encoder_attention_mask", "guidance")
    text_width = "caption_channels"

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        scale = cast("float | None", self.setting("timestep_scale")) or 1.0
        return self.network(x, timestep=t * scale, return_dict=False, **conditioning)[0]
