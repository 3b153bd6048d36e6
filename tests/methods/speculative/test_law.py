"""The law of speculative sampling is the top level's: of consecutive states, for every drafter, window and process.

Two-sample tests compare consecutive states (x_n, x_{n+1}) of Speculative's runs with those of Euler's, of other seeds.
The kernel test is that of the difference of mean random Fourier features of a Gaussian kernel, whose square, over its
own covariance, is χ² where the laws are equal (Chwialkowski et al. 2015). With fixed seeds nothing is random here; the
thresholds say how rarely an honest run of another seed would fail.
"""

import functools
import math

import numpy as np
import pytest
import torch
from tests.methods.speculative.targets import ladder_for

import multidrift as md
from multidrift.basics.numbers import aligned
from multidrift.methods.speculative import chains
from multidrift.methods.speculative.verify import Verdict, verify
from multidrift.runs.transitions import StepNoise

FEATURES = 40
ALARM = 98.6  # the 1 − 1e-6 quantile of χ² with 40 degrees of freedom: the rate of false alarms of one pair of states
STEPS = 7
COUNT = 2_500
DDPM = md.schedules.ddpm()
SDE = md.Diffusion(DDPM)
MULTILEVEL = md.Multilevel(STEPS, levels=("low", "middle"), calls=(STEPS, 4))
CASES = [
    (SDE, {"drafter": "frozen", "window": 3}),
    (SDE, {"drafter": "low", "window": 20}),
    (SDE, {"drafter": "low+held", "window": 2}),
    (SDE, {"drafter": "low+held", "window": 4}),
    (SDE, {"drafter": "low+extrapolated", "window": (1, 5)}),
    (SDE, {"drafter": "gaussian", "window": 4}),
    (SDE, {"drafter": "gaussian+held", "window": 4}),
    (SDE, {"drafter": ("low+held", "middle+held"), "window": 4}),
    (SDE, {"drafter": ("frozen", "middle"), "window": (2, 6)}),
    (SDE, {"drafter": MULTILEVEL, "window": 4}),
    (SDE, {"drafter": "low+held", "window": 5, "every": 2}),
    (SDE, {"drafter": "low", "window": 3, "verification": "block"}),
    (SDE, {"drafter": "low+held", "window": 20, "verification": "block"}),
    (SDE, {"drafter": ("low", "middle"), "window": (2, 5), "verification": "block"}),
    (md.Underdamped(2.0, friction=2.0), {"drafter": "low", "window": 4, "verification": "block"}),
    (
        md.Overdamped(0.6, preconditioner=(0.5,) * 5 + (2.0,) * 5),
        {"drafter": "low", "window": 4, "verification": "block"},
    ),
    (SDE, {"drafter": "top", "window": 4, "every": 3}),
    (md.Diffusion(DDPM, 0.5, "noise"), {"drafter": "low+held", "window": 4}),
    (md.Diffusion(DDPM, 2.0), {"drafter": "low+held", "window": 3}),
    (md.Diffusion(md.schedules.flow()), {"drafter": "low+held", "window": 4}),
    (md.Overdamped(0.6), {"drafter": "low", "window": 3}),
    (md.Overdamped(0.6, preconditioner=(0.5,) * 5 + (2.0,) * 5), {"drafter": "low+held", "window": 3}),
    (md.Underdamped(2.0, friction=2.0), {"drafter": "low", "window": 3}),
    (md.Underdamped(2.0, friction=2.0), {"drafter": ("frozen", "middle+held"), "window": 4}),
]


def named(value):
    """A short name of a process or of settings."""
    return repr(value)[:50] if isinstance(value, dict | str) else type(value).__name__


def path(process, method, seed, count=COUNT):
    """States of all steps [N + 1, count, coordinates], with velocities beside positions."""
    result = md.sample(ladder_for(process), method, process, count=count, seed=seed, save=1)
    states = result.trajectory
    if result.trajectory_velocities is not None:
        states = torch.cat((states, result.trajectory_velocities), dim=2)
    return states[: STEPS + (not process.final_calls)], result


