"""Fixed rules: the theorem's numbers, the optimum of the predicted error, budgets that are met and errors predicted."""

import itertools

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.evaluation.coupled import squared_distances
from multidrift.planning.rules import RULES, Setting, theorem_one

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
NAMES = ("f1", "f2", "f3", "f4")


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["ode", "sde"])
def problem(request):
    schedule = md.schedules.ddpm()
    ladder = md.SyntheticLadder(3.0, levels=4, size=1.0, unit=1.0).ladder(schedule)
    process = md.Diffusion(schedule, request.param)
    return ladder, process, md.calibrate(ladder, process, costs=ladder.costs, paths=64)


def setting(problem, steps=33):
    _, process, calibration = problem
    return Setting(calibration, process, NAMES, md.Euler(steps).grid_for(process))


def test_theorem_one_scatters_by_its_variance_and_costs_what_it_says():
    """Σ V_k/p_k ≤ σ² with |f^k − f^{k−1}| ≤ 3·2^{−k}, and Σ p_k (c_k + c_{k−1}) ≤ 9(1 − 2^{1−γ/2})^−2 δ^{2−γ}/σ²."""
    gamma, step = 2.5, 2.0**-40
    found = theorem_one(1e-3, gamma, lipschitz=1.0, horizon=1.0, step=step)
    k = np.arange(found.k_min, found.k_max + 1)
    p = np.array(found.probabilities)
    assert p == pytest.approx(np.minimum(1, found.constant * 2.0 ** (-(1 + gamma / 2) * k)))
    assert p.max() < 1  # steps so small that no level is called at every one
    assert (
        0.2 < (9 * 4.0**-k / p).sum() / found.variance <= 2 ** (gamma / 2 - 1)
    )  # δ lies between 2^−k_max and twice that
    delta = 0.5 * np.exp(-(1 + step)) * 1e-3
    assert 2.0**-found.k_max <= delta * 2
    cost = (p * 2.0 ** (gamma * k)).sum()
    assert cost <= 9 * (1 - 2 ** (1 - gamma / 2)) ** -2 * (delta / 2) ** (2 - gamma) / found.variance
    twice = theorem_one(5e-4, gamma, lipschitz=1.0, horizon=1.0, step=step)
    assert twice.k_max == found.k_max + 1
    assert twice.constant / found.constant == pytest.approx(2.0 ** (1 + gamma / 2))
    for settings, message in (({"gamma": 2.0}, "gamma"), ({"error": 0.0}, "error"), ({"step": -1.0}, "step")):
        with pytest.raises(md.MultidriftError, match=message):
            theorem_one(**({"error": 1e-3, "gamma": 3.0, "lipschitz": 1.0, "horizon": 1.0, "step": 0.1} | settings))


@pytest.mark.parametrize(
    "beyond", [{"lipschitz": 40.0, "horizon": 10.0}, {"gamma": 300.0}, {"error": 1e-90, "gamma": 8.0}]
)
def test_theorem_one_beyond_floating_point_is_one_error(beyond):
    settings = {"error": 1e-3, "gamma": 3.0, "lipschitz": 1.0, "horizon": 1.0, "step": 0.1} | beyond
    with pytest.raises(md.MultidriftError, match="error: got error = .*floating point"):
        md.theorem_one(**settings)


@pytest.mark.parametrize("error", [0.2, 0.05])
def test_theorem_one_keeps_its_promise_in_a_run(error):
    """Levels and probabilities as they come out: root mean square distance to Euler with f itself, and fewer calls."""
    gamma, steps, process = 3.0, 512, md.Overdamped(1.0)
    found = md.theorem_one(error, gamma, lipschitz=2.0, horizon=1.0, step=1.0 / steps, size=0.5)
    family = md.SyntheticLadder(gamma, levels=found.k_max, size=1.0, dimension=1)
    ladder = family.ladder()
    assert (found.k_min, ladder.top) == (1, f"f{found.k_max}")
    assert found.probabilities[-1] < 0.6
    method = md.Multilevel(steps, probabilities=found.probabilities, draws="independent", shared=False)
    settings = {"process": process, "count": 200, "seed": 1, "progress": False}
    samples = md.sample(ladder, method, **settings).samples
    exact = md.sample(family.exact(), md.Euler(steps), **settings).samples
    assert float(squared_distances(samples, exact).mean()) ** 0.5 < error


