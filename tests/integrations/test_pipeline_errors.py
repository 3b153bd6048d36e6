"""Pipelines, levels, methods and calls that cannot be: one clear error each."""

import diffusers
import pytest
import torch
from tests import tiny_pipelines as pipelines
from tests.tiny_pipelines import STEPS, call, copied

import multidrift as md
from multidrift.integrations.diffusers import accelerate

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::multidrift.PlanWarning"),
]


def other_latents():
    return [pipelines.tiny.sd(in_channels=8).net]


def level(schedule=None, predicts="epsilon"):
    part = pipelines.tiny.sd()
    return md.Denoiser(part.net, schedule or md.schedules.from_diffusers(part.scheduler), predicts, name="f")


def guided():
    return level().guided(2.0)


@pytest.mark.parametrize(
    ("make", "method", "settings", "message"),
    [
        (pipelines.sd, "fast", {}, "method: got 'fast'"),
        (
            lambda: (pipelines.autoencoder(), {}),
            md.Euler(3),
            {},
            "pipe: got AutoencoderKL; it takes a pipeline of diffusers",
        ),
        (
            pipelines.sd,
            md.Euler(3),
            {"ladder": other_latents()},
            "level f1: has in_channels=8, the pipeline's network 4",
        ),
        (pipelines.sd, md.Euler(3), {"ladder": []}, "ladder: got \\[\\]"),
        (pipelines.sd, md.Euler(3), {"ladder": 3}, "ladder: got 3; it takes an md.Ladder, or a list"),
        (pipelines.sd, md.Euler(3), {"ladder": [guided()]}, "level f: got 'guidance or a transform'"),
        (pipelines.sd, md.Euler(3), {"ladder": [level(predicts="sample")]}, "level f: got \"predicts='sample'\""),
        (
            pipelines.sd,
            md.Euler(3),
            {"ladder": [level(schedule=md.schedules.ddpm())]},
            "level f: was trained on another",
        ),
        (
            pipelines.cached,
            md.Picard(STEPS),
            {},
            "level model: has a cache enabled .enable_cache., which reuses what the step before",
        ),
        (lambda: pipelines.sd(diffusers.LCMScheduler()), md.Euler(3), {}, "scheduler: got LCMScheduler"),
        (
            lambda: pipelines.sd(diffusers.EDMEulerScheduler()),
            md.Euler(3),
            {},
            "scheduler: got EDMEulerScheduler, of unsc",
        ),
    ],
)
def test_one_clear_error(make, method, settings, message):
    pipe, given = make()
    with pytest.raises(md.MultidriftError, match=message), accelerate(pipe, method, **settings):
        call(pipe, given)


OTHERS = {
    "schedule": (lambda: pipelines.sd(diffusers.DDIMScheduler(beta_schedule="linear")), "trained on another noise sch"),
    "prediction": (lambda: pipelines.sd(pipelines.ddim(prediction_type="v_prediction")), "predicts='v_prediction'"),
    "VAE": (
        lambda: pipelines.sd(vae=pipelines.autoencoder(scale=0.13)),
        "its VAE scales latents by {'scaling_factor': 0.13",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_pipelines_of_other_latents_or_noise_are_no_levels(name):
    make, message = OTHERS[name]
    pipe, _ = pipelines.of("sd")
    with pytest.raises(md.MultidriftError, match=f"^level f1: .*{message}"):
        accelerate(pipe, md.Euler(STEPS), [make()[0]])


def test_parts_of_the_noise_levels_and_too_little_strength_are_refused():
    pipe, given = pipelines.sdxl()
    with accelerate(pipe, md.Euler(STEPS)), pytest.raises(md.MultidriftError, match="denoising_end: got 0.8"):
        call(pipe, given, denoising_end=0.8)
    pipe, given = pipelines.sd(kind=diffusers.StableDiffusionImg2ImgPipeline)
    with accelerate(pipe, md.Euler(STEPS)), pytest.raises(md.MultidriftError, match="strength: got 'one that leaves 1"):
        call(pipe, given, image=pipelines.picture(), strength=0.2)


def test_a_picture_is_not_finite_and_the_error_says_where():
    pipe, given = pipelines.sd()
    torch.nn.init.constant_(pipe.unet.conv_out.bias, float("nan"))
    with (
        accelerate(pipe, md.Euler(STEPS)),
        pytest.raises(md.MultidriftError, match="the prediction is not finite at step"),
    ):
        call(pipe, given)


# What goes by the number of the round, or by its one time -----------------------------------------------

BY_ROUNDS = {
    "sd3": ({"skip_guidance_layers": [0]}, r"skip_guidance_layers: got \[0\], which leaves out layers in a part of"),
    "cogvideox": (
        {"use_dynamic_cfg": True},
        "use_dynamic_cfg: got True, which changes the guidance from round",
    ),
}


@pytest.mark.parametrize("family", BY_ROUNDS)
def test_settings_that_count_rounds_take_methods_of_one_round_a_step(family):
    settings, message = BY_ROUNDS[family]
    pipe, given = pipelines.of(family)
    wanted = call(pipe, given, **settings)
    with accelerate(pipe, md.Euler(STEPS)):
        assert torch.allclose(call(pipe, given, **settings), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
    for method in (md.Picard(STEPS), md.Multilevel(STEPS, calls=(STEPS, 3))):
        lower = copied(pipe) if isinstance(method, md.Multilevel) else None
        with accelerate(pipe, method, lower), pytest.raises(md.MultidriftError, match=message):
            call(pipe, given, **settings)


def test_states_with_something_behind_them_go_step_by_step():
    """A network of nine channels: mask and picture are put behind all samples' states, whichever a round holds."""
    pipe, given = pipelines.sd(kind=diffusers.StableDiffusionInpaintPipeline, in_channels=9)
    more = {"image": pipelines.picture(), "mask_image": torch.ones(1, 1, 16, 16), "height": 16, "width": 16}
    wanted = call(pipe, given, **more)
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 3)), copied(pipe)):
        assert torch.allclose(call(pipe, given, **more), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
    with (
        accelerate(pipe, md.PoissonMidpoint(STEPS, substeps=4, draws="single")),  # all samples, each at its own time
        pytest.raises(md.MultidriftError, match="pipe: passes more than the states to its network, and rounds of Poi"),
    ):
        call(pipe, given, **more)


def test_out_of_memory_says_which_level_and_what_to_lower(monkeypatch):
    pipe, given = pipelines.of("sd")
    small = copied(pipe)

    def full(*_, **__):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(small[0], "forward", full)
    message = "level f1: out of memory on 4 rows at once; it takes fewer prompts or images a call, .* window="
    with (
        accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 3)), small),
        pytest.raises(md.MultidriftError, match=message),
    ):
        call(pipe, given)
