"""Multilevel Euler-Maruyama: its exact special cases, unbiasedness, counts and laws."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.drifts.costs import Costs
from multidrift.methods.multilevel.draws import DRAWS
from multidrift.runs.evaluator import Evaluator

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
F64 = {"dtype": torch.float64}


class Counting:
    """A level: the exact denoiser plus a smooth error, which counts its own invocations and rows."""

    def __init__(self, exact, size):
        self.exact, self.size, self.invocations, self.rows = exact, size, 0, 0

    def __call__(self, x, t, scale=None):
        self.invocations += 1
        self.rows += len(x)
        out = self.exact.predict(x, t.double().numpy(), "sample", {}) + self.size * torch.sin(2 * x)
        return out if scale is None else out * scale[:, None]


@pytest.fixture
def ladder(mixture, ddpm):
    sizes = {"f1": 0.3, "f2": 0.1, "f3": 0.0}
    levels = [
        md.Denoiser(Counting(mixture.denoiser(ddpm), s), ddpm, "sample", name=n, shape=(2,)) for n, s in sizes.items()
    ]
    return md.Ladder(levels)


@pytest.mark.parametrize("holds", ["data", "noise", "score"])
@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("shared", [True, False])
def test_one_level_is_euler_bit_for_bit(ladder, ddpm, draws, shared, holds):
    process = md.Diffusion(ddpm, 1, holds)
    for dtype in (torch.float32, torch.float64):
        one = md.Multilevel(15, levels=("f3",), probabilities=(1.0,), draws=draws, shared=shared)
        wanted = md.sample(ladder, md.Euler(15), process, count=4, dtype=dtype)
        assert torch.equal(md.sample(ladder, one, process, count=4, dtype=dtype).samples, wanted.samples)


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("shared", [True, False])
def test_always_firing_is_euler_at_the_top(ladder, draws, shared):
    """All p = 1: the sum telescopes to the top level, and the levels below it are not even called."""
    always = md.Multilevel(15, probabilities=(1.0, 1.0, 1.0), draws=draws, shared=shared)
    result = md.sample(ladder, always, count=4, **F64)
    assert torch.allclose(result.samples, md.sample(ladder, md.Euler(15), count=4, **F64).samples, atol=1e-12)
    assert result.calls == {"f1": 0, "f2": 0, "f3": 15}


@pytest.fixture
def grounded(ladder, mixture, ddpm):
    """The same ladder with a Gaussian below it, and costs that do not name the Gaussian."""
    gaussian = md.GaussianDenoiser.fit(mixture.sample(500, seed=1), ddpm)
    return md.Ladder(list(ladder), costs=Costs({"f1": 0.01, "f2": 0.1, "f3": 1.0}, 1, "test"), gaussian=gaussian)


@pytest.mark.parametrize("levels", [("gaussian", "f3"), ("gaussian", "f2", "f3")])
@pytest.mark.parametrize("draws", DRAWS)
def test_above_a_gaussian_always_firing_is_euler_at_the_top(grounded, draws, levels):
    """All p = 1 telescope to the top level, and the closed form is not called either."""
    always = md.Multilevel(15, levels=levels, probabilities=1.0, draws=draws)
    result = md.sample(grounded, always, count=4, **F64)
    assert torch.allclose(result.samples, md.sample(grounded, md.Euler(15), count=4, **F64).samples, atol=1e-12)
    assert result.calls == dict.fromkeys(levels, 0) | {"f3": 15}


def test_a_gaussian_level_is_free_and_does_the_steps_between(grounded, tmp_path):
    """Its calls are counted and cost nothing, its D is what moves the state where nothing else fires."""
    method = md.Multilevel(15, levels=("gaussian", "f3"), calls=(15, 5), draws="midpoint")
    cost, plan = method.cost(grounded), method.plan(grounded)
    result = md.sample(grounded, method, count=3, **F64)
    assert result.calls == dict(cost.calls) == dict(plan.calls) == {"gaussian": 14, "f3": 5}
    assert cost.seconds == plan.cost == pytest.approx(5 * 1.0)
    lifted = md.Ladder([grounded.gaussian, grounded["f3"]], names=("low", "f3"))
    same = md.Multilevel(15, levels=("low", "f3"), calls=(15, 5), draws="midpoint")
    assert torch.equal(result.samples, md.sample(lifted, same, count=3, **F64).samples)
    plan.save(tmp_path / "plan.json")
    again = md.sample(grounded, md.Plan.load(tmp_path / "plan.json"), count=3, **F64)
    assert torch.equal(again.samples, result.samples)


def test_unbiased_above_a_gaussian(grounded, ddpm):
    """One step's drift, averaged over 4000 draws of p = 1/2, is the top level's: within 6 standard errors of each
    coordinate, a false alarm in 10^8."""
    method = md.Multilevel(6, levels=("gaussian", "f3"), probabilities=(1.0, 0.5), draws="independent")
    process = md.Diffusion(ddpm)
    weights = replace(method, shared=False).plan(grounded, process, count=4000).weights
    n, t = 2, float(method.grid_for(process)[2])
    x = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    low, top = (d.predict(x, t, "sample", {})[0].numpy() for d in method.levels_of(grounded).values())
    drifts = weights[:, n, :1] * low + weights[:, n, 1:] * (top - low)
    error = drifts.std(axis=0) / np.sqrt(len(drifts))
    assert np.all(error > 0)
    assert np.all(np.abs(drifts.mean(axis=0) - top) < 6 * error)


def test_a_gaussian_lies_below_all_levels(ladder, grounded):
    for levels in (("f1", "gaussian"), ("gaussian", "gaussian")):
        with pytest.raises(md.MultidriftError, match="levels: got .*cheapest first, out of gaussian, f1, f2, f3"):
            md.sample(grounded, md.Multilevel(30, levels=levels, calls=(30, 5)))
    with pytest.raises(md.MultidriftError, match="levels: got .*'gaussian'.*; it takes levels out of f1, f2, f3"):
        md.sample(ladder, md.Multilevel(30, levels=("gaussian", "f3"), calls=(30, 5)))
    assert md.Multilevel(30, probabilities=0.5).levels_of(grounded).keys() == {"f1", "f2", "f3"}  # only where named


def test_second_order_of_one_level_is_multistep(ladder):
    one = md.Multilevel(15, levels=("f3",), probabilities=(1.0,), order=2)
    wanted = md.sample(ladder, md.Multistep(15), count=4, **F64).samples
    assert torch.allclose(md.sample(ladder, one, count=4, **F64).samples, wanted, atol=1e-13)


def test_second_order_helps_where_the_cheap_level_is_all(ladder, ddpm):
    """Two equal levels: the difference vanishes, and order 2 is Multistep on the cheap one."""
    same = md.Ladder([ladder["f3"], md.Denoiser(ladder["f3"].net, ddpm, "sample", name="again", shape=(2,))])
    method = md.Multilevel(20, calls=(20, 5), order=2)
    wanted = md.sample(same, md.Multistep(20), count=4, **F64).samples
    found = md.sample(same, method, count=4, **F64)
    assert torch.allclose(found.samples, wanted, atol=1e-12)
    assert found.calls["f3"] == 19
    assert method.cost(same).calls["f3"] == 19


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_counts_are_those_the_networks_saw(ladder, draws, shared, batch_size, order):
    for level in ladder:
        level.net.invocations = level.net.rows = 0
    method = md.Multilevel(30, calls=(30, 12, 6), draws=draws, shared=shared, order=order)
    result = md.sample(ladder, method, count=7, batch_size=batch_size, conditioning={"scale": torch.ones(7)})
    for name in ladder.names:
        net = ladder[name].net
        assert result.batches[name] == net.invocations
        if batch_size is None:
            assert result.calls[name] * 7 == pytest.approx(net.rows)
            assert net.invocations <= 30
        assert result.calls[name] == pytest.approx(result.plan.calls[name])


def test_networks_are_called_on_the_samples_that_need_them(ladder):
    """Draws per sample: one invocation a level and step at the most, on the firing samples alone."""
    method = md.Multilevel(40, levels=("f1", "f3"), calls=(40, 8), draws="independent", shared=False)
    result = md.sample(ladder, method, count=50)
    assert result.batches["f3"] <= 40
    assert result.calls["f3"] == pytest.approx(8, abs=5 * np.sqrt(8 / 50))


@pytest.mark.parametrize("draws", DRAWS)
def test_cost_is_known_before_the_run(ladder, draws):
    method = md.Multilevel(60, levels=("f1", "f3"), calls=(60, 12), draws=draws)
    expected = method.cost(ladder).calls
    counts = [method.plan(ladder, seed=s).calls["f3"] for s in range(300)]
    assert np.mean(counts) == pytest.approx(expected["f3"], abs=5 * np.std(counts) / np.sqrt(300) + 1e-9)
    assert expected["f3"] == pytest.approx(12)
    if draws != "independent":
        assert set(counts) <= {11, 12, 13}


def test_the_cheap_level_rests_where_the_top_one_fires_in_a_row(ladder):
    """A step between firing steps weighs exactly 1, and the cheap level cancels there."""
    method = md.Multilevel(60, levels=("f1", "f3"), calls=(60, 50))
    expected = method.cost(ladder).calls
    counts = [method.plan(ladder, seed=s).calls["f1"] for s in range(300)]
    assert np.mean(counts) == pytest.approx(expected["f1"], abs=5 * np.std(counts) / np.sqrt(300))
    assert expected["f1"] < 40
    weights = method.plan(ladder).weights[0, :, 1]
    rests = (weights[:-2] > 0) & (weights[1:-1] > 0) & (weights[2:] > 0)
    assert np.all(weights[1:-1][rests] == 1)


def linear_ladder(schedule):
    """Two levels with a linear drift, so that the mean path of an unbiased draw is the top level's path."""
    levels = [
        md.Denoiser(lambda x, t, f=f: f * x, schedule, "sample", name=f"l{i}", shape=(1,))
        for i, f in enumerate((0.4, 0.6))
    ]
    return md.Ladder(levels)


