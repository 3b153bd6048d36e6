"""Networks of diffusers as denoisers: our Euler is their pipelines' own loop, at equal noise."""

import itertools
import re

import diffusers
import pytest
import torch
from tests import tiny

import multidrift as md
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
STEPS = 5
TOLERANCE = 1e-4  # float32, relative to the largest latent
LATENT_CHAIN = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
}


def call(pipeline, made, start, conditioning, scale=8, **settings):
    """The latents a pipeline makes from these, without guidance; `scale`: pixels a latent's side."""
    pipeline.set_progress_bar_config(disable=True)
    names = {"encoder_hidden_states": "prompt_embeds", "pooled_projections": "pooled_prompt_embeds"}
    embeddings = {names[name]: value for name, value in conditioning.items()}
    size = {"height": scale * made.shape[-2], "width": scale * made.shape[-1]}
    settings = {"num_inference_steps": STEPS, "output_type": "latent", "latents": start, **size, **settings}
    return pipeline(**embeddings, **settings)[0]


def plain_loop(made, start, conditioning):
    pipeline = diffusers.DDIMPipeline(made.net, made.scheduler)
    made.scheduler.set_timesteps(STEPS)
    x = start
    for t in made.scheduler.timesteps:
        x = made.scheduler.step(made.net(x, t).sample, t, x).prev_sample
    return pipeline, x


def stable_diffusion(made, start, conditioning):
    pipeline = diffusers.StableDiffusionPipeline(
        vae=None, text_encoder=None, tokenizer=None, unet=made.net, scheduler=made.scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return pipeline, call(pipeline, made, start, conditioning, guidance_scale=1.0)


def stable_diffusion_xl(made, start, conditioning):
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=None, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, unet=made.net,
        scheduler=made.scheduler, add_watermarker=False,
    )  # fmt: skip
    added = conditioning["added_cond_kwargs"]
    given = {"encoder_hidden_states": conditioning["encoder_hidden_states"]}
    return pipeline, call(
        pipeline, made, start, given, guidance_scale=1.0, pooled_prompt_embeds=added["text_embeds"],
        original_size=(64, 64), target_size=(64, 64),
    )  # fmt: skip


def stable_diffusion_3(made, start, conditioning):
    pipeline = diffusers.StableDiffusion3Pipeline(
        vae=None, text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, text_encoder_3=None,
        tokenizer_3=None, transformer=made.net, scheduler=made.scheduler,
    )  # fmt: skip
    return pipeline, call(pipeline, made, start, conditioning, guidance_scale=1.0)


def flux(made, start, conditioning, **settings):
    pipeline = diffusers.FluxPipeline(
        vae=None, text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, transformer=made.net,
        scheduler=made.scheduler,
    )  # fmt: skip
    latents = pipeline._pack_latents(start, *start.shape)
    packed = call(pipeline, made, latents, conditioning, **settings)
    return pipeline, pipeline._unpack_latents(packed, 64, 96, pipeline.vae_scale_factor)


def flux2(made, start, conditioning, **settings):
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(4,) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    pipeline = diffusers.Flux2KleinPipeline(
        vae=vae, text_encoder=None, tokenizer=None, transformer=made.net, scheduler=made.scheduler
    )
    seen = []
    watch = {"callback_on_step_end": lambda pipe, i, t, given: seen.append(given["latents"]) or {}}
    call(pipeline, made, start, conditioning, scale=16, guidance_scale=1.0, **watch, **settings)
    return pipeline, seen[-1].transpose(1, 2).reshape(start.shape)


def dit(made, start, conditioning):
    pipeline = diffusers.DiTPipeline(transformer=made.net, vae=None, scheduler=made.scheduler)
    made.scheduler.set_timesteps(STEPS)
    x = start
    for t in made.scheduler.timesteps:
        output = made.net(x, timestep=t.expand(len(x)), **conditioning).sample
        x = made.scheduler.step(output[:, :4], t, x).prev_sample
    return pipeline, x


def pixart(made, start, conditioning):
    pipeline = diffusers.PixArtAlphaPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=made.net, scheduler=made.scheduler
    )
    mask = {"prompt_attention_mask": torch.ones(2, 5), "use_resolution_binning": False}
    made.net.config.sample_size = 128  # where the pipeline passes on the size
    latents = call(pipeline, made, start, conditioning, guidance_scale=1.0, **mask)
    made.net.config.sample_size = 8
    return pipeline, latents


