"""Families published in several sizes: networks of their shape, shrunk and with random weights, are a ladder."""

import json

import pytest
import torch
from tests import tiny

import multidrift as md

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
SD = {  # stages of two layers each, the last without attention; BK-SDM takes away layers, the middle and a stage
    "block_out_channels": (8, 8, 16), "layers_per_block": 2, "down_block_types": (DOWN, DOWN, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", UP, UP),
}  # fmt: skip
XL = {  # transformers of several layers, more of them further in; the smaller networks have fewer, each its own numbers
    "block_out_channels": (8, 8, 16), "down_block_types": ("DownBlock2D", DOWN, DOWN),
    "up_block_types": (UP, UP, "UpBlock2D"), "use_linear_projection": True,
}  # fmt: skip
# One network a size, cheapest first, as each family differs between its sizes.
FAMILIES = {
    "SD1.5 with BK-SDM": {
        "tiny": lambda: tiny.sd(block_out_channels=(8, 8), layers_per_block=1, mid_block_type=None),
        "small": lambda: tiny.sd(**SD | {"layers_per_block": 1}, mid_block_type=None),
        "base": lambda: tiny.sd(**SD | {"layers_per_block": 1}),
        "full": lambda: tiny.sd(**SD),
    },
    "SDXL with SSD-1B and Vega": {
        "Vega": lambda: tiny.sdxl(
            **XL, transformer_layers_per_block=(1, 1, 1), mid_block_type=None,
            reverse_transformer_layers_per_block=((1, 1), (1, 1), 1),
        ),
        "SSD-1B": lambda: tiny.sdxl(
            **XL, transformer_layers_per_block=(1, 1, 2), reverse_transformer_layers_per_block=((2, 1), (1, 1), 1),
        ),
        "full": lambda: tiny.sdxl(**XL, transformer_layers_per_block=(1, 2, 3)),
    },
    "SD3.5": {
        "medium": lambda: tiny.sd3(qk_norm="rms_norm", dual_attention_layers=(0,)),
        "large": lambda: tiny.sd3(qk_norm="rms_norm", num_layers=2, num_attention_heads=3, caption_projection_dim=24),
    },
    "Wan2.1": {
        "1.3B": lambda: tiny.wan(),
        "14B": lambda: tiny.wan(num_layers=2, num_attention_heads=3, ffn_dim=32),
    },
    "Sana": {
        "0.6B": lambda: tiny.sana(),
        "1.6B": lambda: tiny.sana(num_layers=2),
        "4.8B": lambda: tiny.sana(num_layers=3, qk_norm="rms_norm_across_heads"),
    },
    "FLUX.2 klein": {
        "4B": lambda: tiny.flux2(text=8),
        "9B": lambda: tiny.flux2(text=12, num_single_layers=2),
    },
}  # fmt: skip


def saved(made, folder):
    """What is read of a pipeline's folder: its index, network and scheduler."""
    part = "transformer" if "Transformer" in type(made.net).__name__ else "unet"
    made.net.save_pretrained(folder / part)
    made.scheduler.save_pretrained(folder / "scheduler")
    kinds = {part: ["diffusers", type(made.net).__name__], "scheduler": ["diffusers", type(made.scheduler).__name__]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline", **kinds}))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_folders_of_all_sizes_are_one_ladder(family, tmp_path):
    sizes = {name: make() for name, make in FAMILIES[family].items()}
    shape = next(iter(sizes.values())).shape
    ladder = md.Ladder.from_diffusers([saved(made, tmp_path / name) for name, made in sizes.items()], shape=shape)
    assert ladder.names == tuple(sizes)
    weights = [sum(p.numel() for p in made.net.parameters()) for made in sizes.values()]
    assert weights == sorted(weights)
    texts = {name: made.conditioning(2) for name, made in sizes.items()}
    ladder = ladder.guided(2.0, texts, {name: made.conditioning(2, seed=7) for name, made in sizes.items()})
    method = md.Multilevel(4, levels=ladder.names, calls=(4,) * len(sizes))
    found = md.sample(ladder, method, md.Diffusion(ladder.schedule, 0.0), count=2)
    assert found.calls[ladder.top] == 8
    alone = md.Denoiser.from_diffusers(sizes[ladder.top].net, sizes[ladder.top].scheduler, shape=shape)
    alone = alone.guided(2.0, texts[ladder.top], sizes[ladder.top].conditioning(2, seed=7))
    wanted = md.sample(alone, md.Euler(4), md.Diffusion(alone.schedule, 0.0), count=2).samples
    assert torch.allclose(found.samples, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
