"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from torch import Tensor

from multidrift.drifts.diffusers.family import Family, Shape


class SD3(Family):
    """A flow whose time, 0 … 1000, is a keyword; `encoder_hidden_states` and `pooled_projections`, a row a sample."""

    classes = ("SD3Transformer2DModel",)
    needs = ("encoder_hidden_states", "pooled_projections")
    per_row = needs
    text_width = "joint_attention_dim"

    def tokens(self, shape: Shape) -> int:
        return (shape[1] // self.number("patch_size")) * (shape[2] // self.number("patch_size"))

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        return self.network(hidden_states=x, timestep=t, return_dict=False, **conditioning)[0]