def sana(made, start, conditioning):
    pipeline = diffusers.SanaPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=made.net, scheduler=made.scheduler
    )
    mask = {"prompt_attention_mask": torch.ones(2, 5), "use_resolution_binning": False}
    return pipeline, call(pipeline, made, start, conditioning, scale=32, guidance_scale=1.0, **mask)


def wan(made, start, conditioning):
    pipeline = diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=made.net, scheduler=made.scheduler
    )
    return pipeline, call(pipeline, made, start, conditioning, guidance_scale=1.0, num_frames=5)


def cogvideox(made, start, conditioning):
    pipeline = diffusers.CogVideoXPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=made.net, scheduler=made.scheduler
    )
    return pipeline, call(pipeline, made, start, conditioning, guidance_scale=1.0, num_frames=5)


PIPELINES = {
    "UNet2DModel": plain_loop,
    "SD": stable_diffusion,
    "SDXL": stable_diffusion_xl,
    "SD3": stable_diffusion_3,
    "Flux": flux,
    "Flux with guidance": flux,
    "Flux2": flux2,
    "DiT": dit,
    "PixArt": pixart,
    "Sana": sana,
    "Wan": wan,
    "CogVideoX": cogvideox,
    "CogVideoX 2B": cogvideox,
}


@pytest.mark.parametrize("name", PIPELINES)
def test_euler_is_the_pipelines_own_loop(name):
    made = tiny.FAMILIES[name]()
    start = torch.randn(2, *made.shape, generator=torch.Generator().manual_seed(3))
    conditioning = made.conditioning(2)
    with torch.no_grad():
        pipeline, wanted = PIPELINES[name](made, start, conditioning)
    denoiser = md.Denoiser.from_diffusers(pipeline, shape=made.shape)
    method = md.Euler(times=made.scheduler.timesteps)
    process = md.Diffusion(denoiser.schedule, eta=0)
    found = md.sample(denoiser, method, process, start=start, conditioning=conditioning).samples
    assert (found - wanted).abs().max() < TOLERANCE * wanted.abs().max()


@pytest.mark.parametrize(("name", "steps"), [("Flux", 7), ("Flux2", 50)])
def test_the_grid_of_flux_is_its_pipelines(name, steps):
    """Equal steps before the shift by resolution; FLUX.2's depends on their number, and ours is that of 50."""
    made = tiny.FAMILIES[name]()
    start = torch.randn(1, *made.shape)
    PIPELINES[name](made, start, made.conditioning(1), num_inference_steps=steps)
    denoiser = md.Denoiser.from_diffusers(made.net, made.scheduler, shape=made.shape)
    times = md.grid_times(denoiser.schedule, steps)
    assert torch.allclose(torch.from_numpy(times).float(), made.scheduler.timesteps, rtol=1e-5)


