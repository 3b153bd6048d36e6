"""Networks on other schedules than their own, and flows: closed-form targets."""

import math

import numpy as np
import pytest
import torch
from tests import tiny

import multidrift as md
from multidrift.schedules.grids import grid_times

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
SCHEDULES = {
    "ddpm": md.schedules.ddpm(),
    "cosine": md.schedules.cosine(),
    "vp": md.schedules.vp(),
    "ve": md.schedules.ve(),
    "edm": md.schedules.edm(),
    "flow": md.schedules.flow(),
    "flow1000": md.schedules.flow(1000.0, shift=3.0),
}
F64 = {"dtype": torch.float64}


@pytest.mark.parametrize("own", SCHEDULES)
@pytest.mark.parametrize("other", SCHEDULES)
@pytest.mark.parametrize("target", ["sample", "epsilon", "v_prediction", "score"])
def test_a_network_says_the_same_on_every_schedule(mixture, own, other, target):
    """The closed form on its own schedule, asked through another one, is the closed form on that one."""
    run = SCHEDULES[other]
    times = run.time(np.linspace(-1.5, 2.0, 6))
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x * torch.from_numpy(run.sigma(times) + run.alpha(times))[:, None]
    wanted = mixture.denoiser(run).predict(x, times, target, {})
    found = mixture.denoiser(SCHEDULES[own]).on(run)
    assert found.schedule == run
    assert torch.allclose(found.predict(x, times, target, {}), wanted, rtol=1e-6, atol=1e-6)
    one = found.predict(x[:1].expand(3, -1), float(times[0]), target, {})
    assert torch.allclose(one, wanted[:1].expand(3, -1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "flow"])
def test_every_kind_of_prediction_is_matched(mixture, predicts):
    chain, run = SCHEDULES["ddpm"], SCHEDULES["flow"]
    exact = mixture.denoiser(chain)
    net = md.Denoiser(lambda x, t: exact.predict(x, t.numpy(), predicts, {}), chain, predicts, shape=(2,)).on(run)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = mixture.denoiser(run).predict(x, 0.6, "flow", {})
    assert torch.allclose(net.predict(x, 0.6, "flow", {}), wanted, atol=1e-6)


def test_beyond_its_noise_levels_a_network_is_asked_at_the_nearest(mixture):
    seen = []
    chain, run = SCHEDULES["ddpm"], SCHEDULES["flow"]

    def net(x, t):
        seen.append((t.clone(), x.clone()))
        return 0 * x

    matched = md.Denoiser(net, chain, "sample", shape=(2,)).on(run)
    x = torch.ones(1, 2, dtype=torch.float64)
    matched.predict(x, 1.0, "sample", {})
    matched.predict(x, 1e-3, "sample", {})
    assert [float(t) for t, _ in seen] == [999.0, 0.0]
    assert torch.allclose(seen[0][1], x * float(chain.sigma(999.0)))
    assert torch.allclose(seen[1][1], x * float(chain.alpha(0.0)) / (1 - 1e-3))


def test_another_shift_changes_the_grid_alone(mixture):
    plain, shifted = md.schedules.flow(), md.schedules.flow(shift=3.0)
    moved = mixture.denoiser(plain).on(shifted)
    assert moved.schedule == shifted
    found = md.sample(moved, md.Euler(20), count=3, **F64).samples
    wanted = md.sample(mixture.denoiser(shifted), md.Euler(20), count=3, **F64).samples
    assert torch.equal(found, wanted)
    assert moved.on(shifted) is moved
    assert mixture.denoiser(plain).on(md.schedules.ddpm()).on(plain).schedule == plain


@pytest.mark.parametrize("draws", ["systematic", "independent"])
def test_a_ladder_of_different_shifts_equals_one_that_shares_them(mixture, draws):
    """Levels trained with other shifts and time units give the path of levels on the top's schedule."""
    top = md.schedules.flow(1000.0, shift=3.0)
    levels = [mixture.denoiser(s, n).on(top) for n, s in (("a", md.schedules.flow(shift=1.5)), ("b", top))]
    shared = md.Ladder([mixture.denoiser(top, name) for name in ("a", "b")])
    method = md.Multilevel(steps=24, levels=("a", "b"), calls=(24, 8), draws=draws)
    for eta in (0.0, 1.0):
        process = md.Diffusion(top, eta)
        found, wanted = (md.sample(m, method, process, count=4, **F64).samples for m in (md.Ladder(levels), shared))
        assert torch.allclose(found, wanted, atol=1e-6)


def test_flows_default_to_the_ode_and_others_to_the_sde(mixture):
    for schedule, eta in ((md.schedules.flow(), 0.0), (md.schedules.ddpm(), 1.0), (md.schedules.edm(), 1.0)):
        model = mixture.denoiser(schedule)
        found = md.sample(model, md.Euler(8), count=2).samples
        assert torch.equal(found, md.sample(model, md.Euler(8), md.Diffusion(schedule, eta), count=2).samples)
    plan = md.Multilevel(8, levels=("a", "b"), calls=(8, 3)).plan(
        md.Ladder([mixture.denoiser(md.schedules.flow(), name) for name in ("a", "b")])
    )
    assert plan.process["eta"] == 0.0


