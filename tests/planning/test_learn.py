"""Learned plans: the gradient against the exact expectation, the budget, and what is gained on unseen noise."""

import itertools

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.drifts.costs import Costs
from multidrift.planning.rules import Setting
from multidrift.planning.sigmoid import SigmoidPlan
from multidrift.planning.tangents import Problem, loss_and_gradient
from multidrift.planning.trial import Judge

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")


def problem(eta, levels=3, **settings):
    schedule = md.schedules.ddpm()
    ladder = md.SyntheticLadder(3.0, levels=levels, size=1.0, **settings).ladder(schedule)
    process = md.Diffusion(schedule, eta)
    return ladder, process, md.calibrate(ladder, process, costs=ladder.costs, paths=8, steps=12)


def on_few_steps(eta, names, steps=4):
    ladder, process, calibration = problem(eta)
    method = md.Multilevel(steps, levels=names, probabilities=1.0, draws="independent")
    setting = Setting(calibration, process, names, method.grid_for(process))
    upper = len(names) - 1
    plan = SigmoidPlan(setting, np.linspace(0.6, -0.4, upper), np.linspace(-0.3, 0.5, upper))
    reference = md.sample(ladder, md.Euler(60), process, count=3, seed=1, dtype=torch.float64).samples
    return ladder, method, plan, Problem.of(ladder, method, process, reference, 1, torch.float64)


def outcomes(plan):
    """Every table of firings with its probability."""
    shape = plan.table[:, 1:].shape
    for bits in itertools.product([False, True], repeat=int(np.prod(shape))):
        fires = np.array(bits).reshape(shape)
        yield fires, float(np.where(fires, plan.table[:, 1:], 1 - plan.table[:, 1:]).prod())


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("names", [("f1", "f3"), ("f1", "f2", "f3")])
def test_the_gradient_is_that_of_the_exact_expectation(eta, names):
    """All 8 or 16 draws of so many steps: the estimate's mean is the derivative of the mean, whatever the baseline."""
    _, _, plan, batch = on_few_steps(eta, names, 4 if len(names) == 2 else 3)

    def expected(parameters):
        there = plan.with_parameters(parameters)
        return sum(p * loss_and_gradient(batch, there, fires, 0.0)[0] for fires, p in outcomes(there))

    here, step = plan.parameters, 1e-5
    differences = [
        (expected(here + step * axis) - expected(here - step * axis)) / (2 * step) for axis in np.eye(len(here))
    ]
    for baseline in (0.0, 0.7):
        mean = sum(p * loss_and_gradient(batch, plan, fires, baseline)[1] for fires, p in outcomes(plan))
        assert mean == pytest.approx(differences, rel=1e-6, abs=1e-9)


def on_langevin():
    """The same of a process with a preconditioner, which scales the drift of every level."""
    ladder, process = md.SyntheticLadder(3.0, size=1.0).ladder(), md.Overdamped(2.0, preconditioner=[0.25, 1.0])
    calibration = md.calibrate(ladder, process, costs=ladder.costs, paths=8, steps=12)
    names = ("f1", "f2", "f3")
    ladder = md.Ladder([ladder[name] for name in names], costs=ladder.costs)
    method = md.Multilevel(3, levels=names, probabilities=1.0, draws="independent")
    plan = SigmoidPlan(Setting(calibration, process, names, method.grid_for(process)), *np.array([[0.6, -0.4]] * 2))
    reference = md.sample(ladder, md.Euler(60), process, count=3, seed=1, dtype=torch.float64).samples
    return ladder, method, plan, Problem.of(ladder, method, process, reference, 1, torch.float64)


@pytest.mark.parametrize("make", [lambda: on_few_steps(1.0, ("f1", "f2", "f3")), on_langevin])
def test_a_draw_is_the_run_that_the_method_makes(make):
    ladder, method, plan, batch = make()
    fires = np.array([[True, False], [False, True], [True, True]])
    weights = np.concatenate([np.ones((3, 1)), np.where(fires, 1 / plan.table[:, 1:], 0.0)], axis=1)
    process = batch.run.process
    made = method.plan(ladder, process, seed=0).to_dict()
    made["firings"] = [[np.flatnonzero(column).tolist() for column in weights.T]]
    made["weights"] = [[column[column > 0].tolist() for column in weights.T]]
    found = md.sample(ladder, md.Plan.from_dict(made), process, count=3, seed=1, dtype=torch.float64).samples
    loss = float((found - batch.reference).square().mean())
    assert loss_and_gradient(batch, plan, fires, 0.0)[0] == pytest.approx(loss, rel=1e-12)


