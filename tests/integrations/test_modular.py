"""Modular pipelines with our loop: their blocks, their guiders."""

import copy

import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance
from tests import tiny_pipelines as pipelines

import multidrift as md
from multidrift.integrations.diffusers import accelerate

STEPS = 5


def call(pipe, given):
    return pipe(**given, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(3))


def test_euler_is_the_pipelines_own_solver():
    pipe, given = pipelines.modular()
    wanted = call(pipe, given)
    with accelerate(pipe, md.Euler(STEPS)) as running:
        assert torch.allclose(call(pipe, given), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
        assert running.calls == {"model": STEPS}
    assert torch.equal(call(pipe, given), wanted)


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
@pytest.mark.parametrize(
    "method",
    [
        md.Multilevel(STEPS, calls=(STEPS, 3)),
        md.Picard(STEPS, coarse="f1", tolerance=1e-5),
        md.Picard(STEPS, tolerance=1e-5),
    ],
    ids=["Multilevel", "ladder-Picard", "Picard"],
)
def test_methods_of_several_calls_a_step(method):
    pipe, given = pipelines.modular()
    wanted = call(pipe, given)
    with accelerate(pipe, method, [copy.deepcopy(pipe.transformer)]):
        assert torch.allclose(call(pipe, given), wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0)


def test_a_guider_is_told_of_the_methods_steps():
    """Guidance on the middle of the steps, whatever a step calls; every level has a guider of its own."""
    pipe, given = pipelines.modular(ClassifierFreeGuidance(guidance_scale=5.0, start=0.2, stop=0.8))
    wanted = call(pipe, given)
    with accelerate(pipe, md.Euler(STEPS)):
        assert torch.allclose(call(pipe, given), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, STEPS)), [copy.deepcopy(pipe.transformer)]):
        assert torch.allclose(call(pipe, given), wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0)
    with accelerate(pipe, md.Picard(STEPS)), pytest.raises(md.MultidriftError, match="guides a part of the steps"):
        call(pipe, given)


def test_momentum_goes_step_by_step():
    pipe, given = pipelines.modular(
        AdaptiveProjectedGuidance(guidance_scale=3.0, adaptive_projected_guidance_momentum=-0.5)
    )
    wanted = call(pipe, given)
    with accelerate(pipe, md.Euler(STEPS)):
        first, second = call(pipe, given), call(pipe, given)
        assert torch.allclose(first, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
        assert torch.equal(first, second)
    with accelerate(pipe, md.Picard(STEPS)), pytest.raises(md.MultidriftError, match="has momentum"):
        call(pipe, given)


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
def test_the_pipelines_own_guider_is_left_alone_and_every_level_has_another():
    pipe, given = pipelines.modular()
    made = []
    own = pipe.guider
    fresh = own.new
    own.new = lambda: made.append(fresh()) or made[-1]
    with accelerate(pipe, md.Multilevel(STEPS, calls=(STEPS, 4)), [copy.deepcopy(pipe.transformer)]):
        call(pipe, given)
    assert pipe.guider is own
    assert own.get_state()["step"] is None
    assert len(made) == 2