def features(pairs, scale):
    """Random Fourier features [count, FEATURES] of a Gaussian kernel of this width."""
    rng = torch.Generator().manual_seed(0)
    frequencies = torch.randn((pairs.shape[1], FEATURES // 2), generator=rng, dtype=torch.float64)
    angles = pairs / scale @ frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=1)


def moments(states):
    """Means and second moments of coordinates, and their standard errors."""
    upper = tuple(torch.triu_indices(states.shape[1], states.shape[1]))
    squares = states.square()
    # The variance of a product is E[x_i² x_j²] − E[x_i x_j]²: from one matrix product, not from all the products.
    firsts, seconds = states.mean(0), (states.T @ states / len(states))[upper]
    fourths = (squares.T @ squares / len(states))[upper]
    found = torch.cat((firsts, seconds))
    spread = torch.cat((squares.mean(0) - firsts.square(), fourths - seconds.square()))
    return found, (spread / len(states)).sqrt()


def statistic(ours, theirs):
    """The kernel test's χ², and the largest difference of a mean or second moment in standard errors."""
    ours, theirs = ours.double(), theirs.double()
    scale = theirs.std(0) * math.sqrt(theirs.shape[1])
    a, b = features(ours, scale), features(theirs, scale)
    away = a.mean(0) - b.mean(0)
    spread = torch.cov(a.T) / len(a) + torch.cov(b.T) / len(b)
    (one, error), (other, as_well) = moments(ours), moments(theirs)
    sigmas = (one - other).abs() / torch.hypot(error, as_well)
    return float(away @ torch.linalg.solve(spread, away)), float(sigmas.max())


@functools.lru_cache
def sequential(process, count):
    """Euler's states, of another seed."""
    return path(process, md.Euler(STEPS), 77, count)[0]


def compared(process, settings, count=COUNT):
    """The worst of the two statistics over consecutive states (n, n + 1) at some places, and the run's result."""
    theirs = sequential(process, count)
    ours, result = path(process, md.Speculative(STEPS, **settings), 1, count)
    found = [
        statistic(torch.cat((ours[n], ours[n + 1]), 1), torch.cat((theirs[n], theirs[n + 1]), 1))
        for n in (0, 3, len(ours) - 2)
    ]
    return *(max(column) for column in zip(*found, strict=True)), result


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
@pytest.mark.parametrize(("process", "settings"), CASES, ids=named)
def test_consecutive_states_have_the_law_of_the_sequential_chain(process, settings):
    kernel, sigmas, result = compared(process, settings)
    assert kernel < ALARM
    # 3·230 moments (860 with velocities): one of them leaves 4.9σ in 7e-4 of all honest runs (3e-3).
    assert sigmas < 4.9
    assert 0.2 < result.speculation.acceptance < 0.995


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
@pytest.mark.parametrize(("process", "settings"), CASES, ids=named)
def test_the_law_of_many_samples(process, settings):
    """10⁵ samples, every pair of consecutive states, moments to 4σ: of each pair's 230, 1.4% of honest seeds fail.

    So one of a run's six pairs (of seven with velocities) beyond 4σ is no sign of a wrong law; two, or 5σ, are.
    """
    theirs, (ours, result) = sequential(process, 100_000), path(process, md.Speculative(STEPS, **settings), 1, 100_000)
    found = [
        statistic(torch.cat((ours[n], ours[n + 1]), 1), torch.cat((theirs[n], theirs[n + 1]), 1))
        for n in range(len(ours) - 1)
    ]
    assert max(kernel for kernel, _ in found) < ALARM
    assert sum(sigmas > 4.0 for _, sigmas in found) <= 1
    assert max(sigmas for _, sigmas in found) < 5.0
    assert 0.2 < result.speculation.acceptance < 0.995


def test_the_law_of_many_samples_of_one_drafter():
    """10⁵ samples of the pair at the end of a short run, its moments to 4σ: 230 of them, 1.4% of honest seeds fail."""
    method = md.Speculative(4, window=3, drafter="gaussian+held")
    theirs, _ = path(SDE, md.Euler(4), 5, 100_000)
    ours, _ = path(SDE, method, 6, 100_000)
    kernel, sigmas = statistic(torch.cat((ours[2], ours[3]), 1), torch.cat((theirs[2], theirs[3]), 1))
    assert kernel < ALARM
    assert sigmas < 4.0


def mutant(kind):
    """`verify` with one thing wrong."""

    def wrong(law, steps, shift, noise, uniforms):
        delta, z = law.whitened(shift, steps), law.whitened(noise, steps)
        along, size = (z * delta).sum(1), delta.square().sum(1)
        half = {"without half the square": 0.0, "the whole square": 1.0}.get(kind, 0.5)
        sign = -1.0 if kind == "the ratio upside down" else 1.0
        accepted = uniforms.log() <= -sign * along - half * size
        wrong_ways = {"not reflected": 0.0, "reflected half-way": 1.0, "reflected without sign": -2.0}
        factor = torch.where(accepted, 1.0, -wrong_ways.get(kind, 2.0) * along / size)
        kept = noise + (aligned(factor, shift) * shift).to(noise)
        return Verdict(accepted, torch.special.erfc(size.sqrt() / math.sqrt(8.0)), kept)

    return wrong


LANGEVIN = (md.Overdamped(0.6), md.Underdamped(2.0, friction=2.0))
MUTANTS = [
    *((SDE, kind) for kind in ("without half the square", "the ratio upside down", "reflected half-way")),
    *((SDE, kind) for kind in ("reflected without sign", "not reflected")),
    *((process, kind) for process in LANGEVIN for kind in ("without half the square", "reflected without sign")),
]


@pytest.mark.parametrize(("process", "kind"), MUTANTS, ids=named)
def test_mutants_are_caught(process, kind, monkeypatch):
    monkeypatch.setattr(chains, "verify", mutant(kind))
    kernel, sigmas, _ = compared(process, {"drafter": "low", "window": 4})
    assert kernel > 1.2 * ALARM or sigmas > 6.0


def test_the_mutants_frame_is_right(monkeypatch):
    """With nothing wrong the same function passes."""
    monkeypatch.setattr(chains, "verify", mutant("nothing"))
    kernel, sigmas, _ = compared(SDE, {"drafter": "low", "window": 4})
    assert kernel < ALARM
    assert sigmas < 4.9


def one_step(verdict_of, size, count=200_000):
    """The largest distance of the distribution of corrected noise from N(0, 1), times √count, at one ‖Δ‖."""
    process = md.Overdamped(1.0, beta=2.0)
    law = StepNoise(process, process.intervals([0.0], [1.0]))  # std 1
    normals = torch.randn((count, 1), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    uniforms = torch.rand(count, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shift = torch.full_like(normals, size)
    verdict = verdict_of(law, np.zeros(count, dtype=np.intp), shift, normals, uniforms)
    found = torch.special.ndtr(verdict.noise[:, 0].sort().values)
    steps = torch.arange(count, dtype=torch.float64)
    gap = torch.maximum(((steps + 1) / count - found).max(), (found - steps / count).max())
    share, chance = verdict.accepted.double().mean(), verdict.probability[0]
    assert verdict_of is not verify or abs(share - chance) < 4.0 * (chance * (1 - chance) / count).sqrt()
    return float(gap) * math.sqrt(count)


@pytest.mark.parametrize("size", [-2.5, -0.5, 0.1, 1.0, 3.0])
def test_one_step_is_normal_whatever_the_draft(size):
    """Kolmogorov and Smirnov: √n·D is above 2.3 once in 20,000 honest draws."""
    assert one_step(verify, size) < 2.3


@pytest.mark.parametrize("kind", ["without half the square", "the whole square", "the ratio upside down",
                                  "reflected without sign", "reflected half-way"])  # fmt: skip
def test_one_step_of_a_mutant_is_not(kind):
    assert one_step(mutant(kind), 1.0) > 4.0
    assert one_step(mutant("nothing"), 1.0) < 2.3


@pytest.mark.parametrize(("process", "settings"), [CASES[0], CASES[3], CASES[7], CASES[20], CASES[22]], ids=named)
def test_acceptance_is_what_the_differences_predict(process, settings):
    """The number of accepted steps is within 4σ of Σ 2Φ(−‖Δ‖/2): each is a Bernoulli draw given those before it."""
    _, result = path(process, md.Speculative(STEPS, **settings), 3, 4000)
    found = result.speculation
    chances, accepted = found.probability[found.done], found.accepted[found.done]
    spread = math.sqrt((chances * (1.0 - chances)).sum())
    assert abs(accepted.sum() - chances.sum()) < 4.0 * spread
    assert found.acceptance == accepted.mean()
    assert found.predicted == chances.mean()


def test_what_a_difference_costs_is_the_gain_in_signal_to_noise():
    """For DDPM, ‖Δ_n‖² = (SNR_{n+1} − SNR_n)·‖x̂₀^q − x̂₀^p‖²."""
    times = md.grid_times(DDPM, 9)
    law = StepNoise(SDE, SDE.intervals(times[:-1], times[1:]))
    snr = np.exp(2.0 * DDPM.log_snr(times))
    assert np.allclose(law.per_unit(), np.diff(snr), rtol=1e-10)


def test_a_held_force_moves_underdamped_dynamics_as_its_own_noise_does():
    """A difference of forces acts through the first normal of a step alone: s_n = hβ/(2γ), however short the step."""
    process = md.Underdamped(4.0, friction=3.0, beta=2.0)
    times = np.array([0.0, 0.004, 0.1, 1.0, 4.0])
    law = StepNoise(process, process.intervals(times[:-1], times[1:]))
    assert np.allclose(law.per_unit(), np.diff(times) * 2.0 / (2.0 * 3.0), rtol=1e-6)
