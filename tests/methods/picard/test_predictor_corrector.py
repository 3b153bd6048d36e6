"""PIADM-ODE's corrector: exact on a Gaussian, the law of a mixture in 20 dimensions, what a run counts and draws."""

import itertools

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.methods.picard.front import block_boundaries
from multidrift.methods.picard.predictor_corrector import _VELOCITIES, AtOneTime
from multidrift.noise.counter import Keys, Stream

F64 = {"dtype": torch.float64}
D = 20


@pytest.fixture(scope="module")
def target():
    spread = torch.diag(torch.linspace(0.1, 1.0, D)).tolist()
    return md.GaussianMixture([0.3, 0.7], [[0.8] * D, [-0.4] * D], [spread, spread])


def kernel_distance(x, y):
    """The squared maximum mean discrepancy with Gaussian kernels of several widths, unbiased."""
    total, distances = 0.0, [torch.cdist(a, b).square() for a, b in ((x, x), (y, y), (x, y))]
    for width in (2.0, 4.0, 8.0):
        k = [torch.exp(distance / (-2 * width**2)) for distance in distances]
        within = [(m.sum() - m.diagonal().sum()) / (len(m) * (len(m) - 1)) for m in k[:2]]
        total += float(within[0] + within[1] - 2 * k[2].mean())
    return total


@pytest.mark.parametrize("how", [{"window": 1}, {"tolerance": 1e-13}], ids=["sequential", "parallel"])
def test_a_run_is_the_ode_and_langevin_dynamics_in_turn(ddpm, how):
    """On a Gaussian, whose score is written out here: Euler's ODE, then Langevin dynamics by themselves, and so on.

    They share the corrector's velocities and Brownian motion, of which each block has a stretch of its own; so that
    they are equal to rounding, and a score that is off by any factor is seen.
    """
    mean, variance = torch.tensor([0.5, -0.3, 0.1], **F64), torch.tensor([0.05, 0.5, 2.0], **F64)
    denoiser = md.GaussianMixture([1.0], [mean.tolist()], [torch.diag(variance).tolist()]).denoiser(ddpm)
    process, blocks, steps, count = md.Diffusion(ddpm, 0), 3, 9, 5
    dynamics = md.Underdamped(1.5, friction=3.0, beta=1.25)
    method = md.PredictorCorrector(md.Picard(13, "blend", blocks=blocks, **how), md.Picard(steps, **how), dynamics)
    seed = {"count": count, "seed": 4}
    found = md.sample(denoiser, method, process, save=1, **seed, **F64)
    times = md.grid_times(ddpm, 13, "blend")
    ends = [0, *block_boundaries(process, times, blocks, "blend").tolist()]
    whole = md.Underdamped(blocks * 1.5, friction=3.0, beta=1.25)
    keys = Keys.of([4] * count, range(count), Stream.NOISE, torch.device("cpu"))
    x = md.sample(denoiser, md.Euler(13, "blend"), process, save=1, **seed, **F64).trajectory[0]
    for block, (first, last) in enumerate(itertools.pairwise(ends)):
        path = md.sample(denoiser, md.Euler(times=times[first : last + 1]), process, start=x, save=1, **F64).trajectory
        assert torch.allclose(found.trajectory[first + 1 : last + 1], path[1:-1], atol=1e-9, rtol=0)
        x = path[-2]
        alpha, sigma = float(ddpm.alpha(times[last])), float(ddpm.sigma(times[last]))
        at = np.append(np.linspace(block, block + 1, steps + 1) * 1.5, whole.horizon)
        langevin = md.sample(
            lambda u, alpha=alpha, sigma=sigma: sigma * (alpha * mean - sigma * u) / (alpha**2 * variance + sigma**2),
            md.Euler(times=at[at < whole.horizon]),
            whole,
            start=x / sigma,
            velocities=keys.normals([_VELOCITIES - block], (3,), torch.float64)[0] / 1.25**0.5,
            save=1,
            **seed,
            **F64,
        )
        x = langevin.trajectory[steps] * sigma
    assert torch.allclose(found.samples, denoiser.predict(x, float(times[-1]), "sample", {}), atol=1e-9, rtol=0)


