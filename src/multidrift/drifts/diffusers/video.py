"""Video: Wan and CogVideoX."""

from __future__ import annotations

import torch
from torch import Tensor

from multidrift.drifts.diffusers.family import Family, Network, Shape, with_extra_channels


class Wan(Family):
    """Wan 2.1 and 2.2: states [n, channels, frames, height, width], `encoder_hidden_states` [n, tokens, width].

    Image-to-video networks take `extra_channels` [n, …] beside x (the mask and the first image's latents).
    """

    classes = ("WanTransformer3DModel",)
    needs = ("encoder_hidden_states",)
    per_row = ("encoder_hidden_states", "encoder_hidden_states_image", "extra_channels")
    text_width = "text_dim"

    @property
    def channels(self) -> int:
        return self.number("out_channels")

    @property
    def shape(self) -> Shape | None:
        return None

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        taken = with_extra_channels(x, conditioning, self.number("in_channels"))
        return self.network(hidden_states=taken, timestep=t, return_dict=False, **conditioning)[0]


class CogVideoX(Family):
    """CogVideoX 2B and 5B: states [n, frames, channels, height, width], `encoder_hidden_states` [n, tokens, width].

    Rotary places, where the network takes them, are those of x.
    """

    classes = ("CogVideoXTransformer3DModel",)
    needs = ("encoder_hidden_states",)
    per_row = needs
    text_width = "text_embed_dim"

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._places: dict[tuple[Shape, torch.device], object] = {}

    @property
    def shape(self) -> Shape | None:
        frames = (self.number("sample_frames") - 1) // self.number("temporal_compression_ratio") + 1
        return (frames, self.number("in_channels"), self.number("sample_height"), self.number("sample_width"))

    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        if self.setting("use_rotary_positional_embeddings"):
            conditioning = {"image_rotary_emb": self._rotary(tuple(x.shape[1:]), x.device), **conditioning}
        return self.network(hidden_states=x, timestep=t, return_dict=False, **conditioning)[0]

    def _rotary(self, shape: Shape, device: torch.device) -> object:
        """Cosines and sines of every patch's place, as the pipeline makes them; once a shape and device."""
        key = (shape, device)
        if key not in self._places:
            from diffusers.models.embeddings import get_3d_rotary_pos_embed  # an optional extra
            from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

            frames, _, height, width = shape
            patch, thick = self.number("patch_size"), self.setting("patch_size_t")
            grid = (height // patch, width // patch)
            base = (self.number("sample_height") // patch, self.number("sample_width") // patch)
            same = {"embed_dim": self.number("attention_head_dim"), "grid_size": grid, "device": device}
            if isinstance(thick, int):  # CogVideoX 1.5: a patch spans some frames
                self._places[key] = get_3d_rotary_pos_embed(
                    crops_coords=None, temporal_size=-(-frames // thick), grid_type="slice", max_size=base, **same
                )
            else:
                region = get_resize_crop_region_for_grid(grid, base[1], base[0])
                self._places[key] = get_3d_rotary_pos_embed(crops_coords=region, temporal_size=frames, **same)
        return self._places[key]
