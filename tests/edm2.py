"""EDM2 as its weights are named and its paper builds it, with random weights: layers normalise as they are called."""

import math

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional


class Conv(nn.Module):
    def __init__(self, taken, made, side=()):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(made, taken, *side))

    def forward(self, x, gain=1.0):
        w = unit(self.weight, tuple(range(1, self.weight.ndim))) * (gain / math.sqrt(self.weight[0].numel()))
        return x @ w.t() if w.ndim == 2 else functional.conv2d(x, w, padding=w.shape[-1] // 2)


def unit(x, dims):
    size = math.prod(x.shape[d] for d in dims)
    return x / (1e-4 + x.square().sum(dims, keepdim=True).sqrt() / math.sqrt(size))


def added(a, b, t):
    return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)


def active(x):
    return x * torch.sigmoid(x) / 0.596


class Block(nn.Module):
    def __init__(self, taken, made, embedded, *, decodes=False, resample=None, heads=0):
        super().__init__()
        self.decodes, self.resample, self.heads = decodes, resample, heads
        self.emb_gain = nn.Parameter(torch.tensor(0.3))
        self.conv_res0, self.conv_res1 = Conv(taken if decodes else made, made, (3, 3)), Conv(made, made, (3, 3))
        self.emb_linear = Conv(embedded, made)
        self.conv_skip = Conv(taken, made, (1, 1)) if taken != made else None
        self.attn_qkv, self.attn_proj = (
            (Conv(made, 3 * made, (1, 1)), Conv(made, made, (1, 1))) if heads else (None,) * 2
        )

    def forward(self, x, emb):
        if self.resample == "down":
            x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
        elif self.resample == "up":
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        if not self.decodes:
            x = unit(x if self.conv_skip is None else self.conv_skip(x), (1,))
        y = self.conv_res0(active(x)) * (self.emb_linear(emb, self.emb_gain) + 1)[..., None, None]
        y = self.conv_res1(active(y))
        if self.decodes and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = added(x, y, 0.3)
        if self.heads:
            n, c, h, w = x.shape
            q, k, v = unit(self.attn_qkv(x).view(n, self.heads, c // self.heads, 3, h * w), (2,)).unbind(3)
            mixing = torch.softmax(q.transpose(2, 3) @ k / math.sqrt(c // self.heads), dim=-1)
            x = added(x, self.attn_proj((v @ mixing.transpose(2, 3)).reshape(n, c, h, w)), 0.3)
        return x.clamp(-256, 256)


class UNet(nn.Module):
    def __init__(self, width, multiples=(1, 2, 3, 4), blocks=3, side=64, attention=(16, 8), classes=1000, a_head=64):
        super().__init__()
        widths = [width * multiple for multiple in multiples]
        embedded, sides = max(widths), [side >> level for level in range(len(widths))]
        self.emb_fourier = nn.Module()
        self.emb_fourier.register_buffer("freqs", 2 * math.pi * torch.randn(widths[0]))
        self.emb_fourier.register_buffer("phases", 2 * math.pi * torch.rand(widths[0]))
        self.emb_noise, self.emb_label = Conv(widths[0], embedded), Conv(classes, embedded)
        self.enc, self.dec, self.classes, skips, c = nn.ModuleDict(), nn.ModuleDict(), classes, [], 5

        def heads(r, made):
            return made // a_head if r in attention else 0

        for r, made in zip(sides, widths, strict=True):
            if r == side:
                self.enc[f"{r}x{r}_conv"] = Conv(c, made, (3, 3))
                c = made
            else:
                self.enc[f"{r}x{r}_down"] = Block(c, c, embedded, resample="down")
            skips.append(c)
            for i in range(blocks):
                self.enc[f"{r}x{r}_block{i}"] = Block(c, made, embedded, heads=heads(r, made))
                skips.append(c := made)
        for r, made in zip(sides[::-1], widths[::-1], strict=True):
            if r == sides[-1]:
                self.dec[f"{r}x{r}_in0"] = Block(c, c, embedded, decodes=True, heads=c // a_head)
                self.dec[f"{r}x{r}_in1"] = Block(c, c, embedded, decodes=True)
            else:
                self.dec[f"{r}x{r}_up"] = Block(c, c, embedded, decodes=True, resample="up")
            for i in range(blocks + 1):
                taken = c + skips.pop()
                self.dec[f"{r}x{r}_block{i}"] = Block(taken, made, embedded, decodes=True, heads=heads(r, made))
                c = made
        self.out_conv, self.out_gain = Conv(c, 4, (3, 3)), nn.Parameter(torch.tensor(0.8))

    def forward(self, x, noise, labels):
        emb = self.emb_noise(
            math.sqrt(2) * torch.cos(noise[:, None] * self.emb_fourier.freqs + self.emb_fourier.phases)
        )
        emb = active(added(emb, self.emb_label(math.sqrt(self.classes) * labels), 0.5))
        x, kept = torch.cat((x, torch.ones_like(x[:, :1])), dim=1), []
        for name, part in self.enc.items():
            x = part(x) if "conv" in name else part(x, emb)
            kept.append(x)
        for name, part in self.dec.items():
            if "block" in name:
                skip = kept.pop()
                both = math.sqrt((x.shape[1] + skip.shape[1]) / 0.5)
                halves = (0.5 * both * part_ / math.sqrt(part_.shape[1]) for part_ in (x, skip))
                x = torch.cat(tuple(halves), dim=1)
            x = part(x, emb)
        return self.out_conv(x, self.out_gain)


SMALL = {"width": 64, "multiples": (1, 2), "blocks": 1, "side": 8, "attention": (4,), "classes": 5}


def saved(folder, **settings):
    """A small one, and its weights in a folder as they are published."""
    torch.manual_seed(0)
    own = UNet(**SMALL | settings)
    weights = {f"unet.{name}": value.contiguous() for name, value in own.state_dict().items()}
    weights["logvar_linear.weight"] = torch.zeros(1, 128)  # of training alone
    (folder / "unet").mkdir(parents=True)
    save_file(weights, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return own
