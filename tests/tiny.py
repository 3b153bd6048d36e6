"""Tiny networks of diffusers' own classes with random weights, one a family, with what each is conditioned on."""

from dataclasses import dataclass, field

import diffusers
import torch

LINEAR = {"clip_sample": False, "set_alpha_to_one": True}
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, **LINEAR}


@dataclass
class Tiny:
    """A network, its scheduler, one sample's shape and the conditioning of n samples."""

    net: torch.nn.Module
    scheduler: object
    shape: tuple[int, ...]
    widths: dict = field(default_factory=dict)

    def conditioning(self, n, seed=1):
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.randn(n, *size, generator=generator) for name, size in self.widths.items()}


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


def sd3(seed=0, shift=3.0):
    net = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=8, caption_projection_dim=16, pooled_projection_dim=6,
        pos_embed_max_size=8,
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
    return Tiny(stirred(net, seed), scheduler, (4, 8, 8), widths)