def mean_path_error(draws, steps, calls, number, schedule):
    """(mean, standard error) over draws of the end's relative deviation from the top level's Euler path."""
    ladder = linear_ladder(schedule)
    start = torch.ones(number, 1, dtype=torch.float64)
    process = md.Diffusion(schedule, 0)
    exact = md.sample(ladder, md.Euler(steps, "logsnr"), process, start=start[:1], **F64).samples
    method = md.Multilevel(steps, "logsnr", calls=(steps, calls), draws=draws, shared=False)
    found = (md.sample(ladder, method, process, start=start, **F64).samples / exact - 1).numpy()
    return np.mean(found), np.std(found) / np.sqrt(number)


def test_independent_draws_are_unbiased_on_a_linear_drift(ddpm):
    mean, error = mean_path_error("independent", 30, 10, 1500, ddpm)
    assert abs(mean) < 5 * error
    assert error < 0.05


def test_bias_of_systematic_draws_falls_with_the_gap(ddpm):
    """The mean end of a linear path: its bias is of the order of the gap between firings, and halves with it."""
    biases = []
    for calls in (9, 17, 33):
        mean, error = mean_path_error("systematic", 129, calls, 120, ddpm)
        biases.append(abs(mean))
        print(f"  systematic, gap {128 / (calls - 1):.0f} steps: bias {mean:+.4f} ± {error:.4f}")
    assert biases[0] > biases[1] > biases[2]
    assert biases[2] < 0.4 * biases[0]


