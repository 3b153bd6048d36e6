"""Strong order on a coupled path, by regression with its interval; every run reads the same Brownian path."""

import numpy as np
import pytest
import torch
from scipy import stats

import multidrift as md
from multidrift.schedules.grids import GRIDS

STEPS = (32, 64, 128, 256)
COUNT = 256


def order(denoiser, method_of, process, reference):
    """(slope, half width of its 95% interval) of log error against log steps."""
    errors = []
    for steps in STEPS:
        found = md.sample(denoiser, method_of(steps), process, count=COUNT, dtype=torch.float64).samples
        errors.append(float((found - reference).square().mean().sqrt()))
    fit = stats.linregress(np.log(STEPS), np.log(errors))
    return -fit.slope, fit.stderr * stats.t.ppf(0.975, len(STEPS) - 2)


@pytest.fixture(scope="module")
def references(mixture, ddpm):
    model = mixture.denoiser(ddpm)
    ode = md.sample(model, md.Multistep(1000, order=3), md.Diffusion(ddpm, 0), count=COUNT, dtype=torch.float64)
    sde = md.sample(model, md.Euler(4000, "logsnr"), md.Diffusion(ddpm, 1), count=COUNT, dtype=torch.float64)
    return {0: ode.samples, 1: sde.samples}


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid != "leading"])
def test_euler_has_strong_order_one(denoiser, ddpm, references, grid, eta, capsys):
    """At least 0.9 for blend and logsnr, 0.6 for the others; "leading" begins elsewhere each time: see below."""
    slope, width = order(denoiser, lambda n: md.Euler(n, grid), md.Diffusion(ddpm, eta), references[eta])
    with capsys.disabled():
        print(f"\n  Euler, eta={eta}, {grid}: strong order {slope:.2f} ± {width:.2f}", end="")
    assert slope > {"blend": 0.9, "logsnr": 0.9}.get(grid, 0.6)


@pytest.mark.parametrize("eta", [0, 1])
def test_euler_has_strong_order_one_on_leading_times(denoiser, ddpm, eta):
    """Against Euler on the same times cut into eight, as each number of steps begins at another time."""
    process, numbers, errors = md.Diffusion(ddpm, eta), (25, 50, 100, 200), []
    for steps in numbers:
        fine = process.refined(md.grid_times(ddpm, steps, "leading"), "leading", 8)
        runs = (md.Euler(steps, "leading"), md.Euler(times=fine.tolist()))
        found, reference = (md.sample(denoiser, run, process, count=64, dtype=torch.float64).samples for run in runs)
        errors.append(float((found - reference).square().mean().sqrt()))
    assert -np.polyfit(np.log(numbers), np.log(errors), 1)[0] > 0.6


@pytest.mark.parametrize("holds", ["noise", "score"])
def test_euler_order_whatever_is_held(denoiser, ddpm, references, holds):
    process = md.Diffusion(ddpm, 0, holds)
    assert order(denoiser, lambda n: md.Euler(n, "logsnr"), process, references[0])[0] > 0.9


@pytest.mark.parametrize(("of", "least"), [(2, 1.8), (3, 2.7)])
@pytest.mark.parametrize("grid", ["blend", "logsnr"])
def test_multistep_orders_of_the_ode(denoiser, ddpm, references, grid, of, least):
    process = md.Diffusion(ddpm, 0)
    assert order(denoiser, lambda n: md.Multistep(n, grid, order=of), process, references[0])[0] > least


@pytest.mark.parametrize("holds", ["noise", "score", "ddpm"])
def test_multistep_whatever_is_held(denoiser, ddpm, holds):
    """The extrapolation is exact for a D linear in λ, on any clock: third order moments by quadrature."""
    process = md.Diffusion(ddpm, 1 if holds == "ddpm" else 0, holds)
    from multidrift.methods.multistep import History

    history = History(process, 3)
    interval = next(process.intervals(600.0, 500.0).each(torch.zeros(1)))
    first, second = history._moments(interval)
    lam = np.linspace(interval.low, interval.high, 20001)
    tau = process.intervals(np.full(20001, 600.0), ddpm.time(lam), np.full(20001, 500.0)).dtau
    u, weight = (lam - lam[0]) / (lam[-1] - lam[0]), np.diff(tau) / tau[-1]
    middle = 0.5 * (u[1:] + u[:-1])
    # The chain's clock is piecewise linear in t, which quadrature sees to 1e-3 only.
    tolerance = 2e-3 if holds == "ddpm" else 1e-6
    assert first == pytest.approx(float((middle * weight).sum()), abs=tolerance)
    assert second == pytest.approx(float((middle**2 * weight).sum()), abs=tolerance)


@pytest.mark.parametrize(
    "method_of",
    [
        lambda n: md.Euler(n, "logsnr"),
        lambda n: md.Multistep(n, "logsnr"),
        lambda n: md.Multistep(n, "logsnr", order=3),
        lambda n: md.Multilevel(n, "logsnr", calls=(n - 1, n)),
        lambda n: md.Multilevel(n, "logsnr", calls=(n - 1, n), order=2),
        lambda n: md.LadderMultistep(n, "logsnr", levels=("a", "b")),
        lambda n: md.PoissonMidpoint(n, "logsnr", substeps=4),
        lambda n: md.PoissonMidpoint(n, "logsnr", draws="midpoint"),
        lambda n: md.Picard(n, "logsnr", tolerance=1e-9),
        lambda n: md.PredictorCorrector(md.Picard(n, "logsnr", tolerance=1e-9), md.Picard(2), md.Underdamped(1e-9)),
    ],
    ids=lambda method_of: repr(method_of(9)),
)
def test_every_method_has_the_order_it_names(mixture, ddpm, references, method_of):
    """Without noise, every level called at every step; the order named is an integer, so half of one is enough."""
    model = md.Ladder([mixture.denoiser(ddpm, "a"), mixture.denoiser(ddpm, "b")])
    errors = []
    for steps in (32, 64, 128):
        found = md.sample(model, method_of(steps), md.Diffusion(ddpm, 0), count=32, dtype=torch.float64).samples
        errors.append(float((found - references[0][:32]).square().mean().sqrt()))
    slope = np.log(errors[0] / errors[-1]) / np.log(4)
    assert slope > method_of(32).order - 0.3
    assert slope < method_of(32).order + 0.7
