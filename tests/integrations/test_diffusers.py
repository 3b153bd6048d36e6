"""A pipeline with our loop: the same pictures where the method is the scheduler's, and all that a call of it takes."""

import copy
import itertools
import json
import threading
import warnings

import diffusers
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers.callbacks import SDCFGCutoffCallback
from tests import tiny_pipelines as pipelines

import multidrift as md
from multidrift.integrations.diffusers import accelerate
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath

STEPS = 5


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def call(pipe, given, seed=3, **more):
    """Latents, or the pictures of pipelines that give no latents."""
    latents = {} if "Pipeline" in type(pipe).__name__ and type(pipe).__name__ in PIXELS else {"output_type": "latent"}
    number = {"num_inference_steps": STEPS}
    images = pipe(**{**given, **latents, **number, "generator": seeded(seed), **more}).images
    return torch.as_tensor(images)


PIXELS = {"DDPMPipeline": "np", "DiTPipeline": "np"}


def shown(pipe, given, **more):
    return call(pipe, given, **({"output_type": "np"} if type(pipe).__name__ in PIXELS else {}), **more)


FAMILIES = {
    "sd": pipelines.sd,
    "sd-ends-in-noise": lambda: pipelines.sd(scheduler(set_alpha_to_one=False, steps_offset=1)),
    "sd-v": lambda: pipelines.sd(scheduler(prediction_type="v_prediction", timestep_spacing="trailing")),
    "sdxl": pipelines.sdxl,
    "sd3": pipelines.sd3,
    "flux": pipelines.flux,
    "dit": pipelines.dit,
    "pixels": lambda: pipelines.ddpm(diffusers.DDIMScheduler(clip_sample=False)),
}


def scheduler(**settings):
    return diffusers.DDIMScheduler(**{**pipelines.tiny.LATENT, **settings})


@pytest.mark.parametrize("family", FAMILIES)
def test_euler_is_the_pipelines_own_solver(family):
    """DDIM and FlowMatchEuler, with guidance, two prompts and two images of each."""
    pipe, given = FAMILIES[family]()
    many = {"num_images_per_prompt": 2} if family.startswith("sd") else {}
    wanted = shown(pipe, given, **many)
    with accelerate(pipe, md.Euler(STEPS)) as running:
        found = shown(pipe, given, **many)
        assert running.calls == {"model": STEPS}
    assert found.shape == wanted.shape
    size = max(1.0, float(wanted.abs().max()))
    assert torch.allclose(found, wanted, atol=1e-4 * size, rtol=0)
    assert torch.equal(shown(pipe, given, **many), wanted)


def both(family, method, ladder=None, **more):
    """Euler's picture and a method's, of one family and seed."""
    pipe, given = FAMILIES[family]()
    with accelerate(pipe, md.Euler(STEPS)):
        wanted = shown(pipe, given, **more)
    lower = None if ladder is None else ladder(pipe)
    with accelerate(pipe, method, lower) as running:
        found = shown(pipe, given, **more)
    return found, wanted, running


def copied(pipe):
    """A lower level that is the network itself: every difference of levels is zero."""
    return [copy.deepcopy(getattr(pipe, "transformer", None) or pipe.unet)]


SAME = {
    "Picard": (md.Picard(STEPS, tolerance=1e-5), None),
    "Poisson": (md.PoissonMidpoint(STEPS, substeps=1), None),
    "Multilevel": (md.Multilevel(STEPS, calls=(STEPS, 3)), copied),
    "Multilevel-each": (md.Multilevel(STEPS, calls=(STEPS, 3), draws="independent", shared=False), copied),
    "ladder-Picard": (md.Picard(STEPS, coarse="f1", tolerance=1e-5), copied),
}


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux", "dit", "pixels"])
@pytest.mark.parametrize("name", SAME)
def test_methods_that_equal_euler_do_so_in_every_pipeline(family, name):
    """Calls of some samples, at times of their own, in every branch of the guidance."""
    found, wanted, running = both(family, *SAME[name])
    assert torch.allclose(found, wanted, atol=1e-3 * max(1.0, float(wanted.abs().max())), rtol=0)
    assert all(calls > 0 for calls in running.calls.values())


