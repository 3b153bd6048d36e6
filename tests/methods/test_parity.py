"""Against diffusers' schedulers as installed, at the precision of their float32 tables."""

import itertools

import diffusers
import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath

SPACINGS = ("leading", "trailing", "linspace")
TABLES = 2e-4  # relative: float32 ᾱ near 1 holds 1 − ᾱ = 1e-4 to 6e-4, and its square root to half of that


def predictor(x, t):
    """Some smooth prediction of ε, in float64."""
    return torch.tanh(x) * torch.cos(torch.as_tensor(t).double() / 700).reshape(-1, *(1,) * (x.ndim - 1))


@pytest.fixture
def network(ddpm):
    return md.Denoiser(predictor, ddpm, predicts="epsilon", shape=(6,))


def start(count=5):
    keys = Keys.of((0,) * count, range(count), Stream.START, torch.device("cpu"))
    return keys.normals([0], (6,), torch.float64)[0]


def noises(process, times, count=5):
    """The unit normals our run reads from its path on these times."""
    keys = Keys.of((0,) * count, range(count), Stream.NOISE, torch.device("cpu"))
    path = BrownianPath(process, keys, (6,), torch.float64)
    lam = process.schedule.log_snr(times).tolist()
    return [path.increment(low, high) for low, high in itertools.pairwise(lam)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [10, 60, 1000])
def test_ddim_step_by_step(ddpm, network, spacing, steps):
    """Every pair (t, t − T//N) that diffusers' DDIM walks; the pair that leaves the chain is our last evaluation."""
    peer = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True, timestep_spacing=spacing)
    peer.set_timesteps(steps)
    x = start()
    for t in [*peer.timesteps.tolist()[:: max(1, steps // 50)], int(peer.timesteps[-1])]:
        before = t - 1000 // steps
        wanted = peer.step(predictor(x, t), t, x).prev_sample
        times = (float(t), float(before)) if before >= 0 else (float(t),)
        if before >= 0:
            one = next(
                iter(md.steps(network, md.Euler(times=times), md.Diffusion(ddpm, 0), start=x, dtype=torch.float64))
            )
            ours = one.x
        else:
            ours = network.predict(x, np.full(len(x), float(t)), "sample", {})
        assert torch.allclose(ours, wanted, rtol=TABLES, atol=TABLES)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [10, 60, 1000])
def test_ddpm_whole_loop(ddpm, network, spacing, steps, monkeypatch):
    peer = diffusers.DDPMScheduler(clip_sample=False, timestep_spacing=spacing)
    peer.set_timesteps(steps)
    times = peer.timesteps.tolist()
    process = md.Diffusion(ddpm, eta=1)
    queue = [*noises(process, times), torch.zeros(5, 6, dtype=torch.float64)]
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *args, **kwargs: queue.pop(0))
    x = start()
    for t in times:
        x = peer.step(predictor(x, t), t, x).prev_sample
    ours = md.sample(network, md.Euler(times=times), process, count=5, dtype=torch.float64).samples
    assert torch.allclose(ours, x, rtol=TABLES, atol=3 * TABLES)


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [10, 60])
def test_dpm_solver_whole_loop(ddpm, network, algorithm, order, spacing, steps):
    peer = diffusers.DPMSolverMultistepScheduler(
        algorithm_type=algorithm, solver_order=order, timestep_spacing=spacing, final_sigmas_type="zero"
    )
    peer.set_timesteps(steps)
    times = peer.timesteps.tolist()
    process = md.Diffusion(ddpm, eta=1 if algorithm.startswith("sde") else 0)
    queue = [*noises(process, times), torch.zeros(5, 6, dtype=torch.float64)] if process.eta else [None] * steps
    x = start()
    for t, noise in zip(times, queue, strict=True):
        x = peer.step(predictor(x, t), t, x, variance_noise=noise).prev_sample
    method = md.Euler(times=times) if order == 1 else md.Multistep(times=times)
    ours = md.sample(network, method, process, count=5, dtype=torch.float64).samples
    assert torch.allclose(ours, x, rtol=TABLES, atol=3 * TABLES)


@pytest.mark.parametrize("algorithm", ["dpmsolver", "sde-dpmsolver"])
def test_dpm_solver_holding_noise(ddpm, network, algorithm):
    """holds="noise" is DPM-Solver-1 and its SDE form; compared up to the last training step before the data."""
    peer = diffusers.DPMSolverMultistepScheduler(
        algorithm_type=algorithm, solver_order=1, timestep_spacing="leading", final_sigmas_type="sigma_min"
    )
    peer.set_timesteps(50)
    times = peer.timesteps.tolist()
    process = md.Diffusion(ddpm, eta=1 if algorithm.startswith("sde") else 0, holds="noise")
    queue = noises(process, times) if process.eta else [None] * 49
    x = start()
    for t, noise in zip(times[:-1], queue, strict=True):
        x = peer.step(predictor(x, t), t, x, variance_noise=noise).prev_sample
    run = md.sample(network, md.Euler(times=times), process, count=5, dtype=torch.float64, save=1)
    assert torch.allclose(run.trajectory[-2], x, rtol=TABLES, atol=3 * TABLES)


def test_multistep_first_order_is_euler(network):
    ours = md.sample(network, md.Multistep(20, order=1), count=4, dtype=torch.float64).samples
    assert torch.equal(ours, md.sample(network, md.Euler(20), count=4, dtype=torch.float64).samples)
