"""Schedules against diffusers' tables and their own inverses; grids against their definitions."""

import diffusers
import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.schedules.catalogue import from_dict
from multidrift.schedules.chain import Discrete
from multidrift.schedules.grids import GRIDS, grid_times

ALL = [
    md.schedules.ddpm(),
    md.schedules.ddpm("scaled_linear", start=0.00085, end=0.012),
    md.schedules.cosine(),
    md.schedules.vp(),
    md.schedules.ve(),
    md.schedules.edm(),
    md.schedules.flow(),
    md.schedules.flow(scale=1000.0),
]
IDS = ["linear", "scaled_linear", "cosine", "vp", "ve", "edm", "flow", "flow1000"]


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (ALL[0], {"beta_schedule": "linear"}),
        (ALL[1], {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        (ALL[2], {"beta_schedule": "squaredcos_cap_v2"}),
    ],
    ids=IDS[:3],
)
def test_chain_is_that_of_diffusers(schedule, settings):
    peer = diffusers.DDPMScheduler(**settings)
    exact = torch.cumprod(1 - peer.betas.double(), 0).numpy()
    np.testing.assert_allclose(schedule.alphas_cumprod, exact, rtol=1e-12)
    steps = np.arange(1000)
    np.testing.assert_allclose(schedule.alpha(steps) ** 2, peer.alphas_cumprod.numpy(), rtol=2e-5)
    np.testing.assert_allclose(schedule.alpha(steps) ** 2 + schedule.sigma(steps) ** 2, 1, rtol=1e-14)


@pytest.mark.parametrize("schedule", ALL, ids=IDS)
def test_time_inverts_log_snr(schedule):
    times = np.linspace(schedule.t_min, schedule.t_max, 1237)[:-1]
    np.testing.assert_allclose(schedule.time(schedule.log_snr(times)), times, rtol=1e-9, atol=1e-12)
    assert np.all(np.diff(schedule.log_snr(times)) < 0)
    ratio = np.log(schedule.alpha(times) / schedule.sigma(times))
    np.testing.assert_allclose(ratio, schedule.log_snr(times), atol=1e-10)


def test_families():
    t = np.linspace(0.1, 0.9, 5)
    assert np.allclose(ALL[4].alpha(t), 1)
    assert np.allclose(ALL[5].sigma(t), t)
    assert np.allclose(ALL[6].alpha(t), 1 - t)
    assert np.allclose(ALL[6].sigma(t), t)
    assert np.allclose(ALL[7].sigma(1000 * t), t)
    beta = 0.1 + 19.9 * t
    slope = (np.log(ALL[3].alpha(t + 1e-6)) - np.log(ALL[3].alpha(t - 1e-6))) / 2e-6
    np.testing.assert_allclose(slope, -beta / 2, rtol=1e-6)


def test_zero_terminal_signal():
    betas = diffusers.DDPMScheduler(beta_schedule="linear", rescale_betas_zero_snr=True).betas.double()
    schedule = Discrete(tuple(betas.tolist()))
    assert schedule.alpha(999.0) == pytest.approx(0, abs=1e-3)
    exact = Discrete((*betas[:-1].tolist(), 1.0))
    assert exact.log_snr(999.0) == -np.inf
    assert exact.sigma(999.0) == 1
    times = np.array([998.2, 998.9, 500.0])
    np.testing.assert_allclose(exact.time(exact.log_snr(times)), times, rtol=1e-12)


@pytest.mark.parametrize("schedule", ALL, ids=IDS)
def test_settings_survive_a_dict(schedule):
    assert from_dict(schedule.to_dict()) == schedule


@pytest.mark.parametrize("schedule", ALL, ids=IDS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [2, 9, 120, 1000])
def test_grids_are_distinct_and_inside(schedule, grid, steps):
    times = grid_times(schedule, steps, grid)
    assert len(times) == steps
    assert np.all(np.diff(times) < 0)
    assert times[0] <= schedule.t_max
    assert times[-1] >= schedule.t_min
    if grid in ("blend", "logsnr", "linspace", "karras"):
        assert times[0] == schedule.t_max
        assert times[-1] == schedule.t_min