RUNS = {
    "Multistep": md.Multistep(STEPS),
    "Poisson": md.PoissonMidpoint(STEPS, substeps=4),
    "Poisson-midpoint": md.PoissonMidpoint(STEPS, substeps=4, draws="midpoint"),
    "LadderMultistep": md.LadderMultistep(4, levels=("f1", "model")),
    "Picard": md.Picard(STEPS, window=3),
    "PredictorCorrector": md.PredictorCorrector(md.Picard(STEPS, blocks=2), md.Picard(3)),
}


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning", "ignore::multidrift.RunWarning")
@pytest.mark.parametrize("family", ["sd", "sd3", "flux", "dit"])
@pytest.mark.parametrize("name", RUNS)
def test_every_method_runs_on_every_family(family, name):
    found, wanted, _ = both(family, RUNS[name], copied if name == "LadderMultistep" else None)
    assert torch.isfinite(found).all()
    assert found.shape == wanted.shape


def test_the_same_noise_gives_ddpms_picture(monkeypatch):
    """DDPM's chain, its draws replaced by the increments that ours reads."""
    pipe, given = pipelines.sd(diffusers.DDPMScheduler(beta_schedule="scaled_linear", clip_sample=False))
    with accelerate(pipe, md.Euler(STEPS)):
        found = call(pipe, given)
    generator = seeded()
    shape = torch.randn(2, 4, 8, 8, generator=generator).shape
    seed = int(torch.randint(0, 2**63 - 1, (), generator=generator))
    process = md.Diffusion(md.schedules.from_diffusers(pipe.scheduler))
    keys = Keys.of([seed] * 2, range(2), Stream.NOISE, torch.device("cpu"))
    path = BrownianPath(process, keys, shape[1:], torch.float32)
    places = process.schedule.log_snr([801.0, 601.0, 401.0, 201.0, 1.0]).tolist()
    last = torch.zeros(shape)  # drawn by the chain and multiplied with nothing
    noise = iter([*(path.increment(low, high) for low, high in itertools.pairwise(places)), last])
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(noise))
    wanted = call(pipe, given)
    assert next(noise, None) is None
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


# What a call of a pipeline takes ----------------------------------------------------------------------


def picture(seed=0):
    return torch.rand(1, 3, 16, 16, generator=seeded(seed))


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_image_to_image_starts_where_the_pipeline_does(family):
    kinds = {"sd": diffusers.StableDiffusionImg2ImgPipeline, "sd3": diffusers.StableDiffusion3Img2ImgPipeline}
    pipe, given = getattr(pipelines, family)(kind=kinds[family])
    more = {"image": picture(), "strength": 0.6, "num_inference_steps": 10, "num_images_per_prompt": 2}
    wanted = call(pipe, given, **more)
    with accelerate(pipe, md.Euler(10)) as running:
        found = call(pipe, given, **more)
        assert running.calls == {"model": 6}
    assert torch.allclose(found, wanted, atol=1e-4 * max(1.0, float(wanted.abs().max())), rtol=0)
    with accelerate(pipe, md.Multilevel(10, calls=(10, 6)), copied(pipe)) as running, warnings.catch_warnings():
        warnings.simplefilter("ignore", md.PlanWarning)
        assert torch.allclose(call(pipe, given, **more), found, atol=1e-3, rtol=0)
        assert 0 < running.calls["f1"] <= 5


def test_inpainting_mixes_in_what_is_known_after_every_step():
    pipe, given = pipelines.sd(kind=diffusers.StableDiffusionInpaintPipeline)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    more = {"image": picture(), "mask_image": mask, "strength": 1.0, "height": 16, "width": 16}
    wanted = call(pipe, given, **more)
    with accelerate(pipe, md.Euler(STEPS)):
        assert torch.allclose(call(pipe, given, **more), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
    with (
        accelerate(pipe, md.Picard(STEPS)),
        pytest.raises(md.MultidriftError, match="does not take states of several times"),
    ):
        call(pipe, given, **more)


def halve_at_two(pipe, number, timestep, tensors):
    return {"latents": 0.5 * tensors["latents"]} if number == 2 else {}


def test_callbacks_see_every_step_and_what_they_change_is_kept():
    pipe, given = pipelines.sd()
    seen = []

    def watch(own, number, timestep, tensors):
        assert own is pipe
        seen.append((number, float(timestep), tensors["latents"].clone(), len(tensors["prompt_embeds"])))
        return halve_at_two(own, number, timestep, tensors)

    more = {"callback_on_step_end": watch, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    wanted = call(pipe, given, **more)
    theirs, seen = seen, []
    with accelerate(pipe, md.Euler(STEPS)):
        found = call(pipe, given, **more)
    for (number, t, latents, rows), (other, u, own, lines) in zip(theirs, seen, strict=True):
        assert (number, t, rows) == (other, u, lines)
        assert torch.allclose(latents, own, atol=1e-4 * float(latents.abs().max()), rtol=0)
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
def test_callbacks_come_once_a_step_whatever_a_step_calls():
    pipe, given = pipelines.sd()
    numbers = []
    more = {"callback_on_step_end": lambda p, number, t, tensors: numbers.append(number) or {}}
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 4)), copied(pipe)):
        plain = call(pipe, given)
        assert torch.equal(call(pipe, given, **more), plain)
        assert numbers == list(range(STEPS))
        changed = call(pipe, given, callback_on_step_end=halve_at_two)
        assert not torch.allclose(changed, plain, atol=1e-2)
    with accelerate(pipe, md.Euler(STEPS)):
        assert torch.allclose(call(pipe, given, callback_on_step_end=halve_at_two), changed, atol=1e-3)
    with accelerate(pipe, md.Picard(STEPS)):
        assert torch.isfinite(call(pipe, given, **more)).all()
        with pytest.raises(md.MultidriftError, match="Picard has no one state"):
            call(pipe, given, callback_on_step_end=lambda p, n, t, tensors: {"latents": 0.5 * tensors["latents"]})