def test_draws_per_sample_equal_shared_draws_in_law(ladder):
    """Mean and covariance over 4,000 samples with a draw each, against 4,000 runs' shared draws (40 plans of 100)."""
    settings = {"levels": ("f1", "f3"), "calls": (25, 8), "draws": "independent"}
    each = md.sample(ladder, md.Multilevel(25, shared=False, **settings), count=4000, **F64).samples
    shared = torch.cat(
        [
            md.sample(ladder, md.Multilevel(25, **settings), count=100, first=100 * s, plan_seed=s, **F64).samples
            for s in range(40)
        ]
    )
    # The samples of a shared plan are correlated: the batches' means give the standard error.
    batches = shared.view(40, 100, 2)
    error = batches.mean(1).std(0) / 40**0.5 + each.std(0) / 4000**0.5
    assert ((each.mean(0) - shared.mean(0)).abs() < 5 * error).all()
    second = batches.square().mean(1).std(0) / 40**0.5 + each.square().std(0) / 4000**0.5
    assert ((each.square().mean(0) - shared.square().mean(0)).abs() < 5 * second).all()


@pytest.mark.parametrize("order", [1, 2])
def test_draws_per_sample_belong_to_the_sample(ladder, order):
    method = md.Multilevel(25, levels=("f1", "f3"), calls=(25, 8), draws="independent", shared=False, order=order)
    whole = md.sample(ladder, method, count=9, plan_seed=3, **F64).samples
    part = md.sample(ladder, method, count=2, first=4, plan_seed=3, **F64).samples
    assert torch.allclose(part, whole[4:6], atol=1e-10)
    assert not torch.allclose(md.sample(ladder, method, count=9, plan_seed=4, **F64).samples, whole, atol=1e-3)


