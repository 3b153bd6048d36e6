"""Transitions: the density of what was drawn, for every method whose step is Gaussian given its plan."""

import math

import numpy as np
import pytest
import torch
from tests.fakes import F64

import multidrift as md
from multidrift.runs.transitions import StepNoise

DDPM = md.schedules.ddpm()
PROCESSES = [
    md.Diffusion(DDPM),
    md.Diffusion(DDPM, 0.5, "noise"),
    md.Overdamped(1.0, beta=2.0, preconditioner=(0.5, 2.0)),
    md.Underdamped(1.0, friction=2.0),
    md.Underdamped(1.0, friction=2.0, preconditioner=(0.5, 2.0)),
]
METHODS = [
    md.Euler(9),
    md.Multistep(9),
    md.Multilevel(9, levels=("a", "b"), calls=(9, 4), draws="midpoint"),
    md.Speculative(9, window=3, drafter="a+held"),
]


def ladder_for(process, mixture):
    away = md.GaussianMixture([1.0], [[0.2, 0.1]], [[[0.5, 0.1], [0.1, 0.4]]])
    pair = (("a", away), ("b", mixture))
    if process.model_schedule is None:
        return md.Ladder([md.LangevinDrift(m.score, name) for name, m in pair])
    return md.Ladder([m.denoiser(process.model_schedule, name) for name, m in pair])


def run(process, method, mixture, **more):
    arguments = {"count": 4, "shape": (2,), "save": 1, "save_transitions": True} | F64 | more
    return md.sample(ladder_for(process, mixture), method, process, **arguments)


def covariance(process, n, times):
    """Of the state after step n, of one coordinate, with velocities of a position and its velocity."""
    interval = next(iter(process.intervals(times[n : n + 1], times[n + 1 : n + 2]).each(torch.zeros(1, 2, 2))))
    law = StepNoise(process, process.intervals(times[n : n + 1], times[n + 1 : n + 2]))
    unit = torch.eye(process.components, dtype=torch.float64)
    leave = interval.leave(unit).numpy().T if process.components > 1 else np.array([[float(interval.leave_factor)]])
    return leave @ law.factors[0] @ law.factors[0].T @ leave.T


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_log_densities_are_those_of_the_gaussian_of_each_step(process, method, mixture):
    result = run(process, method, mixture)
    found, times = result.transitions, np.asarray(result.trajectory_times)
    steps = len(times) - 1 - process.final_calls
    times = md.Euler(9).grid_for(process)
    assert found.times == tuple(times.tolist())
    states = result.trajectory[: steps + 1]
    if process.has_velocity:
        states = torch.stack((states, result.trajectory_velocities), -1)
    assert torch.equal(found.states, states)
    weights = process.preconditioning if process.preconditioning is not None else np.ones(2)
    for n in range(steps):
        one = torch.from_numpy(covariance(process, n, times))
        blocks = torch.block_diag(*(one * w for w in weights))
        law = torch.distributions.MultivariateNormal(found.means[n].flatten(1), blocks)
        wanted = law.log_prob(found.states[n + 1].flatten(1))
        assert torch.allclose(found.log_prob[n], wanted, rtol=1e-8, atol=1e-8)
        stds = torch.broadcast_to(found.stds[n], found.means[n].shape[1:]).flatten()
        assert torch.allclose(stds, blocks.diagonal().sqrt(), rtol=1e-10)
    assert torch.equal(result.log_prob, found.log_prob.sum(0))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_means_are_those_of_the_top_level(process, mixture):
    """Of Speculative they are what Euler's step makes of the states it accepted, though others drafted them."""
    ladder = ladder_for(process, mixture)
    found = run(process, METHODS[-1], mixture).transitions
    times = np.asarray(found.times)
    pairs = zip(process.intervals(times[:-1], times[1:]).each(found.states[0]), found.states, found.means, strict=False)
    root = None if process.preconditioning is None else torch.from_numpy(process.preconditioning)
    for n, (interval, before, mean) in enumerate(pairs):
        drift = ladder["b"].predict(process.position(before), float(times[n]), process.drift_is, {})
        drift = process.lift(drift if root is None else drift * root, float(times[n]))
        assert torch.allclose(interval.leave(interval.enter(before) + interval.dtau * drift), mean, atol=1e-10)


def test_the_density_of_a_brownian_step(mixture):
    """A step of length h at β = 2 in two coordinates: −‖ξ‖²/2 − log(2π h)."""
    result = run(md.Overdamped(3.0, beta=2.0), md.Euler(3), mixture)
    away = result.transitions.states[1:] - result.transitions.means
    wanted = -0.5 * away.square().sum(2) - math.log(2.0 * math.pi)
    assert torch.allclose(result.transitions.log_prob, wanted)


def test_means_keep_the_graph(mixture):
    """With `grad` means keep the graph: what trains on rollouts can differentiate them."""
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    model = md.LangevinDrift(lambda x: -scale * x, "pull")
    result = md.sample(
        model, md.Euler(3), md.Overdamped(1.0), count=2, shape=(2,), save_transitions=True, grad=True, **F64
    )
    (slope,) = torch.autograd.grad(result.transitions.means[0].sum(), scale)
    assert torch.isfinite(slope)
    assert slope != 0


def test_what_keeps_no_transitions_has_none(mixture):
    result = md.sample(mixture.denoiser(DDPM), md.Euler(5))
    assert result.transitions is None
    assert result.log_prob is None


@pytest.mark.parametrize(
    ("method", "eta"), [(md.Picard(5), 1.0), (md.PoissonMidpoint(5, substeps=4), 1.0), (md.Euler(5), 0.0)], ids=repr
)
def test_methods_whose_steps_are_not_gaussian_are_refused(method, eta, mixture):
    with pytest.raises(md.MultidriftError, match=r"save_transitions: got .* takes Euler, Multistep, Multilevel"):
        md.sample(mixture.denoiser(DDPM), method, md.Diffusion(DDPM, eta), save_transitions=True)
