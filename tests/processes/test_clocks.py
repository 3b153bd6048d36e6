"""The table of straightened coordinates, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.schedules.grids import grid_times

SCHEDULES = {
    "linear": md.schedules.ddpm(),
    "cosine": md.schedules.cosine(),
    "vp": md.schedules.vp(),
    "ve": md.schedules.ve(),
    "edm": md.schedules.edm(),
    "flow": md.schedules.flow(),
}
ETAS = (0.0, 0.5, 1.0, 2.0)
NUMBERS = torch.zeros(1, dtype=torch.float64)  # the kind of state that steps are taken for


def factors(process, schedule, data_variance, t):
    """The factor D/x for Gaussian data N(0, data_variance): what the exact network does."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    total = alpha**2 * data_variance + sigma**2
    data = alpha * data_variance / total
    return {"sample": data, "epsilon": (1 - alpha * data) / sigma, "score": -1 / total}[process.drift_is]


def marginal_error(process, schedule, steps):
    """The largest relative error of the variance along the way, by the exact linear recursion."""
    data_variance = 0.25
    grid = "blend" if schedule.family != "variance_exploding" else "logsnr"
    times = grid_times(schedule, steps, grid)
    if schedule.kind == "flow" and process.holds != "data":
        times = schedule.time(np.linspace(schedule.log_snr(0.98), schedule.log_snr(schedule.t_min), steps))
    wanted = schedule.alpha(times) ** 2 * data_variance + schedule.sigma(times) ** 2
    variance, worst = wanted[0], 0.0
    for n, step in enumerate(process.intervals(times[:-1], times[1:]).each(NUMBERS)):
        gain = step.leave_factor * (step.enter_factor + step.dtau * factors(process, schedule, data_variance, times[n]))
        variance = gain**2 * variance + (step.leave_factor * step.std) ** 2
        worst = max(worst, abs(variance / wanted[n + 1] - 1))
    return worst


@pytest.mark.parametrize(
    ("name", "eta", "holds"),
    [*itertools.product(SCHEDULES, ETAS, ("data", "noise", "score")), ("linear", 6.0, "data"), ("cosine", 6.0, "data")],
)
def test_marginals_of_a_gaussian_are_kept(name, eta, holds):
    """The error of the marginal variance falls like 1/steps: 0.5 when they double, to 8%."""
    schedule = SCHEDULES[name]
    process = md.Diffusion(schedule, eta, holds)
    coarse, fine = marginal_error(process, schedule, 1600), marginal_error(process, schedule, 3200)
    assert fine < 0.04 * (1 + eta)
    assert fine / coarse == pytest.approx(0.5, abs=0.04)


def test_training_chain_keeps_marginals():
    """holds="ddpm" walks the chain itself, whose own discretisation is all its error."""
    schedule = SCHEDULES["linear"]
    process = md.Diffusion(schedule, holds="ddpm")
    times = np.arange(999.0, -1, -1)
    variance = wanted = schedule.alpha(times[0]) ** 2 * 0.25 + schedule.sigma(times[0]) ** 2
    for n, step in enumerate(process.intervals(times[:-1], times[1:]).each(NUMBERS)):
        gain = step.leave_factor * (step.enter_factor + step.dtau * factors(process, schedule, 0.25, times[n]))
        variance = gain**2 * variance + (step.leave_factor * step.std) ** 2
        wanted = schedule.alpha(times[n + 1]) ** 2 * 0.25 + schedule.sigma(times[n + 1]) ** 2
        assert variance == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("holds", ["data", "noise", "score"])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("name", ["linear", "vp", "edm", "flow"])
def test_anchors_only_change_units(name, eta, holds):
    """A step in the coordinates of any anchor is the same step: x(s) does not depend on where z = x."""
    schedule = SCHEDULES[name]
    process = md.Diffusion(schedule, eta, holds)
    times = grid_times(schedule, 12, "blend")[2:6]
    own = process.intervals(times[:-1], times[1:])
    block = process.intervals(times[:-1], times[1:], anchor=times[-1])
    for field in ("enter_factor", "dtau", "std"):
        np.testing.assert_allclose(
            getattr(block, field) * block.leave_factor, getattr(own, field) * own.leave_factor, rtol=1e-11
        )