def test_systematic_draws_err_less_than_independent_ones(ladder, ddpm):
    """Squared distance to the top level's path, same noise and calls: medians over 20 lots of 20 draws and samples."""
    for eta in (0, 1):
        process = md.Diffusion(ddpm, eta)
        wanted = md.sample(ladder, md.Euler(100, "blend"), process, count=400, **F64).samples
        error = {}
        for draws in ("independent", "systematic"):
            method = md.Multilevel(100, "blend", levels=("f1", "f3"), calls=(100, 25), draws=draws, shared=False)
            found = md.sample(ladder, method, process, count=400, **F64).samples
            error[draws] = float((found - wanted).square().view(20, -1).mean(dim=1).median())
        assert error["systematic"] < 0.5 * error["independent"]


def test_one_probability_serves_all_levels(ladder):
    constant = md.Multilevel(30, probabilities=0.5, draws="independent").plan(ladder, seed=1)
    assert np.array_equal(
        constant.weights, md.Multilevel(30, probabilities=(0.5,) * 3, draws="independent").plan(ladder, seed=1).weights
    )


def test_time_varying_probabilities(ladder):
    p = np.stack([np.ones(29), np.linspace(0.1, 0.9, 29)], axis=1)
    method = md.Multilevel(30, levels=("f1", "f3"), probabilities=p)
    assert method == md.Multilevel(30, levels=("f1", "f3"), probabilities=p.tolist())
    late = [md.sample(ladder, method, plan_seed=s).plan.weights[0, :, 1] > 0 for s in range(50)]
    assert np.mean([w[15:].sum() for w in late]) > 2 * np.mean([w[:14].sum() for w in late])


def test_a_step_where_nothing_fires_moves_with_the_noise_alone(ladder):
    method = md.Multilevel(30, levels=("f1", "f3"), calls=(6, 3), draws="midpoint")
    result = md.sample(ladder, method, count=4)
    assert result.calls["f1"] < 10
    assert torch.isfinite(result.samples).all()


def test_values_that_are_not_finite_are_traced_with_draws_per_sample(ladder):
    ladder["f3"].net.exact = md.Denoiser(
        lambda x, t: torch.where(x[:, :1] > 1e9, x, x / 0), ladder.schedule, "sample", shape=(2,)
    )
    method = md.Multilevel(30, levels=("f1", "f3"), calls=(30, 5), shared=False)
    with pytest.raises(md.MultidriftError, match=r"f3: the prediction is not finite at step \d+ .* for sample \d+"):
        md.sample(ladder, method, count=5)


def test_draws_per_sample_differ_under_a_list_of_seeds(ladder):
    method = md.Multilevel(25, levels=("f1", "f3"), calls=(25, 8), draws="independent", shared=False)
    weights = md.sample(ladder, method, seed=[4, 4, 4]).plan.weights
    assert not np.array_equal(weights[0], weights[1])


