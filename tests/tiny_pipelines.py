"""Whole pipelines of diffusers around the tiny networks, one a family, with what a call of each takes."""

import copy
import functools
import inspect
from types import SimpleNamespace

import diffusers
import torch
from diffusers.modular_pipelines import StableDiffusion3AutoBlocks
from tests import tiny
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def autoencoder(channels=4, scale=0.7):
    net = diffusers.AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=2, sample_size=16,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, shift_factor=0.1, scaling_factor=scale,
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


def sd(scheduler=None, kind=diffusers.StableDiffusionPipeline, vae=None, **settings):
    part = tiny.sd(scheduler=scheduler, **settings)
    pipe = kind(
        vae=vae or autoencoder(), unet=part.net, scheduler=part.scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, text_encoder=text_encoder(), tokenizer=Tokenizer(),
    )  # fmt: skip
    return quiet(pipe), {**PROMPTS, "guidance_scale": 5.0}


def sdxl(kind=diffusers.StableDiffusionXLPipeline):
    part = tiny.sdxl()
    pipe = kind(
        vae=autoencoder(), unet=part.net, scheduler=part.scheduler, text_encoder_2=None, tokenizer_2=None, **NOTHING
    )
    widths = {"encoder_hidden_states": part.widths["encoder_hidden_states"], "pooled": (6,)}
    return quiet(pipe), embeds(widths, names={"pooled": "pooled_prompt_embeds"}) | {"guidance_scale": 5.0}


def sd3(kind=diffusers.StableDiffusion3Pipeline, **settings):
    part = tiny.sd3(**settings)
    first, second = text_encoder(4, pooled=3), text_encoder(4, pooled=3)
    pipe = kind(
        vae=autoencoder(), transformer=part.net, scheduler=part.scheduler, text_encoder=first, tokenizer=Tokenizer(),
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


def flux(kind=diffusers.FluxPipeline):
    part = tiny.flux(guidance=True)
    pipe = kind(
        vae=autoencoder(),
        transformer=part.net,
        scheduler=part.scheduler,
        text_encoder_2=None,
        tokenizer_2=None,
        **NOTHING,
    )
    return quiet(pipe), embeds(part.widths) | {"true_cfg_scale": 3.0, "height": 16, "width": 16}


def cached():
    """Flux with a cache of diffusers enabled."""
    pipe, given = flux()
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    return pipe, given


def ddpm(scheduler=None):
    part = tiny.unet()
    own = scheduler or diffusers.DDPMScheduler(clip_sample=False)
    return quiet(diffusers.DDPMPipeline(part.net, own)), {"batch_size": 2}


def dit():
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=4,
    )  # fmt: skip
    pipe = diffusers.DiTPipeline(tiny.stirred(net), autoencoder(), diffusers.DDIMScheduler(**tiny.LINEAR))
    return quiet(pipe), {"class_labels": [1, 2], "guidance_scale": 4.0}


def masked(part):
    """Embeddings of two prompts, and the masks of their tokens: the last of the second prompt is padding."""
    mask = torch.ones(2, 5)
    mask[1, -1] = 0
    masks = {"prompt_attention_mask": mask, "negative_prompt_attention_mask": torch.ones(2, 5)}
    return (
        embeds(part.widths) | masks | {"use_resolution_binning": False, "guidance_scale": 4.0, "negative_prompt": None}
    )


def pixart():
    part = tiny.pixart()
    part.net.register_to_config(sample_size=128)  # where the pipeline passes on size and aspect
    pipe = diffusers.PixArtAlphaPipeline(vae=None, transformer=part.net, scheduler=part.scheduler, **NOTHING)
    return quiet(pipe), masked(part) | {"height": 64, "width": 96}


def sana():
    part = tiny.sana()
    pipe = diffusers.SanaPipeline(vae=None, transformer=part.net, scheduler=part.scheduler, **NOTHING)
    return quiet(pipe), masked(part) | {"height": 256, "width": 256}


def video():
    return {"guidance_scale": 4.0, "height": 32, "width": 48, "num_frames": 5}


def wan(second=None, **settings):
    """Wan 2.1; with a `second` network 2.2, where that takes over at 0.9 of the noise."""
    part = tiny.wan()
    pipe = diffusers.WanPipeline(
        vae=None, transformer=part.net, scheduler=part.scheduler, transformer_2=second,
        boundary_ratio=None if second is None else 0.9, **settings, **NOTHING,
    )  # fmt: skip
    return quiet(pipe), embeds(part.widths) | video()