@pytest.mark.parametrize("holds", ["data", "noise", "score"])
def test_clocks_add_up(holds):
    """τ(a→c) = τ(a→b) + τ(b→c), and the same for the variance, in the units of one anchor."""
    schedule = SCHEDULES["linear"]
    process = md.Diffusion(schedule, 0.6, holds, noise_scale=1.3)
    a, b, c = 900.0, 410.5, 3.25
    parts = process.intervals([a, b], [b, c], anchor=b)
    whole = process.intervals(a, c, anchor=b)
    assert whole.dtau[0] == pytest.approx(parts.dtau.sum(), rel=1e-12)
    assert whole.std[0] ** 2 == pytest.approx((parts.std**2).sum(), rel=1e-12)


def test_ddim_and_ddpm_steps():
    """holds="data": DDIM's and DDPM's closed forms, at every training step."""
    schedule = SCHEDULES["linear"]
    t = np.arange(999.0, 0, -1)
    kept, before = schedule.alphas_cumprod[1:][::-1], schedule.alphas_cumprod[:-1][::-1]
    beta = np.asarray(schedule.betas)[1:][::-1]
    ddim = md.Diffusion(schedule, eta=0).intervals(t, t - 1)
    np.testing.assert_allclose(ddim.enter_factor, np.sqrt((1 - before) / (1 - kept)), rtol=1e-10)
    wanted = np.sqrt(before) - np.sqrt(kept) * np.sqrt((1 - before) / (1 - kept))
    np.testing.assert_allclose(ddim.dtau, wanted, rtol=1e-10)
    ddpm = md.Diffusion(schedule, eta=1).intervals(t, t - 1)
    np.testing.assert_allclose(ddpm.enter_factor, np.sqrt(1 - beta) * (1 - before) / (1 - kept), rtol=1e-10)
    np.testing.assert_allclose(ddpm.dtau, np.sqrt(before) * beta / (1 - kept), rtol=1e-10)
    np.testing.assert_allclose(ddpm.std**2, beta * (1 - before) / (1 - kept), rtol=1e-10)


def test_first_variant_of_poisson_midpoint():
    """holds="score" is PMM's V1: its coefficients of x, ε and noise at every training step."""
    schedule = SCHEDULES["linear"]
    t = np.arange(999.0, 0, -1)
    beta, kept = np.asarray(schedule.betas)[1:][::-1], schedule.alphas_cumprod[1:][::-1]
    root = np.sqrt(1 - beta)
    steps = md.Diffusion(schedule, eta=1, holds="score").intervals(t, t - 1)
    np.testing.assert_allclose(steps.enter_factor, 1 / root, rtol=1e-10)
    of_epsilon = -steps.dtau / np.sqrt(1 - kept)
    np.testing.assert_allclose(of_epsilon, -2 * (1 - root) / (root * np.sqrt(1 - kept)), rtol=1e-10)
    np.testing.assert_allclose(steps.std**2, beta / (1 - beta), rtol=1e-10)


