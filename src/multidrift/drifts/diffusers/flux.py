"""FLUX.1 and FLUX.2, which take an image as a sequence of packed patches with their places."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.drifts.diffusers.family import Family, Shape, filled

_GUIDANCE = 3.5  # what FluxPipeline passes on by default, to networks with guidance distilled into them
_GUIDANCE_2 = 4.0  # the same of Flux2Pipeline
_STEPS, _LONG = 50.0, 4300  # Flux2Pipeline's number of steps by default, and the tokens above which it has no say
_SIDE = 128  # latents of the pipelines' images of 1024×1024
_UNITS = 1000.0  # the scheduler's time over the network's


class Flux(Family):
    """FLUX.1: states are latents [n, channels, height, width], packed in patches of 2×2 for every call.

    `encoder_hidden_states` [n, tokens, width], `pooled_projections` [n, width] and, where guidance is distilled into
    the network, `guidance` (a number, or one a sample; 3.5 by default). Time goes to the network in 0 … 1.
    """

    classes = ("FluxTransformer2DModel",)
    needs = ("encoder_hidden_states", "pooled_projections")
    per_row = needs
    text_width = "joint_attention_dim"

    @property
    def shape(self) -> Shape:
        return (self.channels, _SIDE, _SIDE)

    @property
    def channels(self) -> int:
        return self.number("in_channels") // 4

    def tokens(self, shape: Shape) -> int:
        return (shape[1] // 2) * (shape[2] // 2)

    def packed(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        even = height % 2 == 0 == width % 2
        require(even, "shape", tuple(x.shape[1:]), "latents of even height and width")
        patches = x.view(n, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(n, (height // 2) * (width // 2), 4 * channels)

    def unpacked(self, latents: Tensor, shape: Shape) -> Tensor:
        channels, height, width = shape
        patches = latents.view(len(latents), height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(len(latents), channels, height, width)

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        text = conditioning["encoder_hidden_states"]
        assert isinstance(text, Tensor)
        guidance = conditioning.pop("guidance", None)
        if self.setting("guidance_embeds"):
            guidance = filled(_GUIDANCE if guidance is None else guidance, x)
        given = {"txt_ids": torch.zeros(text.shape[1], 3, device=x.device), **conditioning}
        output = self.network(
            hidden_states=self.packed(x), timestep=t / _UNITS, guidance=guidance, img_ids=_places(x, 2),
            return_dict=False, **given,
        )[0]  # fmt: skip
        return self.unpacked(output, tuple(x.shape[1:]))


class Flux2(Family):
    """FLUX.2: states are latents of 2×2 patches, [n, 128, height/16, width/16] of the image; Flux says the rest.

    Its text has places, too, and the shift of its flow depends on the number of steps: the schedule has that of 50,
    the pipeline's default; other numbers take `shift=` or the pipeline's own times.
    """

    classes = ("Flux2Transformer2DModel",)
    needs = ("encoder_hidden_states",)
    per_row = needs
    text_width = "joint_attention_dim"

    @property
    def shape(self) -> Shape:
        return (self.channels, _SIDE // 2, _SIDE // 2)

    def tokens(self, shape: Shape) -> int:
        return shape[1] * shape[2]

    def shift(self, shape: Shape) -> float:
        """e^μ, μ linear in the number of tokens and, below 4300 of them, of steps (Flux2Pipeline)."""
        tokens = self.tokens(shape)
        many, few = 0.00016927 * tokens + 0.45666666, 8.73809524e-05 * tokens + 1.89833333  # at 200 and at 10 steps
        return math.exp(many if tokens > _LONG else many + (_STEPS - 200.0) * (many - few) / 190.0)

    def packed(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def unpacked(self, latents: Tensor, shape: Shape) -> Tensor:
        return latents.transpose(1, 2).reshape(len(latents), *shape)

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        text = conditioning["encoder_hidden_states"]
        assert isinstance(text, Tensor)
        guidance = conditioning.pop("guidance", None)
        if self.setting("guidance_embeds"):
            guidance = filled(_GUIDANCE_2 if guidance is None else guidance, x)
        words = torch.arange(text.shape[1], device=x.device, dtype=torch.float32)
        given = {"txt_ids": torch.nn.functional.pad(words[:, None], (3, 0)), **conditioning}
        output = self.network(
            hidden_states=self.packed(x), timestep=t / _UNITS, guidance=guidance,
            img_ids=torch.nn.functional.pad(_places(x, 1), (0, 1)), return_dict=False, **given,
        )[0]  # fmt: skip
        return self.unpacked(output, tuple(x.shape[1:]))


def _places(x: Tensor, patch: int) -> Tensor:
    """(0, row, column) of every patch of an image, [rows·columns, 3]."""
    rows, columns = (torch.arange(size // patch, device=x.device, dtype=torch.float32) for size in x.shape[-2:])
    grid = torch.cartesian_prod(rows, columns)
    return torch.cat((torch.zeros_like(grid[:, :1]), grid), dim=1)
