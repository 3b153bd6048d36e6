"""SiT's weights in diffusers' own DiT, whose blocks are the same: no remote code, and no network of our own."""

from __future__ import annotations

import re
from math import isqrt
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.reading import reading

_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}  # of S, B, L and XL, by width
_OUTSIDE = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_INSIDE = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
_EMBEDDINGS = {  # one for all blocks in SiT; in diffusers every block has them
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")
_FILES = ("transformer/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors")


def load_sit(path: str | Path, heads: int | None = None, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """SiT (Ma et al. 2024) from its own weights, as a DiTTransformer2DModel that takes SiT's time, 0 … 1.

    - `path`: a safetensors file, or a folder with `transformer/diffusion_pytorch_model.safetensors`
    - `heads`: by default those of S, B, L and XL, by the width of the weights

    Raises MultidriftError on files that are no SiT, naming what is missing or unknown.
    """
    weights = _read(Path(path))
    layers = 1 + max((int(found[1]) for name in weights if (found := _BLOCK.fullmatch(name))), default=-1)
    needed = {f"{name}.weight" for name in (*_OUTSIDE, *_EMBEDDINGS)} | {"pos_embed"}
    missing = sorted(needed - set(weights))
    require(layers > 0 and not missing, "path", f"{path} without {missing or 'blocks'}", "the weights of a SiT")
    width, channels, patch, _ = weights["x_embedder.proj.weight"].shape
    head_count = _HEADS.get(width) if heads is None else heads
    if head_count is None or width % head_count:
        raise MultidriftError(f"heads: got {heads} for weights of width {width}; it takes a number that divides it")
    network = _empty(
        {
            "num_attention_heads": head_count,
            "attention_head_dim": width // head_count,
            "in_channels": channels,
            "out_channels": weights["final_layer.linear.weight"].shape[0] // patch**2,
            "num_layers": layers,
            "sample_size": isqrt(weights["pos_embed"].shape[-2]) * patch,
            "patch_size": patch,
            "num_embeds_ada_norm": weights["y_embedder.embedding_table.weight"].shape[0] - 1,
            "norm_eps": 1e-6,
        }
    )
    try:
        network.load_state_dict(_renamed(weights, layers), strict=True)
    except RuntimeError as error:
        raise MultidriftError(f"path: {path} has other weights than a SiT's ({error})") from error
    return network.to(dtype).eval()


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, without a prefix that all of them share."""
    file = next((path / name for name in _FILES if (path / name).is_file()), path)
    require(file.is_file(), "path", str(path), "a safetensors file, or a folder with one")
    with reading(file, "path"):
        tensors = load_file(file)
    prefix = next(
        (n.removesuffix("x_embedder.proj.weight") for n in tensors if n.endswith("x_embedder.proj.weight")), ""
    )
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def _empty(settings: dict[str, object]) -> torch.nn.Module:
    """The network of these sizes, with SiT's embedding of time: its frequencies are 10000^(−i/128), i from 0."""
    try:
        from diffusers import DiTTransformer2DModel  # an optional extra
    except ImportError as error:
        raise MultidriftError("SiT needs diffusers: pip install 'multidrift[diffusers]'") from error
    network = DiTTransformer2DModel(**settings)
    for block in network.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    return cast("torch.nn.Module", network)


def _renamed(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """SiT's weights under diffusers' names; its own places of patches are those diffusers makes."""
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        found = _BLOCK.fullmatch(name)
        stem, _, kind = name.rpartition(".")
        if found and found[2] == "attn.qkv":
            for part, of_part in zip(("to_q", "to_k", "to_v"), value.chunk(3), strict=True):
                renamed[f"transformer_blocks.{found[1]}.attn1.{part}.{kind}"] = of_part
        elif found:
            renamed[f"transformer_blocks.{found[1]}.{_INSIDE.get(found[2], found[2])}.{kind}"] = value
        elif stem in _EMBEDDINGS:
            for layer in range(layers):
                renamed[f"transformer_blocks.{layer}.norm1.emb.{_EMBEDDINGS[stem]}.{kind}"] = value
        elif name != "pos_embed":
            renamed[f"{_OUTSIDE.get(stem, stem)}.{kind}"] = value
    return renamed
