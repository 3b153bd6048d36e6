"""The networks behind our loop: their dtypes, hooks and caches, levels, and what stands beside them in a pipeline."""

import pytest
import torch
from tests import tiny_pipelines as pipelines
from tests.tiny_pipelines import STEPS, call, copied, seeded

import multidrift as md
from multidrift.integrations.diffusers import accelerate
from multidrift.integrations.diffusers.scheduler import SchedulerShape

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::multidrift.PlanWarning"),
]


def close(found, wanted, error=1e-4):
    return torch.allclose(found, wanted, atol=error * max(1.0, float(wanted.abs().max())), rtol=0)


# Half precision ---------------------------------------------------------------------------------------


def to_bfloat16(value):
    return value.to(torch.bfloat16) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def rounded(pipe):
    """A pipeline in float32 whose weights are numbers of bfloat16."""
    for part in pipe.components.values():
        for parameter in part.parameters() if isinstance(part, torch.nn.Module) else ():
            parameter.data = parameter.data.to(torch.bfloat16).float()
    return pipe


def scatter(difference):
    return float(difference.double().square().mean().sqrt())


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux", "flux2", "pixart", "sana", "wan", "cogvideox"])
def test_bfloat16_is_no_further_from_float32_than_the_pipelines_own(family, monkeypatch):
    """The floor is what the pipeline's own loop loses to bfloat16, from one start and of the same weights."""
    pipe, given = pipelines.FAMILIES[family]()
    given = {name: to_bfloat16(value) for name, value in given.items()}
    in_float32 = {name: value.float() if torch.is_tensor(value) else value for name, value in given.items()}
    with accelerate(rounded(pipe), md.Euler(STEPS)) as running:
        call(pipe, in_float32)
    shape = running.state.x.shape if family != "flux2" else (2, 16, 4, 6)  # its pipeline takes them unpacked
    start = torch.randn(shape, generator=seeded(8)).to(torch.bfloat16)
    exact = call(pipe, in_float32, latents=start.float())
    pipe.to(torch.bfloat16, silence_dtype_warnings=True)
    theirs = call(pipe, given, latents=start).float()
    kinds, step = set(), SchedulerShape.step
    spy = lambda own, guided, *args, **given: kinds.add(guided.dtype) or step(own, guided, *args, **given)  # noqa: E731
    monkeypatch.setattr(SchedulerShape, "step", spy)
    with accelerate(pipe, md.Euler(STEPS)) as running:
        ours = call(pipe, given, latents=start)
    assert {running.state.x.dtype, *kinds} == {torch.float32}  # states, and what guidance gave
    floor = scatter(theirs - exact)
    assert 1e-3 < floor / scatter(exact) < 0.05  # half precision is at work
    assert scatter(ours.float() - exact) < 1.25 * floor
    assert scatter(ours.float() - theirs) < 1.5 * floor


# Offloading, caches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_offloaded_pipelines_keep_their_hooks(family):
    """diffusers' own hooks, with the processor as what they move networks to."""
    pipe, given = pipelines.FAMILIES[family]()
    wanted = call(pipe, given)
    small = copied(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    with accelerate(pipe, md.Euler(STEPS)):
        assert close(call(pipe, given), wanted)
        assert close(call(pipe, given), wanted)
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 3)), small):
        assert close(call(pipe, given), wanted, 1e-3)
    network = getattr(pipe, "transformer", None) or pipe.unet
    assert type(network._hf_hook).__name__ == "CpuOffload"
    assert torch.equal(call(pipe, given), wanted)


def test_offloaded_networks_are_called_through_their_hooks():
    pipe, given = pipelines.sd()
    calls = []
    pipe.enable_model_cpu_offload(device="cpu")
    own = pipe.unet._hf_hook.pre_forward
    pipe.maybe_free_model_hooks = lambda: None  # which would put new hooks in the place of this one
    pipe.unet._hf_hook.pre_forward = lambda module, *args, **kwargs: (
        calls.append(len(args[0])) or own(module, *args, **kwargs)
    )
    with accelerate(pipe, md.Euler(STEPS)):
        call(pipe, given)
    assert calls == [4] * STEPS


def test_a_cache_serves_a_method_of_one_call_a_step():
    pipe, given = pipelines.cached()
    with accelerate(pipe, md.Euler(STEPS)):
        assert torch.isfinite(call(pipe, given)).all()