def test_every_third_state_is_saved_across_blocks(target, ddpm):
    """At the same times as of a method that goes step by step."""
    methods = md.PredictorCorrector(md.Picard(14, blocks=3), md.Picard(4)), md.Euler(14)
    found = [md.sample(target.denoiser(ddpm), m, md.Diffusion(ddpm, 0), count=1, save=3) for m in methods]
    assert found[0].trajectory_times == pytest.approx(found[1].trajectory_times)


def test_the_law_of_a_mixture_is_kept(target, ddpm):
    """Moments within five standard errors, kernel distance as between exact samples.

    By a union over 20 means and 210 covariances a right sampler without bias fails with a probability below 2e-4.
    """
    method = md.PredictorCorrector(
        md.Picard(60, "piadm", blocks=4), md.Picard(20), md.Underdamped(horizon=2.0, friction=2.0)
    )
    found = md.sample(target.denoiser(ddpm), method, md.Diffusion(ddpm, 0), count=1200).samples.double()
    variance = target.covariance.diagonal()
    spread = ((variance[:, None] * variance + target.covariance.square()) / 1200).sqrt()
    assert ((found.mean(0) - target.mean).abs() < 5 * (variance / 1200).sqrt()).all()
    assert ((torch.cov(found.T) - target.covariance).abs() < 5 * spread).all()
    null = [kernel_distance(target.sample(1200, seed=2 * s), target.sample(1200, seed=2 * s + 1)) for s in range(1, 8)]
    distance = kernel_distance(found, target.sample(1200, seed=0))
    print(f"  kernel distance {distance:.2g}, between exact samples up to {max(null):.2g}")
    assert distance < 3 * max(map(abs, null))


def test_the_corrector_lowers_the_error_of_few_steps(target, ddpm):
    """As docs/picard.md says, and that finer steps of the predictor lower it more, in fewer rounds."""
    process, denoiser = md.Diffusion(ddpm, 0), target.denoiser(ddpm)
    corrected = md.PredictorCorrector(
        md.Picard(12, "piadm", blocks=4), md.Picard(20), md.Underdamped(3.0, friction=2.0)
    )
    methods = {
        "alone": md.Picard(12, "piadm", blocks=4),
        "corrected": corrected,
        "finer": md.Picard(60, "piadm", blocks=4),
    }
    errors, rounds = {}, {}
    for name, method in methods.items():
        result = md.sample(denoiser, method, process, count=1200)
        covariance = torch.cov(result.samples.double().T)
        errors[name] = float((covariance - target.covariance).norm() / target.covariance.norm())
        rounds[name] = result.rounds
    assert errors["corrected"] < 0.8 * errors["alone"]
    assert errors["finer"] < 0.6 * errors["corrected"]
    assert rounds["finer"] < rounds["corrected"]


def test_samples_are_their_own(target, ddpm):
    method = md.PredictorCorrector(md.Picard(10, blocks=2), md.Picard(8))
    arguments = {"process": md.Diffusion(ddpm, 0)} | F64
    denoiser = target.denoiser(ddpm)
    whole = md.sample(denoiser, method, count=4, **arguments)
    alone = torch.cat([md.sample(denoiser, method, count=1, first=i, **arguments).samples for i in range(4)])
    assert torch.allclose(alone, whole.samples, atol=1e-10)
    assert not torch.allclose(
        md.sample(denoiser, method, count=4, seed=1, **arguments).samples, whole.samples, atol=0.1
    )
    assert whole.rounds == whole.batches["mixture"] == len(whole.residuals) + 1
    assert whole.peak_rows == 4 * 8  # the first round of a corrector on all its steps
    assert whole.converged
    assert whole.finished