def test_guidance_can_be_cut_off_by_diffusers_own_callback():
    pipe, _ = pipelines.sd()
    given = {"prompt": "a cat", "guidance_scale": 5.0}
    cut = SDCFGCutoffCallback(cutoff_step_ratio=0.4)
    wanted = call(pipe, given, callback_on_step_end=cut)
    with accelerate(pipe, md.Euler(STEPS)):
        found = call(pipe, given, callback_on_step_end=cut)
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


@pytest.mark.parametrize("method", [md.Euler(STEPS), md.Picard(STEPS)], ids=["Euler", "Picard"])
def test_an_interrupt_ends_with_the_state_it_found(method):
    pipe, given = pipelines.sd()
    states = []

    def stop(own, number, timestep, tensors):
        states.append(tensors["latents"].clone())
        own._interrupt = number >= 1
        return {}

    with accelerate(pipe, method):
        found = call(pipe, given, callback_on_step_end=stop)
    assert torch.equal(found, states[-1])
    assert len(states) < STEPS + 1


def test_a_generator_for_each_sample_makes_it_its_own():
    pipe, given = pipelines.sd()
    one = {"prompt": "a cat", "negative_prompt": "", "guidance_scale": 4.0}
    with accelerate(pipe, md.Euler(STEPS), eta=1.0):
        generators = [seeded(seed) for seed in (7, 8, 9)]
        three = call(pipe, {**one, "prompt": ["a cat"] * 3, "negative_prompt": [""] * 3}, generator=generators)
        alone = call(pipe, one, generator=seeded(8))
        listed = call(pipe, one, generator=[seeded(8)])
        assert torch.allclose(three[1:2], listed, atol=1e-4 * float(three.abs().max()))
        assert torch.equal(alone, listed)
        again = seeded(8)
        first, second = call(pipe, one, generator=again), call(pipe, one, generator=again)
        assert torch.equal(first, alone)
        assert not torch.allclose(first, second)
        with pytest.raises(ValueError, match="list of generators of length 2"):
            call(pipe, given, generator=[seeded()] * 2, num_images_per_prompt=2)


@pytest.mark.parametrize("output", ["np", "pt", "pil", "latent"])
def test_every_kind_of_output(output):
    pipe, given = pipelines.sd()
    wanted = call(pipe, given, output_type=output) if output != "pil" else None
    with accelerate(pipe, md.Euler(STEPS)):
        if output == "pil":
            images = pipe(**given, num_inference_steps=2).images
            assert [image.size for image in images] == [(16, 16)] * 2
            assert isinstance(pipe(**given, num_inference_steps=2, return_dict=False), tuple)
        else:
            assert torch.allclose(call(pipe, given, output_type=output), wanted, atol=1e-3)


def test_networks_keep_their_dtype_and_states_are_float32():
    pipe, given = pipelines.sd()
    wanted = call(pipe, given)
    pipe.to(torch.bfloat16)
    theirs = call(pipe, given)
    with accelerate(pipe, md.Euler(STEPS)) as running:
        found = call(pipe, given)
        assert pipe.unet.dtype == torch.bfloat16
        assert running.state.x.dtype == torch.float32
    assert found.dtype == torch.bfloat16
    size = float(wanted.abs().max())
    ours, own = (float((x.float() - wanted).abs().max()) / size for x in (found, theirs))
    assert ours < 0.1 > own


