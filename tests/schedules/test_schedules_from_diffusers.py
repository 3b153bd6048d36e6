"""Schedules read from diffusers' schedulers, against the schedulers' own tables."""

import math
import re

import diffusers
import numpy as np
import pytest

import multidrift as md
from multidrift.schedules.catalogue import from_dict
from multidrift.schedules.chain import Discrete
from multidrift.schedules.continuous import Flow
from multidrift.schedules.grids import grid_times

CHAINS = [
    diffusers.DDPMScheduler(),
    diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    diffusers.DDPMScheduler(trained_betas=[0.1, 0.2, 0.3]),
    diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
    diffusers.EulerDiscreteScheduler(rescale_betas_zero_snr=True),
    diffusers.PNDMScheduler(),
    diffusers.DPMSolverMultistepScheduler(),
    diffusers.UniPCMultistepScheduler(),
    diffusers.CogVideoXDDIMScheduler(),
    diffusers.CogVideoXDDIMScheduler(snr_shift_scale=1.0, rescale_betas_zero_snr=True),
    diffusers.CogVideoXDPMScheduler(snr_shift_scale=3.0),
]


@pytest.mark.parametrize("scheduler", CHAINS, ids=lambda s: type(s).__name__)
def test_chains_have_the_schedulers_signal(scheduler):
    schedule = md.schedules.from_diffusers(scheduler)
    table = scheduler.alphas_cumprod.double().numpy()
    steps = np.arange(schedule.training_steps)
    assert isinstance(schedule, Discrete)
    np.testing.assert_allclose(schedule.alpha(steps) ** 2, table, rtol=2e-5, atol=1e-7)
    assert from_dict(schedule.to_dict()) == schedule


def test_zero_terminal_signal_is_exact():
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    schedule = md.schedules.from_diffusers(scheduler)
    assert schedule.log_snr(999.0) == -math.inf
    shifted = md.schedules.from_diffusers(CHAINS[-2])
    assert shifted.log_snr(999.0) == -math.inf


def test_snr_shift_is_a_shift_of_log_snr():
    """CogVideoX divides the signal-to-noise ratio by the shift, which lowers λ by half its logarithm."""
    plain, shifted = (
        md.schedules.from_diffusers(diffusers.CogVideoXDDIMScheduler(snr_shift_scale=scale)) for scale in (1.0, 3.0)
    )
    steps = np.arange(1000)
    np.testing.assert_allclose(shifted.log_snr(steps), plain.log_snr(steps) - 0.5 * math.log(3), rtol=1e-9)


@pytest.mark.parametrize(
    ("scheduler", "shift"),
    [
        (diffusers.FlowMatchEulerDiscreteScheduler(), 1.0),
        (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), 3.0),
        (diffusers.FlowMatchHeunDiscreteScheduler(shift=2.0), 2.0),
        (diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=5.0), 5.0),
        (diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0), 3.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_flows_have_the_schedulers_shift(scheduler, shift):
    schedule = md.schedules.from_diffusers(scheduler)
    assert schedule == md.schedules.flow(1000.0, shift=shift)
    assert from_dict(schedule.to_dict()) == schedule
    assert md.schedules.from_diffusers(scheduler, shift=7.0).shift == 7.0


def test_a_shift_that_was_set_since():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_shift(4.0)
    assert md.schedules.from_diffusers(scheduler).shift == 4.0


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_shift_by_resolution(kind):
    """The times of a run are those of the scheduler, given its own μ."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
    tokens, steps = 1024, 12
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
    schedule = md.schedules.from_diffusers(scheduler, tokens=tokens)
    assert schedule.shift == pytest.approx(math.exp(mu) if kind == "exponential" else mu)
    np.testing.assert_allclose(grid_times(schedule, steps), scheduler.timesteps.numpy(), rtol=1e-6)
    with pytest.raises(md.MultidriftError, match="shifts by resolution; it takes tokens="):
        md.schedules.from_diffusers(scheduler)


def test_shift_lowers_log_snr_of_every_grid_of_equal_steps():
    plain, shifted = md.schedules.flow(), md.schedules.flow(shift=3.0)
    lowered = plain.log_snr(grid_times(plain, 20, "trailing")[1:]) - math.log(3)
    np.testing.assert_allclose(shifted.log_snr(grid_times(shifted, 20, "trailing")[1:]), lowered, atol=1e-12)
    np.testing.assert_array_equal(grid_times(plain, 20, "logsnr"), grid_times(shifted, 20, "logsnr"))
    np.testing.assert_allclose(shifted.unspaced(shifted.spaced(np.linspace(0, 1, 9))), np.linspace(0, 1, 9))
    for grid in ("linspace", "blend"):
        times = grid_times(shifted, 20, grid)
        assert (times[0], times[-1]) == (shifted.t_max, shifted.t_min)
        assert np.all(times[1:-1] > grid_times(plain, 20, grid)[1:-1])


def test_noise_added_to_unscaled_data():
    karras = md.schedules.from_diffusers(diffusers.EDMDPMSolverMultistepScheduler(sigma_min=0.01, sigma_max=50.0))
    assert karras == md.schedules.edm(0.01, 50.0)
    assert md.schedules.from_diffusers(diffusers.ScoreSdeVeScheduler(sigma_max=30.0)) == md.schedules.ve(0.01, 30.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: md.schedules.from_diffusers("ddpm"), "scheduler: got 'str'; it takes a scheduler of diffusers"),
        (lambda: md.schedules.from_diffusers(diffusers.TCDScheduler()), "scheduler: got TCDScheduler, made for"),
        (lambda: md.schedules.from_diffusers(diffusers.IPNDMScheduler()), "got IPNDMScheduler, whose noise cannot"),
        (lambda: md.schedules.from_diffusers(CHAINS[0], shift=3.0), "shift: got 3.0; it takes None with DDPMScheduler"),
        (lambda: md.schedules.flow(shift=0.0), "shift: got 0.0; it takes a positive number, 1 for none"),
        (
            lambda: md.schedules.from_diffusers(diffusers.EulerDiscreteScheduler(timestep_type="continuous")),
            "timestep_type='continuous'",
        ),
    ],
)
def test_what_cannot_be_mapped_is_named(make, said):
    with pytest.raises(md.MultidriftError, match=re.escape(said)):
        make()


def test_settings_written_before_shifts_are_read():
    assert from_dict({"kind": "flow", "scale": 1.0, "smallest": 1e-3}) == Flow()
    assert "shift" not in md.schedules.flow().to_dict()
