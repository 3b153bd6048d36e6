"""Whole pipelines of diffusers around the tiny networks, one a family, with what a call of each takes."""

from types import SimpleNamespace

import diffusers
import torch
from diffusers.modular_pipelines import StableDiffusion3AutoBlocks
from tests import tiny
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def vae(channels=4):
    net = diffusers.AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=2, sample_size=16,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, shift_factor=0.1, scaling_factor=0.7,
    )  # fmt: skip
    return tiny.stirred(net, size=0.2)


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def embeds(widths, prompts=2, names=None):
    """Embeddings of so many prompts, and the negative ones, by the names of a pipeline's call."""
    generator = torch.Generator().manual_seed(5)
    known = {"encoder_hidden_states": "prompt_embeds", "pooled_projections": "pooled_prompt_embeds", **(names or {})}
    found = {}
    for name, size in widths.items():
        found[known[name]] = torch.randn(prompts, *size, generator=generator)
        found[f"negative_{known[name]}"] = torch.randn(prompts, *size, generator=generator)
    return found


class Tokenizer:
    """Letters as tokens."""

    model_max_length, vocab, added_tokens_encoder = 8, 40, ()

    def tokenize(self, text):
        return list(text)

    def __call__(self, text, **settings):
        words = [text] if isinstance(text, str) else text
        codes = [[ord(letter) % self.vocab for letter in word[:6].ljust(6)] for word in words]
        return SimpleNamespace(input_ids=torch.tensor([[0, *row, self.vocab - 1] for row in codes]))

    def batch_decode(self, ids):
        return [""] * len(ids)


def text_encoder(width=8, pooled=None):
    sizes = {"hidden_size": width, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
    last = Tokenizer.vocab - 1
    config = CLIPTextConfig(
        vocab_size=Tokenizer.vocab, max_position_embeddings=8, bos_token_id=0, eos_token_id=last, pad_token_id=0,
        **sizes, **({} if pooled is None else {"projection_dim": pooled}),
    )  # fmt: skip
    return tiny.stirred((CLIPTextModel if pooled is None else CLIPTextModelWithProjection)(config), size=0.3)


PROMPTS = {"prompt": ["a cat", "two dogs"], "negative_prompt": ["blurred", ""]}
NOTHING = dict.fromkeys(("text_encoder", "tokenizer"))


def sd(scheduler=None, kind=diffusers.StableDiffusionPipeline, **settings):
    part = tiny.sd(scheduler=scheduler, **settings)
    pipe = kind(
        vae=vae(), unet=part.net, scheduler=part.scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, text_encoder=text_encoder(), tokenizer=Tokenizer(),
    )  # fmt: skip
    return quiet(pipe), {**PROMPTS, "guidance_scale": 5.0}


def sdxl():
    part = tiny.sdxl()
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=vae(), unet=part.net, scheduler=part.scheduler, text_encoder_2=None, tokenizer_2=None, **NOTHING
    )
    widths = {"encoder_hidden_states": part.widths["encoder_hidden_states"], "pooled": (6,)}
    return quiet(pipe), embeds(widths, names={"pooled": "pooled_prompt_embeds"}) | {"guidance_scale": 5.0}


def sd3(kind=diffusers.StableDiffusion3Pipeline, **settings):
    part = tiny.sd3(**settings)
    first, second = text_encoder(4, pooled=3), text_encoder(4, pooled=3)
    pipe = kind(
        vae=vae(), transformer=part.net, scheduler=part.scheduler, text_encoder=first, tokenizer=Tokenizer(),
        text_encoder_2=second, tokenizer_2=Tokenizer(), text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    return quiet(pipe), {**PROMPTS, "guidance_scale": 4.0}


def modular(guider=None):
    """SD3 from blocks, without its text encoders and VAE."""
    blocks = StableDiffusion3AutoBlocks()
    for name in list(blocks.sub_blocks):
        if name != "denoise":
            blocks.sub_blocks.pop(name)
    blocks.sub_blocks["denoise"].sub_blocks["text2image"].sub_blocks["denoise"].set_progress_bar_config(disable=True)
    pipe, part = blocks.init_pipeline(), tiny.sd3()
    pipe.update_components(
        transformer=part.net, scheduler=part.scheduler, **({} if guider is None else {"guider": guider})
    )
    return pipe, {**embeds(part.widths), "height": 64, "width": 64, "output": "latents"}


def flux():
    part = tiny.flux(guidance=True)
    pipe = diffusers.FluxPipeline(
        vae=vae(), transformer=part.net, scheduler=part.scheduler, text_encoder_2=None, tokenizer_2=None, **NOTHING
    )
    return quiet(pipe), embeds(part.widths) | {"true_cfg_scale": 3.0, "height": 16, "width": 16}


def ddpm(scheduler=None):
    part = tiny.unet()
    own = scheduler or diffusers.DDPMScheduler(clip_sample=False)
    return quiet(diffusers.DDPMPipeline(part.net, own)), {"batch_size": 2}


def dit():
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=4,
    )  # fmt: skip
    pipe = diffusers.DiTPipeline(tiny.stirred(net), vae(), diffusers.DDIMScheduler(**tiny.LINEAR))
    return quiet(pipe), {"class_labels": [1, 2], "guidance_scale": 4.0}


def parts(made):
    """What reading a pipeline takes of it, for families without one here."""
    return SimpleNamespace(transformer=made.net, scheduler=made.scheduler)
