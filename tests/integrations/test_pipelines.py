"""Pipelines of every family with our loop: Euler's pictures are the pipeline's own, and every method runs."""

import functools
import itertools
import json

import diffusers
import pytest
import torch
from tests import tiny_pipelines as pipelines
from tests.tiny_pipelines import ARCHITECTURES, FAMILIES, STEPS, call, copied, seeded

import multidrift as md
from multidrift.integrations.diffusers import accelerate
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::multidrift.PlanWarning"),
    pytest.mark.filterwarnings("ignore::multidrift.RunWarning"),
]


def size_of(picture):
    return max(1.0, float(picture.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_euler_is_the_pipelines_own_solver(family):
    """DDIM and FlowMatchEuler, with guidance, two prompts and two samples of each."""
    pipe, given = pipelines.of(family)
    many = pipelines.twice(pipe)
    wanted = call(pipe, given, **many)
    with accelerate(pipe, md.Euler(STEPS)) as running:
        found = call(pipe, given, **many)
        assert running.calls == {"model": STEPS}
    assert len(found) == (4 if many else 2)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-4 * size_of(wanted), rtol=0)
    assert torch.equal(call(pipe, given, **many), wanted)


@pytest.mark.parametrize(("family", "number"), [("flux", "num_images_per_prompt"), ("wan", "num_videos_per_prompt")])
def test_two_samples_of_each_prompt_that_was_encoded(family, number, monkeypatch):
    """Pipelines that repeat what they encode and not embeddings that they are given: encoded here by a stand-in."""
    pipe, given = pipelines.of(family)
    encode = pipe.encode_prompt

    def repeated(**settings):
        found = encode(**settings)
        return *(each.repeat_interleave(2, dim=0) for each in found[:2]), *found[2:]

    monkeypatch.setattr(pipe, "encode_prompt", repeated)
    wanted = call(pipe, given, **{number: 2})
    with accelerate(pipe, md.Euler(STEPS)) as running:
        found = call(pipe, given, **{number: 2})
        assert running.calls == {"model": STEPS}
    assert len(found) == 4
    assert not torch.equal(found[0], found[1])
    assert torch.allclose(found, wanted, atol=1e-4 * size_of(wanted), rtol=0)


@functools.cache
def by_euler(family):
    pipe, given = pipelines.of(family)
    with accelerate(pipe, md.Euler(STEPS)):
        return call(pipe, given)


def by(method, family, ladder=None, **settings):
    """A method's picture of one family and seed, and how often it called."""
    pipe, given = pipelines.of(family)
    with accelerate(pipe, method, None if ladder is None else ladder(pipe), **settings) as running:
        return call(pipe, given), running.calls


SAME = {
    "Picard": (md.Picard(STEPS, tolerance=1e-5), None),
    "Multilevel": (md.Multilevel(STEPS, calls=(STEPS, 3), draws="independent", shared=False), copied),
    "ladder-Picard": (md.Picard(STEPS, coarse="f1", tolerance=1e-5), copied),
}


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("name", SAME)
def test_methods_that_equal_euler_do_so_in_every_pipeline(family, name):
    """Calls of some samples, at times of their own, in every branch of the guidance."""
    found, calls = by(SAME[name][0], family, SAME[name][1])
    wanted = by_euler(family)
    assert torch.allclose(found, wanted, atol=2e-4 * size_of(wanted), rtol=0)
    assert all(number > 0 for number in calls.values())


RUNS = {
    "Multistep": (md.Multistep(STEPS), {}),
    "Poisson": (md.PoissonMidpoint(STEPS, substeps=3), {}),
    "LadderMultistep": (md.LadderMultistep(3, levels=("f1", "model")), {"ladder": copied}),
    "PredictorCorrector": (md.PredictorCorrector(md.Picard(4, blocks=2), md.Picard(2)), {}),
    "Speculative": (md.Speculative(4, window=2), {"ladder": copied, "eta": 1.0}),
}


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("name", RUNS)  # and Euler, Picard and Multilevel above: all there are
def test_every_method_runs_on_every_family(family, name):
    method, settings = RUNS[name]
    found, calls = by(method, family, **settings)
    assert torch.isfinite(found).all()
    assert found.shape == by_euler(family).shape
    assert calls["model"] > 0


@pytest.mark.parametrize("name", [*SAME, *RUNS])
def test_settings_saved_and_loaded_give_the_same_picture(name):
    """For every method, with noise where it takes any and a plan of its own."""
    method, more = RUNS.get(name) or (SAME[name][0], {"ladder": SAME[name][1]})
    loaded = md.method_from_dict(json.loads(json.dumps(method.to_dict())))
    settings = {"eta": 0.0 if name == "PredictorCorrector" else 1.0, "plan_seed": 5} | more
    assert torch.equal(by(loaded, "sd3", **settings)[0], by(method, "sd3", **settings)[0])


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