def test_ddpm_with_equal_noise(monkeypatch):
    """η = 1 is the pipeline's DDPM where its noise is that of our path."""
    made = tiny.sd(scheduler=diffusers.DDPMScheduler(**LATENT_CHAIN))
    denoiser = md.Denoiser.from_diffusers(made.net, made.scheduler)
    process, conditioning = md.Diffusion(denoiser.schedule, eta=1), made.conditioning(2)
    made.scheduler.set_timesteps(STEPS)
    times = made.scheduler.timesteps.tolist()
    keys = Keys.of((0, 0), (0, 1), Stream.NOISE, torch.device("cpu"))
    path = BrownianPath(process, keys, made.shape, torch.float32)
    places = denoiser.schedule.log_snr(times).tolist()
    queue = [*(path.increment(low, high) for low, high in itertools.pairwise(places)), torch.zeros(())]
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *args, **kwargs: queue.pop(0))
    start = torch.randn(2, *made.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        _, wanted = stable_diffusion(made, start, conditioning)
    found = md.sample(denoiser, md.Euler(times=times), process, start=start, conditioning=conditioning).samples
    assert (found - wanted).abs().max() < TOLERANCE * wanted.abs().max()


@pytest.mark.parametrize("name", PIPELINES)
def test_half_precision_stays_at_its_floor(name):
    """A bfloat16 network gives what it gives in float32, up to the rounding of its own weights and layers."""
    made = tiny.FAMILIES[name]()
    conditioning = made.conditioning(2)
    settings = {"shape": made.shape, "clip": 2.0}  # what is clipped cannot grow from step to step
    exact = md.Denoiser.from_diffusers(made.net, made.scheduler, **settings)
    process = md.Diffusion(exact.schedule, eta=0)
    wanted = md.sample(exact, md.Euler(STEPS), process, count=2, conditioning=conditioning).samples
    rounded = md.Denoiser.from_diffusers(made.net.to(torch.bfloat16), made.scheduler, **settings)
    assert rounded.dtype == torch.bfloat16
    found = md.sample(rounded, md.Euler(STEPS), process, count=2, conditioning=conditioning).samples
    assert found.dtype == torch.float32
    # Flux embeds guidance as sines of 3500, which bfloat16 rounds by 8.
    assert (found - wanted).norm() < (0.05 if "guidance" in name else 0.03) * wanted.norm()


@pytest.mark.parametrize("name", PIPELINES)
def test_one_prompt_serves_all_samples(name):
    made = tiny.FAMILIES[name]()
    denoiser = md.Denoiser.from_diffusers(made.net, made.scheduler, shape=made.shape)
    one = made.conditioning(1)
    three = {k: {n: v.expand(3, -1) for n, v in w.items()} if isinstance(w, dict) else w.expand(3, *w.shape[1:])
             for k, w in one.items()}  # fmt: skip
    x = torch.randn(3, *made.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found, wanted = (denoiser.predict(x, 700.0, "sample", given) for given in (one, three))
    assert torch.equal(found, wanted)


def test_folders_of_a_pipeline_and_of_a_network(tmp_path):
    made = tiny.sd()
    pipeline, _ = stable_diffusion(made, torch.randn(1, *made.shape), made.conditioning(1))
    pipeline.save_pretrained(tmp_path / "own")
    made.net.save_pretrained(tmp_path / "alone")
    wanted = md.Denoiser.from_diffusers(pipeline)
    for denoiser in (
        md.Denoiser.from_diffusers(tmp_path / "own"),
        md.Denoiser.from_diffusers(str(tmp_path / "alone"), made.scheduler, name="own"),
    ):
        assert denoiser.name == "own"
        assert denoiser.fingerprint == wanted.fingerprint
    half = md.Denoiser.from_diffusers(tmp_path / "own", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


def test_what_a_network_lacks_or_has_more_of():
    inpainting = tiny.sd(in_channels=9)
    denoiser = md.Denoiser.from_diffusers(inpainting.net, inpainting.scheduler)
    assert denoiser.shape == (4, 8, 8)
    given = inpainting.conditioning(2) | {"extra_channels": torch.zeros(2, 5, 8, 8)}
    assert md.sample(denoiser, md.Euler(2), count=2, conditioning=given).samples.shape == (2, 4, 8, 8)
    with pytest.raises(md.MultidriftError, match=r"conditioning\['extra_channels'\]: got None; it takes .* 5 channels"):
        md.sample(denoiser, md.Euler(2), count=2, conditioning=inpainting.conditioning(2))
    with pytest.raises(md.MultidriftError, match="got nothing; UNet2DConditionModel takes encoder_hidden_states"):
        md.sample(denoiser, md.Euler(2), count=2)
    learned = tiny.unet(out_channels=2)
    denoiser = md.Denoiser.from_diffusers(learned.net, learned.scheduler)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(denoiser.predict(x, 7.0, "epsilon", {}), learned.net(x, 7.0).sample[:, :1])


def test_scale_model_input_is_left_out():
    """Euler's schedulers divide their states by √(σ² + 1) for the network, which makes them our own."""
    made = tiny.sd(scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="trailing"))
    made.scheduler.set_timesteps(STEPS)
    denoiser = md.Denoiser.from_diffusers(made.net, made.scheduler)
    times, conditioning = made.scheduler.timesteps, made.conditioning(2)
    start = torch.randn(2, *made.shape)
    x = start * (made.scheduler.sigmas[0] ** 2 + 1) ** 0.5
    with torch.no_grad():
        for t in times:
            output = made.net(made.scheduler.scale_model_input(x, t), t, **conditioning).sample
            x = made.scheduler.step(output, t, x).prev_sample
    process = md.Diffusion(denoiser.schedule, eta=0)
    found = md.sample(denoiser, md.Euler(times=times), process, start=start, conditioning=conditioning).samples
    assert (found - x).abs().max() < TOLERANCE * x.abs().max()


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_preconditioning_of_edm(predicts):
    """A network of EDM's schedulers, called as they call it: Heun's first half, step for step."""
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.02, sigma_max=20.0, prediction_type=predicts)
    made = tiny.unet()
    denoiser = md.Denoiser.from_diffusers(made.net, scheduler)
    scheduler.set_timesteps(STEPS)
    start = torch.randn(2, *made.shape)
    x = start * scheduler.sigmas[0]
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = made.net(scheduler.scale_model_input(x, t), t).sample
            x = scheduler.step(output, t, x).prev_sample
    process = md.Diffusion(denoiser.schedule, eta=0)
    method = md.Euler(times=scheduler.sigmas[:-1])
    found = md.sample(denoiser, method, process, start=start * scheduler.sigmas[0]).samples
    assert (found - x).abs().max() < TOLERANCE * x.abs().max()


def test_score_of_the_variance_exploding_process():
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=30.0)
    made = tiny.unet()
    denoiser = md.Denoiser.from_diffusers(made.net, scheduler)
    x, t = torch.randn(2, *made.shape), 0.3
    sigma = 0.01 * 3000.0**t
    with torch.no_grad():
        found, wanted = denoiser.predict(x, t, "score", {}), made.net(x, torch.tensor(sigma)).sample
    assert float(denoiser.schedule.sigma(t)) == pytest.approx(sigma)
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "scheduler", "said"),
    [
        (tiny.sd, None, "scheduler: got None; a network alone takes the scheduler"),
        (tiny.sd, "DDIM", "scheduler: got 'str'; it takes a scheduler of diffusers"),
        (lambda: torch.nn.Linear(2, 2), None, "model: got 'Linear'; it takes a pipeline of diffusers"),
        (lambda: "/no/such/folder", None, "model: got '/no/such/folder'; it takes a pipeline"),
        (
            lambda: diffusers.AutoencoderKL(3, 3, block_out_channels=(4,), norm_num_groups=2),
            diffusers.DDIMScheduler(),
            "model: got AutoencoderKL, of no family with an adapter",
        ),
        (tiny.sd, diffusers.DDIMScheduler(thresholding=True), "scheduler: got thresholding=True"),
        (tiny.sd, diffusers.LCMScheduler(), "scheduler: got LCMScheduler, made for networks distilled"),
        (tiny.sd, diffusers.VQDiffusionScheduler(4), "scheduler: got VQDiffusionScheduler, whose noise cannot be told"),
        (tiny.sd, diffusers.EDMEulerScheduler(prediction_type="v_prediction"), None),
        (tiny.wan, diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), "shape: got None with Flow"),
        (tiny.sd3, diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas=True"),
    ],
)
def test_what_cannot_be_read_is_named(model, scheduler, said):
    made = model()
    given = made.net if isinstance(made, tiny.Tiny) else made
    if said is None:
        md.Denoiser.from_diffusers(given, scheduler)
        return
    with pytest.raises(md.MultidriftError, match=re.escape(said)):
        md.Denoiser.from_diffusers(given, scheduler)


def test_a_pipeline_says_what_to_call():
    made = tiny.sd()
    pipeline, _ = stable_diffusion(made, torch.randn(1, *made.shape), made.conditioning(1))
    with pytest.raises(
        md.MultidriftError, match=r"a pipeline; it takes a network. md.Denoiser.from_diffusers\(pipeline"
    ):
        md.Denoiser(pipeline)
    with pytest.raises(md.MultidriftError, match="md.schedules.from_diffusers"):
        md.Denoiser(made.net, made.scheduler)
    with pytest.raises(md.MultidriftError, match="schedule: got None; it takes a schedule of md.schedules"):
        md.Denoiser(made.net)
