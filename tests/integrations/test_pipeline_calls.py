"""What a call of a pipeline takes, with our loop: strength, masks, callbacks, generators, outputs, numbers of steps."""

import inspect
import threading
import warnings

import diffusers
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from tests import tiny_pipelines as pipelines
from tests.tiny_pipelines import STEPS, call, copied, seeded

import multidrift as md
from multidrift.integrations.diffusers import accelerate

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


KINDS = {
    "sd": diffusers.StableDiffusionImg2ImgPipeline,
    "sdxl": diffusers.StableDiffusionXLImg2ImgPipeline,
    "sd3": diffusers.StableDiffusion3Img2ImgPipeline,
    "flux": diffusers.FluxImg2ImgPipeline,
}


@pytest.mark.parametrize("family", KINDS)
def test_image_to_image_starts_where_the_pipeline_does(family):
    pipe, given = getattr(pipelines, family)(kind=KINDS[family])
    more = {"image": pipelines.picture(), "strength": 0.6, "num_inference_steps": 10, **pipelines.twice(pipe)}
    wanted = call(pipe, given, **more)
    with accelerate(pipe, md.Euler(10)) as running:
        found = call(pipe, given, **more)
        assert running.calls == {"model": 6}
    assert torch.allclose(found, wanted, atol=1e-4 * max(1.0, float(wanted.abs().max())), rtol=0)
    with accelerate(pipe, md.Multilevel(10, calls=(10, 6)), copied(pipe)) as running, warnings.catch_warnings():
        warnings.simplefilter("ignore", md.PlanWarning)
        assert torch.allclose(call(pipe, given, **more), found, atol=1e-3, rtol=0)
        assert 0 < running.calls["f1"] <= 5


INPAINTING = {
    "sd": diffusers.StableDiffusionInpaintPipeline,
    "sdxl": diffusers.StableDiffusionXLInpaintPipeline,
    "flux": diffusers.FluxInpaintPipeline,
}


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("family", INPAINTING)
def test_inpainting_mixes_in_what_is_known_after_every_step(family, strength):
    """Also where a step takes two rounds: at the noise level of the next states, and nothing between the two."""
    pipe, given = getattr(pipelines, family)(kind=INPAINTING[family])
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    more = {"image": pipelines.picture(), "mask_image": mask, "strength": strength, "height": 16, "width": 16}
    wanted = call(pipe, given, **more)
    two_levels = md.Multilevel(STEPS, calls=(STEPS, STEPS - 1), draws="midpoint")
    for method, ladder in ((md.Euler(STEPS), None), (two_levels, copied(pipe))):
        with accelerate(pipe, method, ladder) as running, warnings.catch_warnings():
            warnings.simplefilter("ignore", md.PlanWarning)
            found = call(pipe, given, **more)
        assert torch.allclose(found, wanted, atol=1e-4 * max(1.0, float(wanted.abs().max())), rtol=0)
    assert set(running.calls) == {"f1", "model"}
    with (
        accelerate(pipe, md.Picard(STEPS)),
        pytest.raises(md.MultidriftError, match="does not take states of several times"),
    ):
        call(pipe, given, **more)


VIDEO = {"wan": diffusers.WanVideoToVideoPipeline, "cogvideox": diffusers.CogVideoXVideoToVideoPipeline}


@pytest.mark.parametrize("family", VIDEO)
def test_video_to_video_starts_where_the_pipeline_does(family):
    known, given = pipelines.of(family)
    takes = inspect.signature(VIDEO[family].__init__).parameters
    pipe = pipelines.quiet(VIDEO[family](**{k: v for k, v in known.components.items() if k in takes}))
    given = {name: value for name, value in given.items() if name != "num_frames"}
    shape = [2, pipe.transformer.config.in_channels]
    shape = [
        len(given["prompt_embeds"]),
        *(shape if family == "cogvideox" else shape[::-1]),
        given["height"] // 8,
        given["width"] // 8,
    ]
    more = {"latents": torch.randn(shape, generator=pipelines.seeded(1)), "strength": 0.6, "num_inference_steps": 10}
    wanted = call(pipe, given, **more)
    for method in (md.Euler(10), md.Picard(10, tolerance=1e-6)):
        with accelerate(pipe, method) as running:
            assert torch.allclose(call(pipe, given, **more), wanted, atol=1e-4, rtol=0)
        assert running.calls["model"] >= 6


def halve_at_two(pipe, number, timestep, tensors):
    return {"latents": 0.5 * tensors["latents"]} if number == 2 else {}


def test_callbacks_see_every_step_and_what_they_change_is_kept():
    pipe, given = pipelines.of("sd")
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
    pipe, given = pipelines.of("sd")
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


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
def test_callbacks_of_the_old_kind_come_once_a_step():
    """PixArt's, which sees the number of the step, its time and the latents, every so many steps."""
    pipe, given = pipelines.of("pixart")
    seen = []
    more = {"callback": lambda number, t, latents: seen.append((number, latents.shape)), "callback_steps": 2}
    call(pipe, given, **more)
    theirs, seen[:] = list(seen), []
    for method, lower in ((md.Euler(STEPS), None), (md.Multilevel(STEPS, calls=(STEPS, 4)), copied(pipe))):
        with accelerate(pipe, method, lower):
            call(pipe, given, **more)
        assert seen == theirs
        seen.clear()


def test_guidance_can_be_cut_off_by_diffusers_own_callback():
    pipe, _ = pipelines.of("sd")
    given = {"prompt": "a cat", "guidance_scale": 5.0}
    cut = SDCFGCutoffCallback(cutoff_step_ratio=0.4)
    wanted = call(pipe, given, callback_on_step_end=cut)
    with accelerate(pipe, md.Euler(STEPS)):
        found = call(pipe, given, callback_on_step_end=cut)
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


@pytest.mark.parametrize("method", [md.Euler(STEPS), md.Picard(STEPS)], ids=["Euler", "Picard"])
def test_an_interrupt_ends_with_the_state_it_found(method):
    pipe, given = pipelines.of("sd")
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
    pipe, given = pipelines.of("sd")
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
    pipe, given = pipelines.of("sd")
    wanted = call(pipe, given, output_type=output) if output != "pil" else None
    with accelerate(pipe, md.Euler(STEPS)):
        if output == "pil":
            images = pipe(**given, num_inference_steps=2).images
            assert [image.size for image in images] == [(16, 16)] * 2
            assert isinstance(pipe(**given, num_inference_steps=2, return_dict=False), tuple)
        else:
            assert torch.allclose(call(pipe, given, output_type=output), wanted, atol=1e-3)


def test_the_number_of_steps_of_a_call_is_taken():
    pipe, given = pipelines.of("sd")
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
    pipe, given = pipelines.of("sd")
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


def test_an_error_in_the_loop_leaves_the_pipeline_as_it_was():
    pipe, given = pipelines.of("sd")
    parts, before = dict(pipe.components), threading.active_count()

    def fail(*_):
        raise ZeroDivisionError

    with accelerate(pipe, md.Euler(STEPS)), pytest.raises(ZeroDivisionError):
        call(pipe, given, callback_on_step_end=fail)
    assert pipe.components == parts
    assert threading.active_count() == before
