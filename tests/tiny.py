"""Tiny networks of diffusers' own classes with random weights, one a family, with what each is conditioned on."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import diffusers
import torch

LINEAR = {"clip_sample": False, "set_alpha_to_one": True}
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1, **LINEAR}


@dataclass
class Tiny:
    """A network, its scheduler, one sample's shape and the conditioning of n samples."""

    net: torch.nn.Module
    scheduler: object
    shape: tuple[int, ...]
    widths: dict = field(default_factory=dict)
    classes: int = 0
    added: Callable | None = None

    def conditioning(self, n, seed=1):
        generator = torch.Generator().manual_seed(seed)
        labels = {"class_labels": torch.arange(n) % self.classes} if self.classes else {}
        drawn = {name: torch.randn(n, *size, generator=generator) for name, size in self.widths.items()}
        return labels | drawn | ({"added_cond_kwargs": self.added(n, generator)} if self.added else {})


def stirred(net, seed=0, size=0.08):
    """The same network with every weight drawn anew: those that begin at zero would leave outputs at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        ones = parameter.ndim == 1 and name.endswith("weight")
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size + float(ones))
    return net.eval()


def unet(seed=0, **settings):
    net = diffusers.UNet2DModel(
        **{
            "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4,
            "block_out_channels": (8, 8), "down_block_types": ("DownBlock2D",) * 2,
            "up_block_types": ("UpBlock2D",) * 2, "add_attention": False, **settings,
        }
    )  # fmt: skip
    return Tiny(stirred(net, seed), diffusers.DDIMScheduler(**LINEAR), (1, 8, 8))


def sd(seed=0, scheduler=None, **settings):
    """Stable Diffusion."""
    net = diffusers.UNet2DConditionModel(
        **{
            "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "norm_num_groups": 4,
            "block_out_channels": (8, 16), "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 8, "attention_head_dim": 4,
            **settings,
        }
    )  # fmt: skip
    chain = scheduler or diffusers.DDIMScheduler(**LATENT)
    return Tiny(stirred(net, seed), chain, (4, 8, 8), {"encoder_hidden_states": (5, 8)})


def sdxl(seed=0, **settings):
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    made = sd(seed, projection_class_embeddings_input_dim=30, **added, **settings)
    places = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]])

    def places_and_text(n, generator):
        return {"text_embeds": torch.randn(n, 6, generator=generator), "time_ids": places.expand(n, -1)}

    return replace(made, added=places_and_text)


def sd3(seed=0, shift=3.0, **settings):
    net = diffusers.SD3Transformer2DModel(
        **{
            "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 1,
            "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 8, "caption_projection_dim": 16,
            "pooled_projection_dim": 6, "pos_embed_max_size": 8, **settings,
        }
    )  # fmt: skip
    widths = {"encoder_hidden_states": (5, 8), "pooled_projections": (6,)}
    return Tiny(stirred(net, seed), diffusers.FlowMatchEulerDiscreteScheduler(shift=shift), (4, 8, 8), widths)


def flux(seed=0, *, guidance=False):
    net = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=6, axes_dims_rope=(4, 4, 8), guidance_embeds=guidance,
    )  # fmt: skip
    widths = {"encoder_hidden_states": (5, 8), "pooled_projections": (6,)}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return Tiny(stirred(net, seed), scheduler, (4, 8, 12), widths)


def flux2(seed=0, text=8, **settings):
    net = diffusers.Flux2Transformer2DModel(
        **{
            "patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
            "num_attention_heads": 2, "joint_attention_dim": text, "timestep_guidance_channels": 16,
            "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False, **settings,
        }
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return Tiny(stirred(net, seed), scheduler, (16, 4, 6), {"encoder_hidden_states": (5, text)})


def dit(seed=0, layers=1):
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=layers, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10, norm_num_groups=4,
    )  # fmt: skip
    return Tiny(stirred(net, seed), diffusers.DDIMScheduler(**LINEAR), (4, 8, 8), classes=10)


def pixart(seed=0):
    net = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        patch_size=2, cross_attention_dim=24, caption_channels=8, norm_num_groups=4, use_additional_conditions=True,
    )  # fmt: skip
    return Tiny(stirred(net, seed), diffusers.DDIMScheduler(**LINEAR), (4, 8, 12), {"encoder_hidden_states": (5, 8)})


def sana(seed=0, **settings):
    net = diffusers.SanaTransformer2DModel(
        **{
            "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1,
            "sample_size": 8, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16,
            "caption_channels": 8, "patch_size": 1, "timestep_scale": 0.5, **settings,
        }
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return Tiny(stirred(net, seed), scheduler, (4, 8, 8), {"encoder_hidden_states": (5, 8)})


def wan(seed=0, channels=4, **settings):
    net = diffusers.WanTransformer3DModel(
        **{
            "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": channels,
            "out_channels": channels, "text_dim": 8, "freq_dim": 16, "ffn_dim": 16, "num_layers": 1,
            "rope_max_seq_len": 16, **settings,
        }
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0)
    return Tiny(stirred(net, seed), scheduler, (channels, 2, 4, 6), {"encoder_hidden_states": (5, 8)})


def cogvideox(seed=0, *, rotary=True):
    net = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8, text_embed_dim=8,
        num_layers=1, sample_width=8, sample_height=8, sample_frames=5, max_text_seq_length=5,
        use_rotary_positional_embeddings=rotary,
    )  # fmt: skip
    chain = {"snr_shift_scale": 1.0 if rotary else 3.0, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    scheduler = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", **chain, **LINEAR)
    return Tiny(stirred(net, seed), scheduler, (2, 4, 8, 12), {"encoder_hidden_states": (5, 8)})


FAMILIES = {
    "UNet2DModel": unet,
    "SD": sd,
    "SDXL": sdxl,
    "SD3": sd3,
    "Flux": flux,
    "Flux with guidance": partial(flux, guidance=True),
    "Flux2": flux2,
    "DiT": dit,
    "PixArt": pixart,
    "Sana": sana,
    "Wan": wan,
    "CogVideoX": cogvideox,
    "CogVideoX 2B": partial(cogvideox, rotary=False),
}
