"""Networks of diffusers as denoisers: our Euler is their pipelines' own loop, at equal noise."""

import diffusers
import pytest
import torch
from tests import tiny

import multidrift as md

STEPS = 5
TOLERANCE = 1e-4  # float32, relative to the largest latent


def vae():
    return diffusers.AutoencoderKL(3, 3, latent_channels=4, block_out_channels=(4,), norm_num_groups=2, sample_size=16)


def unconditional(net, scheduler, start, conditioning):
    pipeline = diffusers.DDIMPipeline(net, scheduler)
    scheduler.set_timesteps(STEPS)
    x = start
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t).sample, t, x).prev_sample
    return pipeline, x


def stable_diffusion(net, scheduler, start, conditioning):
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=None, tokenizer=None, unet=net, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return pipeline, call(pipeline, start, prompt_embeds=conditioning["encoder_hidden_states"], guidance_scale=1.0)


def stable_diffusion_3(net, scheduler, start, conditioning):
    pipeline = diffusers.StableDiffusion3Pipeline(
        vae=vae(), text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, text_encoder_3=None,
        tokenizer_3=None, transformer=net, scheduler=scheduler,
    )  # fmt: skip
    return pipeline, call(pipeline, start, **texts(conditioning), guidance_scale=1.0)


def flux(net, scheduler, start, conditioning):
    pipeline = diffusers.FluxPipeline(
        vae=vae(), text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, transformer=net,
        scheduler=scheduler,
    )  # fmt: skip
    n, channels, height, width = start.shape
    latents = pipeline._pack_latents(start, n, channels, height, width)
    packed = call(pipeline, latents, **texts(conditioning))
    return pipeline, pipeline._unpack_latents(packed, height, width, pipeline.vae_scale_factor)


def texts(conditioning):
    return {
        "prompt_embeds": conditioning["encoder_hidden_states"],
        "pooled_prompt_embeds": conditioning["pooled_projections"],
    }


def call(pipeline, latents, **settings):
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": 8, "width": 8}
    return pipeline(latents=latents, num_inference_steps=STEPS, output_type="latent", **size, **settings)[0]


PIPELINES = {
    "UNet2DModel": (tiny.unet, unconditional),
    "SD": (tiny.sd, stable_diffusion),
    "SD3": (tiny.sd3, stable_diffusion_3),
    "Flux": (tiny.flux, flux),
    "Flux with guidance": (lambda: tiny.flux(guidance=True), flux),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_euler_is_the_pipelines_own_loop(name):
    build, theirs = PIPELINES[name]
    made = build()
    start = torch.randn(2, *made.shape, generator=torch.Generator().manual_seed(3))
    conditioning = made.conditioning(2)
    with torch.no_grad():
        pipeline, wanted = theirs(made.net, made.scheduler, start, conditioning)
    denoiser = md.Denoiser.from_diffusers(pipeline, shape=made.shape)
    method = md.Euler(times=made.scheduler.timesteps)
    process = md.Diffusion(denoiser.schedule, eta=0)
    found = md.sample(denoiser, method, process, start=start, conditioning=conditioning).samples
    assert (found - wanted).abs().max() < TOLERANCE * wanted.abs().max()
