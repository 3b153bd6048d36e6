"""Ladder Picard: the same path as Euler's, in fewer rounds, and the Gaussian that costs nothing."""

import math
import warnings

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.drifts.costs import Costs

F64 = {"dtype": torch.float64}
STEPS = 16


class Level:
    """A denoiser a little off the exact one, which counts its invocations."""

    def __init__(self, exact, error):
        self.exact, self.error, self.invocations, self.rows = exact, error, 0, 0

    def __call__(self, x, t):
        self.invocations += 1
        self.rows += len(x)
        return self.exact.net(x, t) + self.error * torch.sin(2 * x)


def gaussian_of(mixture, schedule):
    return md.GaussianDenoiser(mixture.mean.numpy(), mixture.covariance.numpy(), schedule)


def ladder_of(mixture, schedule, costs=True):
    exact = mixture.denoiser(schedule)
    levels = [
        md.Denoiser(Level(exact, error), schedule, "sample", name=name, shape=(2,))
        for name, error in (("f1", 0.2), ("f3", 0.05), ("f5", 0.0))
    ]
    seconds = Costs({"f1": 0.05, "f3": 0.25, "f5": 1.0}, 16, "none") if costs else None
    return md.Ladder(levels, costs=seconds, gaussian=gaussian_of(mixture, schedule))


@pytest.fixture
def ladder(mixture, ddpm):
    return ladder_of(mixture, ddpm)


COARSE = [
    {"coarse": "f1"},
    {"coarse": "f3", "coarse_every": 3},
    {"coarse": "f1", "coarse_every": 50},
    {"coarse": "gaussian"},
    {"coarse": ("f1", "f3")},
    {"coarse": ("gaussian", "f1", "f3"), "coarse_every": 2},
    {"coarse": "auto"},
    {"coarse": "f1", "accelerate": "secant"},
    {"coarse": "gaussian", "accelerate": "secant"},
    {"coarse": ("f1", "f3"), "coarse_every": 2, "accelerate": "secant"},
]
RANGES = [{}, {"blocks": 3}, {"window": 7}, {"window": 1}, {"initial": 3}]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("coarse", COARSE, ids=str)
def test_ladder_picard_equals_sequential(ladder, ddpm, coarse, eta):
    process = md.Diffusion(ddpm, eta)
    wanted = md.sample(ladder, md.Euler(STEPS), process, count=3, **F64).samples
    for more in RANGES:
        method = md.Picard(STEPS, tolerance=1e-14, **coarse, **more)
        found = md.sample(ladder, method, process, count=3, **F64)
        assert torch.allclose(found.samples, wanted, atol=1e-10, rtol=0), more


@pytest.mark.parametrize("holds", ["noise", "score"])
def test_any_held_quantity(ladder, ddpm, holds):
    process = md.Diffusion(ddpm, 1.0, holds)
    wanted = md.sample(ladder, md.Euler(STEPS), process, count=3, **F64).samples
    found = md.sample(ladder, md.Picard(STEPS, tolerance=1e-14, coarse="f3", blocks=2), process, count=3, **F64).samples
    assert torch.allclose(found, wanted, atol=1e-10)


@pytest.mark.parametrize("process", [md.Overdamped(2.0), md.Underdamped(2.0, friction=2.0)], ids=["over", "under"])
def test_langevin_dynamics_too(mixture, process):
    cheap = md.LangevinDrift(lambda x: mixture.score(x) + 0.1 * torch.sin(x), "cheap")
    ladder = md.Ladder([cheap, md.LangevinDrift(mixture.score, "exact")])
    wanted = md.sample(ladder, md.Euler(STEPS), process, count=3, shape=(2,), **F64)
    for more in ({}, {"coarse_every": 4, "blocks": 2}):
        method = md.Picard(STEPS, tolerance=1e-14, coarse="cheap", **more)
        found = md.sample(ladder, method, process, count=3, shape=(2,), **F64)
        assert torch.allclose(found.samples, wanted.samples, atol=1e-10)
        assert torch.allclose(found.velocities, wanted.velocities, atol=1e-10) if process.has_velocity else True


def test_after_n_rounds_the_first_n_points_are_exact(ladder, ddpm):
    wanted = md.sample(ladder, md.Euler(STEPS), count=2, save=1, **F64).trajectory
    for coarse in ("f1", ("f1", "f3"), "auto"):
        method = md.Picard(STEPS, tolerance=1e-15, max_rounds=3, coarse=coarse)
        with pytest.warns(md.ConvergenceWarning):
            found = md.sample(ladder, method, count=2, save=1, **F64)
        assert torch.allclose(found.trajectory[:4], wanted[:4], atol=1e-13, rtol=0)
        assert (found.trajectory[14] - wanted[14]).abs().max() > 1e-10