def test_the_rule_of_gamma_is_the_papers(problem):
    """2^{−(1+γ/2)k} with the γ that was found; C_k ∝ 2^{γk} above the cheapest level."""
    on = setting(problem)
    gamma = problem[2].gamma.gamma
    preferred = on.preferences("gamma")[0]
    steps = np.diff(np.log2(preferred))[1:]
    assert steps == pytest.approx(-(1 + gamma / 2) * 3.0 / gamma, rel=1e-6)


def test_the_rule_by_time_is_the_optimum_of_the_predicted_error(problem):
    """No small change of a step's probability at equal cost predicts less error, and other rules predict more."""
    on = setting(problem, 129)
    budget = 3.0 * problem[2].cost("f4")
    tables = {rule: on.within(on.preferences(rule), budget) for rule in RULES}
    assert all(on.seconds(table) == pytest.approx(budget, rel=1e-6) for table in tables.values())
    errors = {rule: on.scatter(table) for rule, table in tables.items()}
    assert errors["time"] < errors["variance"] < errors["constant"]
    best = tables["time"]
    free = (best < 0.2) & (best > 2e-4)  # where C_k is the price of p_k: calls shared with a level above are rare
    gain = (on.carried[:, None] ** 2 * on.variances / best**2 / on.costs)[free]
    assert gain == pytest.approx(np.full(gain.shape, np.median(gain)), rel=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_a_budget_is_kept_and_an_error_reached_at_its_price(problem, rule):
    ladder, process, calibration = problem
    budget = 8 * calibration.cost("f4")
    chosen = md.allocate(ladder, calibration, process, rule=rule, seconds=budget, draws="independent")
    assert chosen.seconds <= budget * (1 + 1e-9)
    assert chosen.method.cost(ladder).seconds == pytest.approx(chosen.seconds)
    back = md.allocate(ladder, calibration, process, rule=rule, error=chosen.error, draws="independent")
    assert back.error <= chosen.error * (1 + 1e-6)
    assert back.seconds <= chosen.seconds * (1 + 1e-6)


def test_the_predicted_error_of_independent_draws_is_the_measured_one(problem):
    """400 paths, 30 draws: the prediction is first order, and Euler's part an extrapolation; within a factor 2."""
    ladder, process, calibration = problem
    fixed = {"seconds": 8 * calibration.cost("f4"), "steps": 64, "levels": ("f1", "f3", "f4"), "draws": "independent"}
    chosen = md.allocate(ladder, calibration, process, **fixed)
    reference = md.sample(ladder, md.Euler(500), process, count=400, seed=9).samples
    errors = [
        squared_distances(
            md.sample(ladder, chosen.method, process, count=400, seed=9, plan_seed=n).samples, reference
        ).mean()
        for n in range(30)
    ]
    assert 0.5 < float(torch.stack(errors).mean()) / chosen.error < 2.0


def test_steps_and_levels_are_the_best_of_those_there_are(problem):
    ladder, process, calibration = problem
    budget = 8 * calibration.cost("f4")
    best = md.allocate(ladder, calibration, process, seconds=budget)
    fixed = [
        md.allocate(ladder, calibration, process, seconds=budget, steps=steps, levels=levels)
        for steps, levels in itertools.product((16, 64), (("f1", "f4"), ("f2", "f3", "f4")))
    ]
    assert best.error <= min(choice.error for choice in fixed)


def test_a_calibration_of_more_levels_serves_a_part_of_the_ladder(problem):
    ladder, process, calibration = problem
    part = md.Ladder([ladder["f1"], ladder["f4"]], costs=ladder.costs)
    chosen = md.allocate(part, calibration, process, seconds=8 * calibration.cost("f4"))
    assert chosen.method.levels == ("f1", "f4")


def test_bad_input_is_refused(problem):
    ladder, process, calibration = problem
    for settings, message in (
        ({"seconds": 1.0, "error": 0.1}, "seconds: got 1.0; it takes a number, or None with error="),
        ({"seconds": 0.5 * calibration.cost("f4")}, "seconds: got 256.*no multilevel method.*one call of f4 takes 512"),
        ({"error": 1e-12}, "error: got 1e-12; no multilevel method"),
        ({"seconds": 1.0, "rule": "best"}, "rule: got 'best'"),
        ({"seconds": 1e9, "levels": ("f1", "f2")}, "levels: got .*f4 the last"),
    ):
        with pytest.raises(md.MultidriftError, match=message):
            md.allocate(ladder, calibration, process, **settings)
    with pytest.raises(md.MultidriftError, match="calibration: was taken on a process with eta"):
        md.allocate(ladder, calibration, md.Diffusion(process.schedule, 0.5), seconds=1e9)