# Levels -----------------------------------------------------------------------------------------------


def test_levels_may_be_a_ladder_networks_or_pipelines():
    pipe, given = pipelines.of("sd")
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


def test_levels_may_be_of_another_width_inside():
    """Sana's sizes differ in the width of their cross attention, not in that of the text."""
    pipe, given = pipelines.of("sana")
    wider = {"num_attention_heads": 3, "num_cross_attention_heads": 3, "cross_attention_dim": 24}
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, STEPS)), [pipelines.tiny.sana(**wider).net]):
        found = call(pipe, given)
    assert close(found, call(pipe, given), 1e-3)
    other = pipelines.tiny.sana(caption_channels=12).net
    with pytest.raises(md.MultidriftError, match="level f1: has caption_channels=12, the pipeline's network 8"):
        accelerate(pipe, md.Euler(STEPS), [other])


def test_two_networks_for_more_and_for_less_noise():
    """Wan 2.2: the pipeline says which is called, and with which scale, of the top level alone."""
    pipe, given = pipelines.wan(pipelines.tiny.wan(seed=5).net)
    wanted = call(pipe, given, guidance_scale_2=2.0)
    assert not close(call(pipe, given), wanted, 1e-3)
    with accelerate(pipe, md.Euler(STEPS)):
        assert close(call(pipe, given, guidance_scale_2=2.0), wanted)
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, STEPS)), copied(pipe)):
        assert close(call(pipe, given, guidance_scale_2=2.0), wanted, 1e-3)
    with (
        accelerate(pipe, md.Picard(STEPS)),
        pytest.raises(md.MultidriftError, match="pipe: has two networks, for more and for less noise, and rounds of P"),
    ):
        call(pipe, given)


def test_noise_levels_of_a_pipelines_loop_are_those_of_its_rounds():
    """Wan's tells a cache the noise level by the number of the round, of which other methods have more."""
    pipe, given = pipelines.wan()
    seen = []
    pipe.transformer.cache_context = lambda name, sigma, **_: seen.append(sigma) or torch.no_grad()
    call(pipe, given)
    theirs, seen[:] = list(seen), []
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, STEPS)), [pipelines.tiny.wan().net]):
        call(pipe, given)
    assert sorted(set(seen), reverse=True) == pytest.approx(sorted(set(theirs), reverse=True))
    assert len(seen) > len(theirs)


# What stands beside a network -------------------------------------------------------------------------


def test_a_controlnet_is_the_pipelines_own():
    pipe, given = pipelines.controlled(control_guidance_start=0.2, control_guidance_end=0.7)
    wanted = call(pipe, given)
    assert not close(call(pipe, given, controlnet_conditioning_scale=0.0), wanted, 1e-2)
    with accelerate(pipe, md.Euler(STEPS)):
        assert close(call(pipe, given), wanted)
    with (
        accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 3)), copied(pipe)),
        pytest.raises(
            md.MultidriftError, match="has a ControlNet, .* by the number of the round; .* takes a method of"
        ),
    ):
        call(pipe, given)
    pipe.to(torch.bfloat16, silence_dtype_warnings=True)
    with accelerate(pipe, md.Multistep(STEPS)):
        assert call(pipe, given).dtype == torch.bfloat16


def test_a_picture_adapter_is_every_levels_own():
    """IP-Adapter: its embeddings are cut with the rows, and a level without one is refused, also if it came later."""
    pipe, given = pipelines.sd()
    bare = copied(pipe)
    given["ip_adapter_image_embeds"] = [torch.randn(2, 1, 6, generator=seeded(2))]
    without = accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 3)), bare)
    pipelines.load_picture_adapter(pipe.unet)
    with pytest.raises(md.MultidriftError, match="level f1: has encoder_hid_dim_type=None, the pipeline's network ip_"):
        call(pipe, given)
    without.undo()
    wanted = call(pipe, given)
    assert not close(call(pipe, given | {"ip_adapter_image_embeds": [torch.zeros(2, 1, 6)]}), wanted, 1e-2)
    for method in (md.Euler(STEPS), md.Picard(STEPS, tolerance=1e-5)):
        with accelerate(pipe, method):
            assert close(call(pipe, given), wanted, 1e-4 if method == md.Euler(STEPS) else 1e-3)
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 3)), copied(pipe)):
        assert close(call(pipe, given), wanted, 1e-3)