def test_parallel_corrector_equals_sequential(target, ddpm):
    found = [
        md.sample(
            target.denoiser(ddpm),
            md.PredictorCorrector(md.Picard(10, blocks=2, **how), md.Picard(8, **how)),
            md.Diffusion(ddpm, 0),
            count=3,
            **F64,
        ).samples
        for how in ({"tolerance": 1e-13}, {"window": 1})
    ]
    assert torch.allclose(found[0], found[1], atol=1e-10)


def test_settings_go_to_dicts_and_back(target, ddpm):
    method = md.PredictorCorrector(md.Picard(10, blocks=2), md.Picard(8, window=3), md.Underdamped(2.0, friction=3.0))
    assert md.method_from_dict(method.to_dict()) == method
    process = md.Diffusion(ddpm, 0)
    plan = method.plan(target.denoiser(ddpm), process)
    again = md.sample(target.denoiser(ddpm), plan, process, count=2).samples
    assert torch.equal(again, md.sample(target.denoiser(ddpm), method, process, count=2).samples)


def test_bad_settings(target, ddpm):
    with pytest.raises(md.MultidriftError, match="predictor: got Euler.*; it takes an md.Picard"):
        md.PredictorCorrector(md.Euler(10), md.Picard(8))
    with pytest.raises(md.MultidriftError, match="corrector: got .*; it takes an md.Picard without coarse="):
        md.PredictorCorrector(md.Picard(10), md.Picard(8, coarse="f1"))
    with pytest.raises(md.MultidriftError, match="dynamics: got .*; it takes an md.Underdamped"):
        md.PredictorCorrector(md.Picard(10), md.Picard(8), md.Overdamped(1.0))
    method = md.PredictorCorrector(md.Picard(10), md.Picard(8))
    with pytest.raises(md.MultidriftError, match="process: got 'noise'; it takes a process without"):
        md.sample(target.denoiser(ddpm), method)


def test_the_drift_of_the_corrector_is_the_score_of_scaled_positions(mixture, ddpm):
    """σ times the denoiser's score at x = σy, at its own time whatever time it is asked for."""
    denoiser = mixture.denoiser(ddpm)
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drift = AtOneTime(denoiser, 300.0, 0.7)
    wanted = 0.7 * denoiser.predict(0.7 * y, 300.0, "score", {})
    assert torch.equal(drift.predict(y, 5.0, "sample", {}), wanted)
    assert drift.schedule is None
    assert drift.renamed("other").fingerprint != denoiser.fingerprint


@pytest.mark.parametrize(
    ("predictor", "corrector", "more"),
    [
        ({"blocks": 3}, {"rounds": 2}, 3 * 5 * 2),
        ({"blocks": 3}, {}, 3 * 5 * 2.5),
        ({"blocks": 2}, {"rounds": 9}, 2 * 5 * 5),
        ({"blocks": (600.0, 200.0)}, {"rounds": 2}, 3 * 5 * 2),
    ],
)
def test_it_costs_what_the_predictor_does_and_so_many_rounds_after_each_block(target, ddpm, predictor, corrector, more):
    model, path = target.denoiser(ddpm), md.Picard(14, **predictor)
    whole = md.PredictorCorrector(path, md.Picard(5, **corrector)).cost(model).calls["mixture"]
    assert whole == path.cost(model).calls["mixture"] + more


def test_reports_count_the_steps_of_the_whole_run(target, ddpm):
    """Each rises to the end of its block, the corrector's stay there, at its time; the last is the number of calls."""
    method = md.PredictorCorrector(md.Picard(14, "blend", blocks=3), md.Picard(4))
    states = list(md.steps(target.denoiser(ddpm), method, md.Diffusion(ddpm, 0), count=2, **F64))
    assert {state.total for state in states} == {14}
    steps = [state.step for state in states]
    assert steps == sorted(steps)
    assert steps[-1] == 14
    process, times = md.Diffusion(ddpm, 0), md.grid_times(ddpm, 14, "blend")
    for end in block_boundaries(process, times, 3, "blend"):
        assert steps.count(int(end)) >= 2
        assert states[len(steps) - 1 - steps[::-1].index(int(end))].t == pytest.approx(times[end])