def test_gradients_of_potentials_are_differentiated_too():
    """The same equation by its gradient and by its log-density, whose own gradient must carry the tangents."""
    process, fires = md.Overdamped(1.0), np.array([[True], [False], [True], [True]])
    found = []
    for ladder in (
        md.Ladder([md.LangevinDrift(lambda x, c=c: -c * x**3, f"c{c}", (2,)) for c in (0.5, 1.0)]),
        md.Ladder([md.potential(lambda x, c=c: -(c / 4 * x**4).sum(dim=1), f"c{c}", (2,)) for c in (0.5, 1.0)]),
    ):
        calibration = md.calibrate(ladder, process, costs=Costs({"c0.5": 1.0, "c1.0": 8.0}, 1, "?"), paths=4, steps=8)
        method = md.Multilevel(4, levels=("c0.5", "c1.0"), probabilities=1.0, draws="independent")
        setting = Setting(calibration, process, ladder.names, method.grid_for(process))
        plan = SigmoidPlan(setting, np.array([0.6]), np.array([-0.3]))
        reference = md.sample(ladder, md.Euler(60), process, count=3, seed=1, dtype=torch.float64).samples
        batch = Problem.of(ladder, method, process, reference, 1, torch.float64)
        found.append(loss_and_gradient(batch, plan, fires, 0.0)[1])
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_networks_are_differentiated_too(small):
    """A convolution: the tangents of a run are its finite differences at fixed firings."""
    schedule, network = md.schedules.ddpm(), small.double()
    levels = [
        md.Denoiser(lambda x, t, s=s: s * network(x, t), schedule, "sample", name=n, shape=(1, 4, 4))
        for n, s in (("a", 0.8), ("b", 1.0))
    ]
    ladder = md.Ladder(levels, costs=Costs({"a": 1.0, "b": 8.0}, 1, "?"))
    process = md.Diffusion(schedule)
    calibration = on_few_steps(1.0, ("f1", "f3"))[2].setting.calibration  # of another ladder: costs alone count here
    method = md.Multilevel(5, levels=("a", "b"), probabilities=1.0, draws="independent")
    setting = Setting(calibration, process, ("f1", "f3"), method.grid_for(process))
    plan = SigmoidPlan(setting, np.array([0.3]), np.array([0.2]))
    reference = torch.zeros((2, 1, 4, 4), dtype=torch.float64)
    batch = Problem.of(ladder, method, process, reference, 0, torch.float64)
    fires = np.array([[True], [False], [True], [True]])

    def loss(parameters):
        return loss_and_gradient(batch, plan.with_parameters(parameters), fires, 0.0)[0]

    base, found = loss_and_gradient(batch, plan, fires, 0.0)
    misses = fires - plan.table[:, 1:]
    score = base * np.concatenate([plan.tau @ misses, misses.sum(axis=0)])
    step, here = 1e-5, plan.parameters
    differences = [(loss(here + step * e) - loss(here - step * e)) / (2 * step) for e in np.eye(2)]
    assert found - score == pytest.approx(differences, rel=1e-5)


def test_plans_stay_on_their_budget():
    *_, plan, _ = on_few_steps(1.0, ("f1", "f2", "f3"), steps=20)
    least, most = plan.shifted(-40).seconds, plan.shifted(2).seconds
    for seconds in np.linspace(1.05 * least, most, 4):
        within = plan.within(float(seconds))
        assert within.seconds == pytest.approx(seconds, rel=1e-6)
        assert np.diff(within.parameters - plan.parameters) == pytest.approx([0, within.beta[0] - plan.beta[0], 0])
    along = plan.along_the_budget(np.array([1.0, -2.0, 0.5, 3.0]))
    step = 1e-4
    moved = plan.with_parameters(plan.parameters - step * along).within(plan.seconds)
    assert moved.seconds == pytest.approx(plan.seconds)
    with pytest.raises(md.MultidriftError, match="seconds: got .* at least"):
        plan.within(0.5 * least)
    with pytest.raises(md.MultidriftError, match="seconds: got .* at most"):
        plan.within(1e9)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("draws", ["independent", "midpoint"])