def test_offloaded_networks_are_called_through_their_hooks():
    pipe, given = pipelines.sd()
    wanted = call(pipe, given)
    calls = []

    class Hook(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append(len(args[0]))
            return args, kwargs

    add_hook_to_module(pipe.unet, Hook())
    with accelerate(pipe, md.Euler(STEPS)):
        assert torch.allclose(call(pipe, given), wanted, atol=1e-4 * float(wanted.abs().max()))
    assert calls == [4] * STEPS


def test_the_number_of_steps_of_a_call_is_taken():
    pipe, given = pipelines.sd()
    with accelerate(pipe, md.Euler(STEPS)) as running:
        call(pipe, given, num_inference_steps=4)
        assert running.calls == {"model": 4}
        pipe(**given, output_type="latent")
        assert running.calls == {"model": STEPS}
    with accelerate(pipe, md.Euler(times=(900.0, 500.0, 20.0))) as running:
        pipe(**given, output_type="latent")
        assert running.calls == {"model": 3}
        with pytest.raises(md.MultidriftError, match="num_inference_steps: got 4; it takes 3"):
            call(pipe, given, num_inference_steps=4)


def test_undo_gives_the_pipeline_back(tmp_path):
    pipe, given = pipelines.sd()
    kind, parts = type(pipe), dict(pipe.components)
    wanted = call(pipe, given)
    running = accelerate(pipe, md.Multistep(STEPS))
    assert isinstance(pipe, kind)
    assert type(pipe).__name__ == kind.__name__
    call(pipe, given)
    assert pipe.components == parts
    with pytest.raises(md.MultidriftError, match="pipe: is accelerated already"):
        accelerate(pipe, md.Euler(STEPS))
    running.undo()
    running.undo()
    assert type(pipe) is kind
    assert torch.equal(call(pipe, given), wanted)


def test_settings_saved_and_loaded_give_the_same_picture():
    pipe, given = pipelines.sd3()
    method = md.PoissonMidpoint(STEPS, substeps=4)
    pictures = []
    for chosen in (method, md.method_from_dict(json.loads(json.dumps(method.to_dict())))):
        with accelerate(pipe, chosen, eta=1.0, plan_seed=5):
            pictures.append(call(pipe, given))
    assert torch.equal(*pictures)


def test_an_error_in_the_loop_leaves_the_pipeline_as_it_was():
    pipe, given = pipelines.sd()
    parts, before = dict(pipe.components), threading.active_count()

    def fail(*_):
        raise ZeroDivisionError

    with accelerate(pipe, md.Euler(STEPS)), pytest.raises(ZeroDivisionError):
        call(pipe, given, callback_on_step_end=fail)
    assert pipe.components == parts
    assert threading.active_count() == before


# Levels -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
def test_levels_may_be_a_ladder_networks_or_pipelines():
    pipe, given = pipelines.sd()
    small = pipelines.tiny.sd(seed=4)
    method = md.Multilevel(STEPS, calls=(STEPS, 3))
    names = ("small", "big")
    ladder = md.Ladder([md.Denoiser.from_diffusers(net, pipe.scheduler) for net in (small.net, pipe.unet)], names)
    other, _ = pipelines.sd()
    other.unet = small.net
    pictures = []
    for lower in (ladder, [small.net], [other], [ladder["small"]]):
        with accelerate(pipe, method, lower) as running:
            pictures.append(call(pipe, given))
            assert list(running.calls.values()) == [STEPS - 1, 3]
    assert all(torch.equal(pictures[0], found) for found in pictures)


# Bad input --------------------------------------------------------------------------------------------


def cached():
    pipe, given = pipelines.flux()
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    return pipe, given


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
        (lambda: (pipelines.vae(), {}), md.Euler(3), {}, "pipe: got AutoencoderKL; it takes a pipeline of diffusers"),
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
            cached,
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


def test_parts_of_the_noise_levels_and_too_little_strength_are_refused():
    pipe, given = pipelines.sdxl()
    with accelerate(pipe, md.Euler(STEPS)), pytest.raises(md.MultidriftError, match="denoising_end: got 0.8"):
        call(pipe, given, denoising_end=0.8)
    pipe, given = pipelines.sd(kind=diffusers.StableDiffusionImg2ImgPipeline)
    with accelerate(pipe, md.Euler(STEPS)), pytest.raises(md.MultidriftError, match="strength: got 'one that leaves 1"):
        call(pipe, given, image=picture(), strength=0.2)


def test_a_cache_serves_a_method_of_one_call_a_step():
    pipe, given = cached()
    with accelerate(pipe, md.Euler(STEPS)):
        assert torch.isfinite(call(pipe, given)).all()


def test_a_picture_is_not_finite_and_the_error_says_where():
    pipe, given = pipelines.sd()
    torch.nn.init.constant_(pipe.unet.conv_out.bias, float("nan"))
    with (
        accelerate(pipe, md.Euler(STEPS)),
        pytest.raises(md.MultidriftError, match="the prediction is not finite at step"),
    ):
        call(pipe, given)