def test_equal_levels_take_two_rounds(mixture, ddpm):
    """Without a difference the first sweep is exact: one round says so."""
    exact = mixture.denoiser(ddpm)
    ladder = md.Ladder([exact.renamed("a"), exact.renamed("b")])
    found = md.sample(ladder, md.Picard(STEPS, tolerance=1e-10, coarse="a"), count=3, **F64)
    assert found.rounds == 2  # and the final call
    assert torch.allclose(found.samples, md.sample(ladder, md.Euler(STEPS), count=3, **F64).samples, atol=1e-12)


def test_a_held_level_is_held_as_it_was():
    """Where the drift is the same everywhere, holding it loses nothing: the first sweep is exact."""
    levels = [md.LangevinDrift(lambda x: torch.ones_like(x), name) for name in ("cheap", "exact")]
    method = md.Picard(STEPS, tolerance=1e-10, coarse="cheap", coarse_every=5)
    found = md.sample(md.Ladder(levels), method, md.Overdamped(2.0), count=2, shape=(2,), **F64)
    assert found.rounds == 1


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_fewer_rounds_than_plain_picard(ladder, ddpm, eta):
    process = md.Diffusion(ddpm, eta)
    rounds = {}
    for coarse in (None, "gaussian", "f1", "f3"):
        method = md.Picard(60, tolerance=1e-3, coarse=coarse)
        rounds[coarse] = md.sample(ladder, method, process, count=8, **F64).rounds - 1
    print(f"  η = {eta:g}, rounds: {rounds}")
    assert rounds["f3"] < rounds["f1"] < rounds[None]
    assert rounds["f3"] <= 0.4 * rounds[None]
    assert rounds["gaussian"] <= 0.8 * rounds[None]


def test_rounds_do_not_grow_with_the_steps(ladder, ddpm):
    process = md.Diffusion(ddpm, 0.0)
    method = {steps: md.Picard(steps, "logsnr", tolerance=1e-3, coarse="f3") for steps in (30, 60, 240)}
    rounds = [md.sample(ladder, method[steps], process, count=4, **F64).rounds for steps in method]
    assert max(rounds) <= min(rounds) + 1


def test_error_follows_the_bound():
    """dx = −x dt with the cheap drift −cx: after k sweeps at most Λ^k/k! times the first error, Λ = (1 − c)T.

    The cheap flow contracts, so that E = 1; the sweep before the first round is off by at most Λ.
    """
    horizon, steps = 2.0, 200
    process = md.Overdamped(horizon, beta=1e30)  # without noise
    start = torch.ones(1, 1, dtype=torch.float64)
    exact = (1 - horizon / steps) ** steps
    for share in (0.5, 0.8):
        cheap = md.LangevinDrift(lambda x, share=share: -share * x, "cheap")
        ladder = md.Ladder([cheap, md.LangevinDrift(lambda x: -x, "exact")])
        width = (1 - share) * horizon
        for rounds in (1, 2, 4):
            method = md.Picard(steps, tolerance=1e-15, coarse="cheap", max_rounds=rounds)
            with pytest.warns(md.ConvergenceWarning):
                found = float(md.sample(ladder, method, process, start=start, **F64).samples)
            assert abs(found - exact) <= width * width**rounds / math.factorial(rounds)


def test_one_invocation_a_round_and_one_cheap_call_a_step(ladder, ddpm):
    settled = [0]
    method = md.Picard(STEPS, tolerance=1e-15, max_rounds=30, coarse="f1")
    result = md.sample(ladder, method, count=4, callback=lambda state: settled.append(state.step), **F64)
    rounds = result.rounds - 1
    assert ladder["f5"].net.invocations == rounds + 1 == result.batches["f5"]
    steps = STEPS - 1
    # The first sweep calls f1 at every step; each later one only where states may have changed, after the settled.
    assert ladder["f1"].net.invocations == steps + sum(steps - 1 - point for point in settled[:rounds])
    assert ladder["f1"].net.rows / 4 == result.calls["f1"]


