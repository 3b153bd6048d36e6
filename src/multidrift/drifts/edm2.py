"""EDM2's network, from the paper alone, with the weights of the published safetensors files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from multidrift.basics.errors import MultidriftError, require

_EPSILON = 1e-4  # beside norms
_DATA = 0.5  # standard deviation of the data, which the preconditioning goes by
_BRANCH, _EQUAL = 0.3, 0.5  # shares of the residual and attention branches, and of two things of one rank
_BOUND = 256.0  # of activations
_NEEDED = ("emb_fourier.freqs", "emb_fourier.phases", "emb_noise.weight", "out_conv.weight", "out_gain")
_PLACE = re.compile(r"(enc|dec)\.(\d+)x\d+_(conv|down|in|up|block)(\d*)\.")
_FILES = ("unet/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors")


def load_edm2(path: str | Path, channels_a_head: int = 64, dtype: torch.dtype = torch.float32) -> EDM2:
    """EDM2 (Karras et al. 2024) from a safetensors file, or a folder with `unet/` in it.

    Raises MultidriftError on files that are no EDM2, naming what is missing.
    """
    place = Path(path)
    file = next((place / name for name in _FILES if (place / name).is_file()), place)
    require(file.is_file(), "path", str(path), "a safetensors file, or a folder with one")
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise MultidriftError(f"path: {file} could not be read ({error})") from error
    prefix = next((name.removesuffix("out_gain") for name in tensors if name.endswith("out_gain")), "")
    weights = {name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)}
    missing = [name for name in _NEEDED if name not in weights]
    missing += [kind for kind in ("enc", "dec") if not any(name.startswith(f"{kind}.") for name in weights)]
    require(not missing, "path", f"{path} without {', '.join(missing)}", "the weights of an EDM2")
    return EDM2(weights, channels_a_head).to(dtype).eval()


class EDM2(torch.nn.Module):
    """net(x, σ, class_labels) -> data, with magnitude-preserving layers (sections 2 and B of the paper, figure 21).

    x [n, channels, side, side], σ [n]; `class_labels` [n], or one-hot [n, classes], none for no class. Weights are
    normalised once, here: the paper does so at every call, to the same effect.
    """

    def __init__(self, weights: Mapping[str, Tensor], channels_a_head: int) -> None:
        super().__init__()
        self.channels_a_head = channels_a_head
        self.blocks = sorted({found[0] for name in weights if (found := _PLACE.match(name))}, key=_order)
        self.weights = torch.nn.ParameterDict()
        for name, value in weights.items():
            if name.endswith(".weight"):
                stem = name.removesuffix("weight")
                gain = weights.get(f"{stem.removesuffix('emb_linear.')}emb_gain") if "emb_linear" in name else None
                gain = weights["out_gain"] if name == "out_conv.weight" else gain
                self._keep(name, _normalised(value, gain))
            elif name.startswith("emb_fourier."):
                self._keep(name, value)
        self.img_channels = weights[f"{self.blocks[0]}weight"].shape[1] - 1
        self.img_resolution = max(int(found[2]) for block in self.blocks if (found := _PLACE.match(block)))

    def _keep(self, name: str, value: Tensor) -> None:
        self.weights[name.replace(".", "/")] = torch.nn.Parameter(value, requires_grad=False)

    def _of(self, name: str) -> Tensor | None:
        found: Tensor | None = self.weights.get(name.replace(".", "/"), None)
        return found

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Preconditioning of EDM (equation 7 of Karras et al. 2022) around the network of unit magnitudes."""
        wide = sigma.to(torch.float32).view(-1, *(1,) * (x.ndim - 1))
        total = (wide**2 + _DATA**2).sqrt()
        scaled, noise = (x / total).to(x.dtype), (sigma.to(torch.float32).log() / 4).to(x.dtype)
        output = self._network(scaled, self._embedding(noise, class_labels))
        return ((_DATA / total) ** 2 * x + wide * _DATA / total * output).to(x.dtype)

    def _embedding(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        frequencies, phases, linear = (self._of(name) for name in _NEEDED[:3])
        assert frequencies is not None
        assert phases is not None
        assert linear is not None
        waves = math.sqrt(2.0) * torch.cos(torch.outer(noise, frequencies) + phases)
        embedding, of_labels = functional.linear(waves, linear), self._of("emb_label.weight")
        if of_labels is not None:
            classes = of_labels.shape[1]
            if labels is None:
                hot = torch.zeros(len(noise), classes, dtype=noise.dtype, device=noise.device)
            else:
                hot = functional.one_hot(labels.long(), classes) if labels.ndim == 1 else labels
            embedding = _mixed(embedding, functional.linear(hot.to(noise) * math.sqrt(classes), of_labels), _EQUAL)
        return _silu(embedding)

    def _network(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = torch.cat((x, torch.ones_like(x[:, :1])), dim=1)  # in the place of biases
        skipped: list[Tensor] = []
        for block in self.blocks:
            if "_conv" in block:
                x = self._convolved(x, f"{block}weight")
            elif block.startswith("enc"):
                x = self._block(x, embedding, block)
            else:
                x = self._block(_joined(x, skipped.pop()) if "_block" in block else x, embedding, block)
            if block.startswith("enc"):
                skipped.append(x)
        return self._convolved(x, "out_conv.weight")

    def _block(self, x: Tensor, embedding: Tensor, name: str) -> Tensor:
        """Resampled, its residual branch with the embedding's gains, and attention where there is some."""
        if "_down" in name:
            x = functional.avg_pool2d(x, 2)
        elif "_up" in name:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        encodes = name.startswith("enc")
        if encodes:
            x = _unit(self._convolved(x, f"{name}conv_skip.weight"))
        gains = self._of(f"{name}emb_linear.weight")
        assert gains is not None
        y = self._convolved(_silu(x), f"{name}conv_res0.weight")
        y = _silu(y * (functional.linear(embedding, gains) + 1)[:, :, None, None])
        y = self._convolved(y, f"{name}conv_res1.weight")
        x = _mixed(x if encodes else self._convolved(x, f"{name}conv_skip.weight"), y, _BRANCH)
        if self._of(f"{name}attn_qkv.weight") is not None:
            x = _mixed(x, self._attention(x, name), _BRANCH)
        return x.clamp(-_BOUND, _BOUND)

    def _attention(self, x: Tensor, name: str) -> Tensor:
        n, channels, height, width = x.shape
        heads = channels // self.channels_a_head
        parts = self._convolved(x, f"{name}attn_qkv.weight").reshape(n, heads, -1, 3, height * width)
        q, k, v = (part.transpose(-1, -2) for part in _unit(parts, dim=2).unbind(3))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return self._convolved(y.reshape(x.shape), f"{name}attn_proj.weight")

    def _convolved(self, x: Tensor, name: str) -> Tensor:
        """A convolution of the same size; x itself where the network has none of this name."""
        weight = self._of(name)
        return x if weight is None else functional.conv2d(x, weight, padding=weight.shape[-1] // 2)


def _order(block: str) -> tuple[bool, int, bool, int]:
    """Encoder before decoder, that from large to small and this back; in a resolution what changes it first."""
    found = _PLACE.match(block)
    assert found is not None
    kind, side, what, number = found[1], int(found[2]), found[3], int(found[4] or 0)
    return (kind == "dec", -side if kind == "enc" else side, what == "block", number)


def _normalised(weight: Tensor, gain: Tensor | None) -> Tensor:
    """Filters of unit norm, times a learned gain where there is one (equations 47 and 66)."""
    flat = weight.flatten(1)
    norm = torch.linalg.vector_norm(flat, dim=1) + _EPSILON * math.sqrt(flat.shape[1])
    scaled: Tensor = weight / norm.view(-1, *(1,) * (weight.ndim - 1))
    return scaled if gain is None else scaled * gain


def _silu(x: Tensor) -> Tensor:
    return functional.silu(x) / 0.596  # its magnitude of standard normal numbers (equation 81)


def _unit(x: Tensor, dim: int = 1) -> Tensor:
    """Vectors along `dim` of unit magnitude (equation 30)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float32)
    return x / (_EPSILON + norm / math.sqrt(x.shape[dim])).to(x.dtype)


def _mixed(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Both in these shares, of their magnitude (equation 88)."""
    return a.lerp(b, share) / math.sqrt((1 - share) ** 2 + share**2)


def _joined(a: Tensor, b: Tensor) -> Tensor:
    """Side by side, each of half the contribution, of their magnitude (equation 103)."""
    both = math.sqrt((a.shape[1] + b.shape[1]) / (2 * _EQUAL**2)) * _EQUAL
    return torch.cat((a * (both / math.sqrt(a.shape[1])), b * (both / math.sqrt(b.shape[1]))), dim=1)