def test_learned_plans_beat_constant_probabilities_on_unseen_noise(eta, draws):
    """The whole interval of the ratio of errors lies below 1, for the SDE and the ODE."""
    ladder, process, calibration = problem(eta, unit=1.0)
    learned = md.learn_plan(
        ladder, calibration, process, levels=("f1", "f3"), steps=16, calls=6, draws=draws, paths=16, validation=256,
        iterations=25 if draws == "independent" else 4,
    )  # fmt: skip
    value, low, high = learned.ratio
    assert low < value < high < 1
    assert learned.seconds == pytest.approx(6 * 64.0, rel=1e-6)
    assert learned.method.probabilities[0][0] == 1.0
    cheaper, dearer = (learned.shifted(shift).cost(ladder) for shift in (-1.0, 1.0))
    assert cheaper.calls["f3"] < dearer.calls["f3"]


def test_a_search_that_did_not_settle_is_marked():
    ladder, process, calibration = problem(0.0)
    settings = {"levels": ("f1", "f3"), "steps": 8, "calls": 4, "paths": 4, "iterations": 4, "validation": 4}
    assert not md.learn_plan(ladder, calibration, process, draws="systematic", **settings).converged


def test_bad_input_is_refused():
    ladder, process, calibration = problem(0.0)
    settings = {"levels": ("f1", "f3"), "steps": 8, "calls": 4}
    for change, message in (
        ({"seconds": 1.0}, "seconds: got 1.0; it takes a number of seconds, or None with calls="),
        ({"levels": ("f3",)}, "levels: got .*at least two"),
        ({"calls": 1.001}, "seconds: got .*cheapest level's steps take"),
        ({"calls": 100}, "seconds: got .*at most"),
        ({"iterations": 1}, "iterations: got 1"),
        ({"draws": "often"}, "draws: got 'often'"),
    ):
        with pytest.raises(md.MultidriftError, match=message):
            md.learn_plan(ladder, calibration, process, **(settings | change))


@pytest.mark.parametrize(("draws", "shared"), [("independent", False), ("systematic", False), ("midpoint", True)])
def test_what_is_compared_draws_for_each_sample(monkeypatch, draws, shared):
    """Six paths under two plans say little of plans, and an interval over them nothing: each has a plan of its own."""
    ladder, process, calibration = problem(0.0)
    seen = []
    measure = Judge.measure

    def watched(judge, candidate, count, before=None):
        seen.append((count, candidate.method.shared))
        return measure(judge, candidate, count, before)

    monkeypatch.setattr(Judge, "measure", watched)
    settings = {"levels": ("f1", "f3"), "steps": 8, "calls": 4, "paths": 2, "iterations": 4, "validation": 7}
    learned = md.learn_plan(ladder, calibration, process, draws=draws, **settings)
    assert seen[-2:] == [(7, shared)] * 2
    assert {own for _, own in seen} == {shared}
    assert learned.method.shared


def test_the_plan_nearest_to_a_table_of_sigmoids_is_that_table():
    *_, plan, _ = on_few_steps(1.0, ("f1", "f2", "f3"), steps=12)
    again = SigmoidPlan.near(plan.setting, plan.table)
    assert again.parameters == pytest.approx(plan.parameters, abs=1e-9)


@pytest.mark.parametrize("draws", ["independent", "systematic"])
def test_few_iterations_are_no_worse_than_the_rule(draws):
    """A search sets out from the rule by time: four of its iterations keep what that gains over constant ones."""
    ladder, process, calibration = problem(1.0, unit=1.0)
    settings = {"levels": ("f1", "f3"), "steps": 16, "calls": 6, "paths": 8, "iterations": 4, "validation": 128}
    assert md.learn_plan(ladder, calibration, process, draws=draws, **settings).ratio[2] < 0.75
