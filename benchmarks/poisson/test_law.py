"""The law of the Poisson midpoint method: exactly where the gradient is linear, and beside its fine chain elsewhere."""

import math

import numpy as np
import pytest
import torch

import multidrift as md
from benchmarks.poisson.linear_law import step_law
from benchmarks.poisson.order import error

PROCESSES = {"overdamped": md.Overdamped(3.2), "underdamped": md.Underdamped(3.2, friction=2.0)}
RANDOM = ("independent", "single")
DRAWS = (*RANDOM, "midpoint")


def slope(label, steps):
    """Weak order between so many steps and twice as many; the errors are exact."""
    return math.log2(error(label, steps) / error(label, 2 * steps))


@pytest.mark.parametrize(
    ("label", "order"),
    [
        ("Euler", 1),
        ("independent, K = 8", 1),
        ("single, K = 8", 1),
        ("independent, K = 2/h", 2),
        ("single, K = 2/h", 2),
        ("midpoint", 2),
    ],
)
def test_weak_order(label, order):
    """With K fixed the fine chain is Euler at h/K, of order 1; K ∝ 1/h gives 2. Exact."""
    assert slope(label, 128) == pytest.approx(order, abs=0.1)


def test_the_exact_law_of_euler_is_known():
    """LMC on a unit normal has the variance 1/(1 − h/2), and its mean falls by 1 − h a step."""
    step = step_law(PROCESSES["overdamped"], 0.1, None)
    assert float(step.stationary()[0, 0]) == pytest.approx(1 / 0.95, rel=1e-12)
    assert float(step.mean[0, 0]) == pytest.approx(0.9, rel=1e-12)


@pytest.mark.parametrize(
    ("process", "h", "substeps"), [("overdamped", 0.2, 8), ("underdamped", 0.4, 8), ("overdamped", 0.1, 20)]
)
@pytest.mark.parametrize("draws", DRAWS)
def test_exact_bias_is_below_that_of_euler_at_equal_calls(process, h, substeps, draws):
    """The variance in equilibrium of a unit normal, at steps of h beside Euler's of h/2."""
    bias = step_law(PROCESSES[process], h, draws, substeps).stationary()[0, 0] - 1
    assert abs(bias) < 0.55 * (step_law(PROCESSES[process], h / 2, None).stationary()[0, 0] - 1)


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("name", PROCESSES)
def test_runs_have_the_exact_law(name, draws):
    """Second moments after 8 steps of 0.4, 20,000 chains, against Euler's on the same noise: five standard errors.

    Six comparisons at five deviations: a false alarm in some 300,000 sets of seeds. The difference to Euler is some
    thirty standard errors.
    """
    process, count = PROCESSES[name], 20_000
    start = torch.randn(count, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    steps, substeps = 8, 6
    h, d = process.horizon / steps, 2 if process.has_velocity else 1

    def squares(method):
        return md.sample(lambda x: -x, method, process, start=start, dtype=torch.float64).samples.square().flatten()

    def expected(*law):
        return step_law(process, h, *law).after(steps, np.zeros(d), np.eye(d))[1][0, 0]

    difference = squares(md.PoissonMidpoint(steps, substeps=substeps, draws=draws)) - squares(md.Euler(steps))
    standard = float(difference.std()) / math.sqrt(count)
    exact = expected(draws, substeps) - expected(None)
    assert abs(exact) > 15 * standard
    assert float(difference.mean()) == pytest.approx(exact, abs=5 * standard)


@pytest.mark.parametrize("draws", RANDOM)
def test_reduced_noise_takes_off_what_the_draws_add(draws):
    """One step of 0.2 from 0, 40,000 chains: 1 − kept² of the noise, on average, is the variance the draws add, to 6%.

    The noise of a step is what the run without correction (Euler) has moved by.
    """
    process, h = md.Overdamped(0.4), 0.2
    # Few substeps tell 1 − 1/w of a coin from 1; what a single firing adds is known for many.
    start, substeps = torch.zeros(40_000, 1, dtype=torch.float64), 4 if draws == "independent" else 64

    def after(method):
        run = md.steps(lambda x: -x, method, process, start=start, dtype=torch.float64)
        return next(run).x.flatten()

    noise = after(md.Euler(2))
    plain, reduced = (
        after(md.PoissonMidpoint(2, substeps=substeps, draws=draws, reduce_noise=r)) for r in (False, True)
    )
    kept = 1 + (reduced - plain) / noise
    assert float(kept.min()) > -1e-9
    taken = float((1 - kept.square()).mean()) * 2 * h
    added = [step_law(process, h, draws, substeps, random=r).noise[0] for r in (True, False)]
    assert taken == pytest.approx(added[0] - added[1], rel=0.06)


@pytest.mark.parametrize("draws", RANDOM)
def test_it_follows_the_fine_chain_and_not_the_target(draws, mixture, ddpm):
    """Second moments of Euler on all substeps, of the target and of Euler on the large steps, on the same noise.

    At 12 steps of 3 substeps the fine chain is far from its target, by more than fifteen standard errors of the
    difference between the two runs, and that is where the method is: within a quarter of that, and nowhere near Euler.
    """
    process, method = md.Diffusion(ddpm), md.PoissonMidpoint(13, "logsnr", substeps=3, draws=draws)
    fine = process.refined(method.grid_for(process), "logsnr", 3)
    start = torch.randn(8000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def squares(chosen):
        found = md.sample(mixture.denoiser(ddpm), chosen, process, start=start, dtype=torch.float64).samples
        return found.square().sum(dim=1)

    chain = squares(md.Euler(times=fine.tolist()))
    ours, euler = squares(method) - chain, squares(md.Euler(13, "logsnr")) - chain
    standard = float(ours.std()) / math.sqrt(len(ours))
    target = float(mixture.covariance.trace() + mixture.mean.square().sum())
    assert target - float(chain.mean()) > 15 * standard
    assert abs(float(euler.mean())) > 15 * standard
    assert abs(float(ours.mean())) < 0.25 * abs(float(euler.mean()))