def test_few_calls_stay_unbiased_in_total(ladder, ddpm):
    """Less than one firing expected beside the final call: weights stay 1/p, so that their mean covers the run."""
    method = md.Multilevel(80, levels=("f1", "f3"), calls=(80, 1.4), shared=False)
    lengths = md.Diffusion(ddpm).relative_steps(md.grid_times(ddpm, 80))
    covered = method.plan(ladder, count=600).weights[:, :, 1] @ lengths / lengths.sum()
    assert np.mean(covered) == pytest.approx(1, abs=5 * np.std(covered) / 600**0.5)


def test_errors_name_the_level_that_failed(ladder, ddpm):
    broken = md.Denoiser(lambda x, t: x / 0, ddpm, "sample", shape=(2,))
    mixed = md.Ladder([broken, ladder["f3"]], names=("small", "big"))
    with pytest.raises(md.MultidriftError, match="^small: the prediction is not finite at step 0"):
        md.sample(mixed, md.Multilevel(10, calls=(10, 3)), count=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calls": (31, 5)}, r"calls: got \(31.0, 5.0\); it takes at most one call a step, 30"),
        ({"calls": (30,)}, "calls: got .*one number for each of f1, f3"),
        ({"calls": (30, 1)}, "calls: got .*the last above 1"),
        ({"calls": (0, 5)}, "calls: got .*positive numbers"),
        ({"probabilities": (1.0, 0.0)}, r"probabilities: got \(1.0, 0.0\); it takes numbers in \(0, 1\]"),
        ({"probabilities": (1.0, 1.1)}, "probabilities: got"),
        ({"probabilities": (1.0,)}, r"probabilities: got \(1,\); it takes a number, or shape \(2,\) or \(29, 2\)"),
        ({"levels": ("f3", "f1"), "calls": (30, 5)}, "levels: got .*cheapest first, out of f1, f2, f3"),
        ({"levels": ("f1", "f1"), "calls": (30, 5)}, "levels: got .*different levels"),
        ({"levels": (), "calls": (5.0,)}, "levels: got"),
        ({"levels": ("f1", "f9"), "calls": (30, 5)}, r"levels: got \('f1', 'f9'\); it takes levels out of f1, f2, f3"),
        ({"calls": (10, 5), "order": 2}, "order: got 2; it takes a cheapest level that fires at every step"),
    ],
)
def test_bad_settings(ladder, settings, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.sample(ladder, md.Multilevel(30, **{"levels": ("f1", "f3")} | settings))
    assert sum(level.net.invocations for level in ladder) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "calls: got None; it takes one number a level"),
        ({"calls": (5, 5), "probabilities": (1.0, 1.0)}, "calls: got"),
        ({"calls": "80,20"}, "calls: got '80,20'; it takes None or a list of numbers"),
        ({"calls": (5, None)}, r"calls: got \(5, None\); it takes None or a list of numbers"),
        ({"calls": (5, 5), "draws": "stratified"}, "draws: got 'stratified'; it takes independent"),
        ({"calls": (5, 5), "order": 3}, "order: got 3; it takes 1 or 2"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.Multilevel(30, **settings)


def test_a_ladder_is_needed(denoiser):
    with pytest.raises(md.MultidriftError, match="model: got Denoiser.*; Multilevel takes an md.Ladder"):
        md.sample(denoiser, md.Multilevel(30, calls=(30, 5)))


def test_an_evaluator_pads_and_cuts(ladder):
    """A batch size pads the last invocation; padding is neither counted nor returned."""
    evaluator = Evaluator({"f3": ladder["f3"]}, 5, {"scale": torch.arange(5.0)}, 4, grad=False)
    out = evaluator("f3", torch.ones(3, 2), 500.0, "sample", torch.tensor([4, 0, 2]))
    assert out.shape == (3, 2)
    assert torch.allclose(out[:, 0] / out[2, 0], torch.tensor([2.0, 0.0, 1.0]))
    assert evaluator.rows["f3"] == 3
    assert ladder["f3"].net.rows == 4
