"""U-Nets: UNet2DModel, and UNet2DConditionModel of Stable Diffusion and SDXL."""

from __future__ import annotations

from torch import Tensor

from multidrift.drifts.diffusers.family import Family, with_extra_channels


class UNet(Family):
    """Called as net(x, t): t is the training step. `class_labels` where it was trained with them."""

    classes = ("UNet2DModel",)
    per_row = ("class_labels",)

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        return self.network(x, t, return_dict=False, **conditioning)[0]


class ConditionalUNet(Family):
    """Stable Diffusion and SDXL: `encoder_hidden_states` [n, tokens, width], SDXL's `added_cond_kwargs` beside it.

    `extra_channels` [n, …] follow x on the channel axis where the network takes more of them than it predicts
    (inpainting: the mask and the masked image's latents).
    """

    classes = ("UNet2DConditionModel",)
    needs = ("encoder_hidden_states",)
    per_row = ("encoder_hidden_states", "added_cond_kwargs", "class_labels", "timestep_cond", "extra_channels")

    text_width = "cross_attention_dim"

    @property
    def channels(self) -> int:
        predicted, taken = self.number("out_channels"), self.number("in_channels")
        return taken if predicted == 2 * taken else predicted

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        taken = with_extra_channels(x, conditioning, self.number("in_channels"))
        return self.network(taken, t, return_dict=False, **conditioning)[0]