def cogvideox():
    part = tiny.cogvideox()
    pipe = diffusers.CogVideoXPipeline(vae=None, transformer=part.net, scheduler=part.scheduler, **NOTHING)
    return quiet(pipe), embeds(part.widths) | video() | {"height": 64, "width": 96}


def flux2():
    part = tiny.flux2()
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(4,) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    pipe = diffusers.Flux2KleinPipeline(vae=vae, transformer=part.net, scheduler=part.scheduler, **NOTHING)
    return quiet(pipe), embeds(part.widths) | {"guidance_scale": 3.0, "height": 64, "width": 96}


def parts(made):
    """What reading a pipeline takes of it, for families without one here."""
    return SimpleNamespace(transformer=made.net, scheduler=made.scheduler)


STEPS = 5
PIXELS = ("DDPMPipeline", "DiTPipeline")  # which give no latents


def ddim(**settings):
    return diffusers.DDIMScheduler(**{**tiny.LATENT, **settings})


FAMILIES = {
    "sd": sd,
    "sd-ends-in-noise": lambda: sd(ddim(set_alpha_to_one=False, steps_offset=1)),
    "sd-v": lambda: sd(ddim(prediction_type="v_prediction", timestep_spacing="trailing")),
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "flux2": flux2,
    "dit": dit,
    "pixart": pixart,
    "sana": sana,
    "wan": wan,
    "cogvideox": cogvideox,
    "pixels": lambda: ddpm(diffusers.DDIMScheduler(clip_sample=False)),
}
# One of each architecture: the others differ in their schedulers.
ARCHITECTURES = tuple(name for name in FAMILIES if not name.startswith("sd-"))


@functools.cache
def of(family):
    """One pipeline a family, for tests that leave it as they found it."""
    return FAMILIES[family]()


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def call(pipe, given, seed=3, **more):
    """Latents, or the pictures of pipelines that give no latents."""
    output = "np" if type(pipe).__name__ in PIXELS else "latent"
    settings = {"output_type": output, "num_inference_steps": STEPS, "generator": seeded(seed)}
    return torch.as_tensor(pipe(**{**given, **settings, **more})[0])


def picture(seed=0):
    return torch.rand(1, 3, 16, 16, generator=seeded(seed))


def twice(pipe):
    """The setting of a call that gives two samples a prompt, of pipelines that heed it beside embeddings."""
    takes = inspect.signature(type(pipe).__call__).parameters
    heeds = "num_images_per_prompt" in takes and type(pipe).__name__ not in ("FluxPipeline", "FluxImg2ImgPipeline")
    return {"num_images_per_prompt": 2} if heeds else {}


def copied(pipe):
    """A lower level that is the network itself: every difference of levels is zero."""
    return [copy.deepcopy(getattr(pipe, "transformer", None) or pipe.unet)]


def controlled(**settings):
    """Stable Diffusion with a ControlNet, and the picture that it follows."""
    part = tiny.sd()
    names = ("in_channels", "layers_per_block", "norm_num_groups", "block_out_channels", "down_block_types")
    same = {name: part.net.config[name] for name in (*names, "cross_attention_dim", "attention_head_dim")}
    net = diffusers.ControlNetModel(**same, conditioning_embedding_out_channels=(4, 4))
    pipe = diffusers.StableDiffusionControlNetPipeline(
        vae=autoencoder(), unet=part.net, controlnet=tiny.stirred(net), scheduler=part.scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False, text_encoder=text_encoder(), tokenizer=Tokenizer(),
    )  # fmt: skip
    more = {"image": torch.rand(2, 3, 16, 16, generator=seeded(1)), "guidance_scale": 5.0}
    return quiet(pipe), {**PROMPTS, **more, **settings}


def load_picture_adapter(net, seed=0, width=6):
    """An IP-Adapter with random weights, in diffusers' own layout, for pictures of this width."""
    generator = seeded(seed)
    text = net.config.cross_attention_dim
    shapes = {"proj.weight": (4 * text, width), "proj.bias": (4 * text,), "norm.weight": (text,), "norm.bias": (text,)}
    attention, place = {}, 1
    for name in net.attn_processors:
        if name.endswith("attn2.processor"):
            hidden = net.get_submodule(name.removesuffix(".processor")).to_q.out_features
            for key in ("to_k_ip", "to_v_ip"):
                attention[f"{place}.{key}.weight"] = torch.randn(hidden, text, generator=generator)
            place += 2
    picture_to_text = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    net._load_ip_adapter_weights([{"image_proj": picture_to_text, "ip_adapter": attention}])