def marginal_errors(process, steps, mean=0.4, spread=0.6):
    """The largest errors of mean (over the standard deviation) and variance on the way, by the exact recursion."""
    schedule = process.schedule
    times = grid_times(schedule, steps)
    centre, variance, worst = 0.0, 1.0, np.zeros(2)  # pure noise
    for n, step in enumerate(process.intervals(times[:-1], times[1:]).each(torch.zeros(1))):
        alpha, sigma = float(schedule.alpha(times[n])), float(schedule.sigma(times[n]))
        slope = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)  # E[x_0 | x] = constant + slope·x
        constant = mean * (1 - slope * alpha)
        gain = step.leave_factor * (step.enter_factor + step.dtau * slope)
        centre = gain * centre + step.leave_factor * step.dtau * constant
        variance = gain**2 * variance + (step.leave_factor * step.std) ** 2
        alpha, sigma = float(schedule.alpha(times[n + 1])), float(schedule.sigma(times[n + 1]))
        exact = alpha**2 * spread**2 + sigma**2
        errors = abs(centre - alpha * mean) / math.sqrt(exact), abs(variance / exact - 1)
        worst = np.maximum(worst, errors)
    return worst


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_a_flow_keeps_its_marginals_at_every_eta(eta, shift):
    """Gaussian data N(0.4, 0.6²): along the way the mean is exact, the variance up to the step, O(1/steps)."""
    process = md.Diffusion(md.schedules.flow(1000.0, shift=shift), eta)
    coarse, fine = marginal_errors(process, 800), marginal_errors(process, 1600)
    assert max(coarse[0], fine[0]) < 1e-12
    assert fine[1] < 0.02
    assert fine[1] / coarse[1] == pytest.approx(0.5, abs=0.03)


def test_samples_of_a_flow_have_the_datas_law():
    """20,000 samples at η = 1: mean and variance within 4.5 standard errors (false alarms 1e-5) and the recursion's."""
    process = md.Diffusion(md.schedules.flow(1000.0, shift=3.0), eta=1.0)
    gaussian = md.GaussianDenoiser(np.array([0.4]), 0.36, process.schedule)
    x = md.sample(gaussian, md.Euler(60), process, count=20_000).samples
    _, of_variance = marginal_errors(process, 60)
    assert abs(float(x.mean()) - 0.4) < 4.5 * 0.6 / math.sqrt(20_000)
    assert abs(float(x.var()) / 0.36 - 1) < 4.5 * math.sqrt(2 / 20_000) + of_variance


def test_guidance_comes_after(mixture):
    """Guided on another schedule is guided on its own: two rows of one network at its own times."""
    chain, run = SCHEDULES["ddpm"], SCHEDULES["flow"]
    exact = mixture.denoiser(chain)
    net = md.Denoiser(lambda x, t, push: exact.net(x, t) + push, chain, "sample", shape=(2,))
    pushes = {"conditional": {"push": torch.full((1, 2), 0.3)}, "unconditional": {"push": torch.zeros(1, 2)}}
    guided = net.on(run).guided(3.0, **pushes)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = mixture.denoiser(run).predict(x, 0.5, "sample", {}) + 0.9
    assert torch.allclose(guided.predict(x, 0.5, "sample", {}), wanted, atol=1e-6)
    assert md.sample(guided, md.Euler(6), count=2).calls == {"model": 12}
    with pytest.raises(md.MultidriftError, match="on: got .*; it takes a denoiser without guidance"):
        net.guided(3.0, **pushes).on(run)
    with pytest.raises(md.MultidriftError, match="on: got .*; it takes a denoiser without guidance"):
        guided.on(chain)


def test_a_matched_level_is_clipped_after_its_guidance():
    chain, run = SCHEDULES["ddpm"], SCHEDULES["flow"]
    net = md.Denoiser(lambda x, t, push: 0 * x + push, chain, "sample", clip=0.5, shape=(2,))
    pushes = {"conditional": {"push": torch.full((1, 2), 0.7)}, "unconditional": {"push": torch.full((1, 2), 0.9)}}
    found = net.on(run).guided(3.0, **pushes).predict(torch.zeros(1, 2), 0.5, "sample", {})
    assert torch.allclose(found, torch.full((1, 2), 0.3))  # 0.9 + 3·(0.7 − 0.9)
    assert torch.allclose(net.on(run).predict(torch.zeros(1, 2), 0.5, "sample", {"push": 0.9}), torch.tensor(0.5))


def test_a_matched_level_is_not_saved_as_its_networks_own(tmp_path):
    made = tiny.unet()
    level = md.Denoiser.from_diffusers(made.net, made.scheduler)
    md.Ladder([level]).save(tmp_path / "own")
    with pytest.raises(md.MultidriftError, match='level model: got "a schedule that is not its network\'s"'):
        md.Ladder([level.on(md.schedules.flow())]).save(tmp_path / "matched")
    assert not (tmp_path / "matched").exists()
