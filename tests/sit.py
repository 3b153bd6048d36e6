"""SiT in its paper's own words, with random weights: names, blocks and embeddings as its weights have them."""

import math

import torch
from safetensors.torch import save_file
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        shift, scale, gate, shift_2, scale_2, gate_2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        n, tokens, width = x.shape
        q, k, v = self.attn["qkv"](normed(x) * (1 + scale) + shift).view(n, tokens, 3, self.heads, -1).unbind(2)
        mixed = nn.functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
        x = x + gate * self.attn["proj"](mixed.transpose(1, 2).reshape(n, tokens, width))
        hidden = nn.functional.gelu(self.mlp["fc1"](normed(x) * (1 + scale_2) + shift_2), approximate="tanh")
        return x + gate_2 * self.mlp["fc2"](hidden)


def normed(x):
    return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)


class SiT(nn.Module):
    """The paper's network in its own words: names, blocks and embeddings as its weights have them."""

    def __init__(self, width=32, heads=2, layers=2, side=8, channels=4, classes=5, patch=2):
        super().__init__()
        self.patch, self.channels = patch, channels
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.t_embedder = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))}
        )
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.final_layer = nn.ModuleDict(
            {
                "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)),
                "linear": nn.Linear(width, patch**2 * 2 * channels),
            }
        )
        places = sines_2d(width, side // patch)
        self.register_buffer("pos_embed", places[None])

    def forward(self, x, t, y):
        frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128)
        angles = t[:, None] * frequencies
        c = self.t_embedder["mlp"](torch.cat((angles.cos(), angles.sin()), dim=1)) + self.y_embedder["embedding_table"](
            y
        )
        tokens = self.x_embedder["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, c)
        shift, scale = self.final_layer["adaLN_modulation"](c)[:, None].chunk(2, dim=-1)
        tokens = self.final_layer["linear"](normed(tokens) * (1 + scale) + shift)
        side, p = x.shape[-1] // self.patch, self.patch
        image = tokens.view(len(x), side, side, p, p, -1).permute(0, 5, 1, 3, 2, 4)
        return image.reshape(len(x), -1, side * p, side * p)[:, : self.channels]


def sines_2d(width, side):
    """MAE's fixed places: half of the width for the column, half for the row, sine and cosine."""
    frequencies = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    parts = [place.flatten()[:, None] * frequencies for place in (column, row)]
    return torch.cat([f(part) for part in parts for f in (torch.sin, torch.cos)], dim=1).float()


def saved(path, seed=0):
    """Random weights of a small one in a file; its path."""
    torch.manual_seed(seed)
    net = SiT()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
    return path