def test_fewer_cheap_calls_with_coarse_every(ladder, ddpm):
    calls = {}
    for every in (1, 2, 6):
        method = md.Picard(STEPS, tolerance=1e-3, coarse="f1", coarse_every=every, max_rounds=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", md.ConvergenceWarning)
            calls[every] = md.sample(ladder, method, count=2, **F64).calls["f1"]
    assert calls[2] < 0.6 * calls[1]
    assert calls[6] < 0.3 * calls[1]


def test_samples_do_not_depend_on_their_batch(ladder, ddpm):
    for coarse in ("f1", ("f1", "f3")):
        method = md.Picard(STEPS, coarse=coarse, coarse_every=2, window=9)
        whole = md.sample(ladder, method, count=5, **F64).samples
        alone = torch.cat([md.sample(ladder, method, count=1, first=i, **F64).samples for i in range(5)])
        assert torch.allclose(alone, whole, atol=1e-12)


def test_a_warm_start_serves_a_ladder_too(ladder, ddpm):
    """Of each level, what it was at the given states: one round sees that they stand still."""
    known = md.sample(ladder, md.Euler(STEPS), count=2, save=1, **F64)
    for coarse in ("f1", ("f1", "f3")):
        found = md.sample(ladder, md.Picard(STEPS, coarse=coarse, tolerance=1e-10, initial=known), count=2, **F64)
        assert found.rounds == 2
        assert torch.allclose(found.samples, known.samples, atol=1e-8)


def test_auto_takes_the_least_critical_path(ladder):
    choices = [c for c in md.forecasts(ladder, 60) if c.method == "Picard"]
    assert [c.critical_path for c in choices] == sorted(c.critical_path for c in choices)
    assert {c.coarse for c in choices} == {(), ("gaussian",), ("f1",), ("f3",)}
    method = md.Picard(60, coarse="auto").for_model(ladder)
    assert (method.coarse, method.coarse_every) == (choices[0].coarse, choices[0].coarse_every)
    assert md.Picard(60, coarse="auto").cost(ladder).seconds == method.cost(ladder).seconds
    assert md.Picard(60, coarse="auto").forecast(ladder) == choices[0]
    nested = md.Picard(60, coarse=("f1", "f3")).forecast(ladder)
    solves = 2 * (nested.rounds + 1)
    assert nested.critical_path == pytest.approx((nested.rounds + solves * 0.25 + solves * 60 * 0.05) / 60)
    f3 = next(c for c in choices if c.coarse == ("f3",) and c.coarse_every == 4)
    assert f3.critical_path == pytest.approx((f3.rounds + f3.sweeps * 15 * 0.25) / 60)
    # A round's call may take `break_even` times as long before the run takes as long as the sequential one.
    slower = f3.critical_path + (f3.break_even - 1) * f3.rounds / 60
    assert slower == pytest.approx(1)


def test_critical_path_of_a_run(ladder):
    result = md.sample(ladder, md.Picard(STEPS, coarse="f3", coarse_every=4), count=2, **F64)
    path = md.critical_path(result, ladder, STEPS)
    assert path == pytest.approx((result.batches["f5"] + 0.25 * result.batches["f3"]) / STEPS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coarse": "f5"}, "coarse: got 'f5'; it takes levels below the top one: gaussian, f1, f3"),
        ({"coarse": "f9"}, "coarse: got 'f9'; it takes levels below the top one: gaussian, f1, f3"),
        ({"coarse": ("f3", "f1")}, r"coarse: got \('f3', 'f1'\); it takes different levels, cheapest first"),
        ({"coarse": ("f1", "f1")}, "coarse: got .*; it takes different levels"),
    ],
)
def test_bad_settings(ladder, settings, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.sample(ladder, md.Picard(STEPS, **settings))
    assert sum(level.net.invocations for level in ladder) == 0


def test_auto_needs_costs_and_a_ladder(mixture, ddpm, denoiser):
    with pytest.raises(md.MultidriftError, match="coarse: got 'auto'; it takes a ladder with measured costs"):
        md.sample(ladder_of(mixture, ddpm, costs=False), md.Picard(20, coarse="auto"))
    with pytest.raises(md.MultidriftError, match="coarse: got 'auto' with Denoiser.*; it takes an md.Ladder"):
        md.sample(denoiser, md.Picard(20, coarse="auto"))
    with pytest.raises(md.MultidriftError, match="coarse: got 'gaussian'; it takes levels below the top one: model"):
        md.sample(md.Ladder([denoiser.renamed("model"), denoiser.renamed("top")]), md.Picard(20, coarse="gaussian"))


# The Gaussian


@pytest.mark.parametrize("t", [999.0, 400.0, 0.0])
def test_the_gaussian_is_exact_for_gaussian_data(ddpm, t):
    covariance = np.array([[0.5, 0.2], [0.2, 0.3]])
    exact = md.GaussianMixture([1.0], [[0.3, -0.1]], [covariance]).denoiser(ddpm)
    x = torch.randn(5, 2, dtype=torch.float64)
    found = md.GaussianDenoiser([0.3, -0.1], covariance, ddpm).predict(x, t, "sample", {})
    assert torch.allclose(found, exact.predict(x, t, "sample", {}), atol=1e-12)
    diagonal = md.GaussianDenoiser([0.3, -0.1], [0.5, 0.3], ddpm).predict(x, t, "sample", {})
    assert torch.allclose(
        diagonal, md.GaussianDenoiser([0.3, -0.1], np.diag([0.5, 0.3]), ddpm).predict(x, t, "sample", {}), atol=1e-12
    )
    scalar = md.GaussianDenoiser([0.3, -0.1], 0.4, ddpm).predict(x, t, "sample", {})
    assert torch.allclose(
        scalar, md.GaussianDenoiser([0.3, -0.1], [0.4, 0.4], ddpm).predict(x, t, "sample", {}), atol=1e-12
    )


def test_the_gaussian_fits_samples_of_any_shape(ddpm):
    samples = torch.randn(50, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    fitted = md.GaussianDenoiser.fit(samples, ddpm)
    assert fitted.shape == (1, 3, 3)
    prediction = fitted.predict(samples[:4], np.array([999.0, 500.0, 10.0, 0.0]), "sample", {})
    assert torch.allclose(prediction[0], samples.mean(0), atol=0.1)  # nothing but noise is seen there
    assert torch.allclose(prediction[3], samples[3], atol=0.05)  # and nothing but data here


def test_the_gaussian_is_kept_with_a_ladder(tmp_path):
    ladder = md.Ladder.bundled("digits")
    small = md.Ladder([ladder["f1"]], gaussian=ladder.gaussian)
    small.save(tmp_path / "small")
    again = md.Ladder.load(tmp_path / "small")
    assert again.gaussian.settings == ladder.gaussian.settings
    assert again.gaussian.fingerprint == ladder.gaussian.fingerprint
    (tmp_path / "small" / "gaussian.safetensors").write_bytes(b"no weights")
    with pytest.raises(md.MultidriftError, match="gaussian: .* is damaged or was changed"):
        md.Ladder.load(tmp_path / "small")
    (tmp_path / "small" / "gaussian.safetensors").unlink()
    with pytest.raises(md.MultidriftError, match="gaussian: got 'no file gaussian.safetensors'"):
        md.Ladder.load(tmp_path / "small")


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        ([0.0, 0.0], np.eye(3), r"covariance: got \(3, 3\); it takes a number, shape \(2,\) or \(2, 2\)"),
        ([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]], "covariance: got 'a matrix'; it takes a symmetric one"),
        ([0.0, 0.0], [-1.0, 1.0], "covariance: got -1.0; it takes no negative variances"),
        ([0.0, np.nan], 1.0, "mean: got 'values that are not finite'; it takes finite numbers"),
    ],
)
def test_bad_gaussians(ddpm, mean, covariance, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.GaussianDenoiser(mean, covariance, ddpm)


def test_a_gaussian_of_another_schedule_is_refused(mixture, ddpm, denoiser):
    with pytest.raises(md.MultidriftError, match="gaussian: has another schedule than mixture"):
        md.Ladder([denoiser], gaussian=gaussian_of(mixture, md.schedules.edm()))


def test_a_coarse_level_says_how_often_it_is_called():
    assert md.Picard(12, coarse=md.Coarse("a", every=4)) == md.Picard(12, coarse="a", coarse_every=4)
    assert md.Picard(12, coarse=md.Coarse(("a", "b"))) == md.Picard(12, coarse=("a", "b"))
    with pytest.raises(md.MultidriftError, match="coarse_every: got 2; it takes 1 with coarse=md.Coarse"):
        md.Picard(12, coarse=md.Coarse("a", every=4), coarse_every=2)
    with pytest.raises(md.MultidriftError, match="^every: got 0; it takes an integer of at least 1"):
        md.Picard(12, coarse=md.Coarse("a", every=0))