def test_grids_finer_than_the_chain_blame_the_steps(ddpm):
    for grid in ("leading", "logsnr"):
        with pytest.raises(md.MultidriftError, match="steps: got (2000|10) on grid"):
            grid_times(ddpm if grid == "leading" else md.schedules.vp(), 2000 if grid == "leading" else 10, grid,
                       integer=grid == "logsnr")  # fmt: skip


def test_grid_definitions(ddpm):
    lam = ddpm.log_snr(grid_times(ddpm, 30, "logsnr"))
    np.testing.assert_allclose(np.diff(lam), np.diff(lam)[0], rtol=1e-9)
    sigma = np.exp(-ddpm.log_snr(grid_times(ddpm, 30, "karras"))) ** (1 / 7)
    np.testing.assert_allclose(np.diff(sigma), np.diff(sigma)[0], rtol=1e-9)
    blend = grid_times(ddpm, 30, "blend")
    mean = 0.5 * np.diff(ddpm.log_snr(blend)) / (lam[-1] - lam[0]) - 0.5 * np.diff(blend) / 999
    np.testing.assert_allclose(mean, 1 / 29, rtol=1e-9)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [10, 50, 60, 1000])
def test_integer_grids_are_those_of_diffusers(ddpm, spacing, steps):
    peer = diffusers.DDPMScheduler(timestep_spacing=spacing)
    peer.set_timesteps(steps)
    ours = grid_times(ddpm, steps, spacing, integer=True)
    # At exact halves (linspace) numpy's rounding after a reversal differs by one step.
    np.testing.assert_allclose(ours, peer.timesteps.numpy(), atol=1e-9 if spacing != "linspace" else 1)


def test_rounding_refuses_coinciding_times(ddpm):
    with pytest.raises(md.MultidriftError, match=r"steps: got 900 on grid .* fewer steps"):
        grid_times(ddpm, 900, "logsnr", integer=True)


OWN = {
    ("ddpm", 0.0): "blend",
    ("ddpm", 1.0): "linspace",
    ("cosine", 0.0): "trailing",
    ("cosine", 1.0): "trailing",
    ("vp", 0.0): "blend",
    ("vp", 1.0): "linspace",
    ("ve", 1.0): "logsnr",
    ("edm", 0.0): "logsnr",
    ("flow", 0.0): "trailing",
}


@pytest.mark.parametrize(("name", "eta"), OWN)
def test_a_method_that_names_no_grid_takes_the_schedules_own(mixture, name, eta):
    schedule = getattr(md.schedules, name)()
    process, own = md.Diffusion(schedule, eta), OWN[name, eta]
    assert process.own_grid == own
    model = mixture.denoiser(schedule)
    for kind, settings in ((md.Euler, {}), (md.PoissonMidpoint, {"substeps": 4})):
        found, named = (
            md.sample(model, kind(7, grid, **settings), process, count=2, dtype=torch.float64) for grid in (None, own)
        )
        assert torch.equal(found.samples, named.samples)
        assert kind(7, **settings).grid_for(process).tolist() == md.grid_times(schedule, 7, eta=eta).tolist()


@pytest.mark.parametrize("name", ["edm", "flow", "cosine"])
def test_the_own_grid_errs_less_than_blend(mixture, name):
    """At 20 steps of Euler and of Multistep, against a fine run; by half at least for edm and flow."""
    schedule = getattr(md.schedules, name)()
    model, process = mixture.denoiser(schedule), md.Diffusion(schedule, 0.0)

    def run(method):
        return md.sample(model, method, process, count=64, dtype=torch.float64).samples

    fine = run(md.Multistep(400, "blend"))
    for kind in (md.Euler, md.Multistep):
        own, blend = (float((run(kind(20, grid)) - fine).square().mean()) for grid in (None, "blend"))
        assert own < blend * (0.8 if name == "cosine" else 0.5)


def test_plans_of_named_and_unnamed_grids_are_read_back(denoiser, tmp_path):
    """A plan keeps what its method was given: one that says "blend" is walked on "blend"."""
    for grid in (None, "blend"):
        plan = md.Euler(6, grid).plan(denoiser)
        plan.save(tmp_path / "plan.json")
        read = md.Plan.load(tmp_path / "plan.json")
        assert read.method["grid"] == grid
        assert md.method_from_dict(read.method) == md.Euler(6, grid)
        found = md.sample(denoiser, read, count=2).samples
        assert torch.equal(found, md.sample(denoiser, md.Euler(6, grid), count=2).samples)