@pytest.mark.parametrize("name", ["linear", "vp", "edm", "flow"])
def test_steps_that_hold_the_noise(name):
    """holds="noise" is DPM-Solver-1 at η = 0 and SDE-DPM-Solver-1 at η = 1."""
    schedule = SCHEDULES[name]
    times = grid_times(schedule, 40, "blend")[1:]
    t, s = times[:-1], times[1:]
    h = schedule.log_snr(s) - schedule.log_snr(t)
    for eta in (0, 1):
        steps = md.Diffusion(schedule, eta, "noise").intervals(t, s)
        np.testing.assert_allclose(steps.enter_factor, schedule.alpha(s) / schedule.alpha(t), rtol=1e-10)
        np.testing.assert_allclose(steps.dtau, -(1 + eta) * schedule.sigma(s) * np.expm1(h), rtol=1e-10)
        np.testing.assert_allclose(steps.std, schedule.sigma(s) * np.sqrt(eta * np.expm1(2 * h)), rtol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_score_clocks_of_unscaled_data(eta):
    """holds="score", VE and EDM: x_s = x + (1+η)(σ_t² − σ_s²)/2·score, variance η(σ_t² − σ_s²)."""
    for name in ("ve", "edm"):
        schedule = SCHEDULES[name]
        times = grid_times(schedule, 40, "logsnr")
        steps = md.Diffusion(schedule, eta, "score").intervals(times[:-1], times[1:])
        lost = schedule.sigma(times[:-1]) ** 2 - schedule.sigma(times[1:]) ** 2
        np.testing.assert_allclose(steps.enter_factor, 1, rtol=1e-10)
        np.testing.assert_allclose(steps.dtau, 0.5 * (1 + eta) * lost, rtol=1e-10)
        np.testing.assert_allclose(steps.std**2, eta * lost, rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("name", ["linear", "vp", "ve", "edm", "flow"])
def test_score_clock_is_its_integral(name):
    """dτ = −(1+η) σ dκ in z = x/α, by quadrature along each step."""
    schedule = SCHEDULES[name]
    times = grid_times(schedule, 12, "logsnr")[1:]
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for t, s in itertools.pairwise(times.tolist()):
        low, high = schedule.log_snr(t), schedule.log_snr(s)
        lam = low + 0.5 * (nodes + 1) * (high - low)
        sigma, kappa = np.exp(schedule.log_sigma(lam)), np.exp(-lam)
        integral = 0.5 * (high - low) * (weights * 1.7 * sigma * kappa).sum()  # −dκ = κ dλ
        step = md.Diffusion(schedule, 0.7, "score").intervals(t, s)
        assert step.dtau[0] == pytest.approx(integral * schedule.alpha(s), rel=1e-10)


@pytest.mark.parametrize("variant", [2, 3])
def test_frozen_chain_equals_its_own_steps(variant):
    """holds="ddpm": one interval over K training steps equals K steps of V2 (V3) with ε frozen."""
    schedule = SCHEDULES["linear"]
    kept, beta = schedule.alphas_cumprod, np.asarray(schedule.betas)
    scale = (lambda t: 1 - kept[round(t)]) if variant == 3 else 1.0
    process = md.Diffusion(schedule, holds="ddpm", noise_scale=scale)
    for t, substeps in ((999, 40), (500, 7), (23, 20)):
        of_x, of_epsilon, variance = 1.0, 0.0, 0.0
        for s in range(t, t - substeps, -1):
            root = math.sqrt(1 - beta[s])
            posterior = (1 - kept[s - 1]) / (1 - kept[s]) * beta[s]
            noise = posterior if variant == 2 else (1 - kept[s - 1]) * beta[s]
            of_x, of_epsilon = of_x / root, of_epsilon / root - beta[s] / (root * math.sqrt(1 - kept[s]))
            variance = variance / root**2 + noise
        step = process.intervals(t, t - substeps)
        assert step.enter_factor[0] == pytest.approx(of_x, rel=1e-10)
        assert step.dtau[0] == pytest.approx(of_epsilon, rel=1e-10)
        assert step.std[0] ** 2 == pytest.approx(variance, rel=1e-10)


def test_noise_scale_function_agrees_with_a_number():
    for schedule in (SCHEDULES["linear"], SCHEDULES["vp"]):
        times = grid_times(schedule, 17, "blend")
        number = md.Diffusion(schedule, noise_scale=0.7).intervals(times[:-1], times[1:])
        function = md.Diffusion(schedule, noise_scale=lambda t: 0.7).intervals(times[:-1], times[1:])
        np.testing.assert_allclose(function.std, number.std, rtol=1e-10)
        np.testing.assert_array_equal(function.dtau, number.dtau)


def test_noise_may_vanish_for_a_while(mixture):
    """A noise_scale of 0 below t = 300: the run goes on there without noise."""
    schedule = SCHEDULES["linear"]
    model = mixture.denoiser(schedule)
    process = md.Diffusion(schedule, noise_scale=lambda t: float(t > 300))
    assert md.sample(model, md.Euler(30), process, count=3).samples.isfinite().all()


def test_large_eta_does_not_overflow(mixture):
    schedule = SCHEDULES["cosine"]
    times = grid_times(schedule, 100, "blend")
    for eta in (4.0, 20.0, 200.0):
        steps = md.Diffusion(schedule, eta).intervals(times[:-1], times[1:])
        for column in (steps.enter_factor, steps.leave_factor, steps.dtau, steps.std):
            assert np.all(np.isfinite(column))
            assert np.all(np.abs(column) < 10)
        model = mixture.denoiser(schedule)
        samples = md.sample(model, md.Euler(30), md.Diffusion(schedule, eta), count=3, start=torch.zeros(3, 2)).samples
        assert samples.isfinite().all()
