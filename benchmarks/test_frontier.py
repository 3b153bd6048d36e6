"""The frontier: what its ladder peers call and when, and the tables on made-up errors."""

import json

import numpy as np
import pytest
import torch

import multidrift as md
from benchmarks import plans
from benchmarks.bootstrap import Errors
from benchmarks.frontier import choices, report
from benchmarks.frontier.peers import Switch, switches
from benchmarks.multilevel.report import Setting
from multidrift.drifts.costs import Costs


@pytest.fixture
def ladder():
    """f2 and f5 that say nothing but when they were asked."""
    schedule, asked = md.schedules.ddpm(), []

    def net(name):
        def call(x, t):
            asked.append((name, float(t.flatten()[0])))
            return torch.zeros_like(x)

        return md.Denoiser(call, schedule, name=name, shape=(1, 2, 2))

    return md.Ladder([net("f2"), net("f5")], costs=Costs({"f2": 1.0, "f5": 10.0}, 1, "test")), asked


@pytest.mark.parametrize("switch", switches(), ids=lambda s: s.label)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_switch_calls_one_level_and_then_the_other_for_what_the_budget_pays(ladder, switch, eta):
    levels, asked = ladder
    steps = switch.steps(levels, 6)
    calls = switch.calls(steps)
    assert 5.0 < (calls["f2"] + 10.0 * calls["f5"]) / 10.0 <= 1.02 * 6  # no dearer, within the 2% of all settings
    switch.run(levels, torch.randn((3, 1, 2, 2)), eta, steps, 3)
    names = [name for name, _ in asked]
    order = ["f2", "f5"] if switch.kind == "T-Stitch" else ["f5", "f2"]
    assert names == sorted(names, key=order.index)
    assert {name: float(names.count(name)) for name in set(names)} == calls
    times = [t for _, t in asked]
    assert times == sorted(times, reverse=True)


def setting(budget, errors, family="ladder", label="LadderMultistep f2+f5"):
    return Setting(family, label, budget, budget, {"f5": float(budget)}, float(budget), Errors(np.array([errors])))


def made_up(scale, images=64, seed=0):
    return scale * np.exp(np.random.default_rng(seed).standard_normal(images))


def test_cost_at_equal_error_and_its_interval():
    """Errors fall like cost^−2 and ours are a quarter: half the cost, in every resample, as images agree."""
    own = [setting(n, made_up(0.25 / n**2)) for n in (4, 8, 16, 32)]
    peers = [setting(n, made_up(1.0 / n**2), "peer", "diffusers A f5, linspace") for n in (4, 8, 16, 32)]
    level = float(made_up(1.0 / 16**2).mean())
    assert report._costs_of(level, own, peers, "mean")[:2] == ["8.0", "16.0"]
    shares = report._resampled(own, peers, "mean", level)
    assert len(shares) > 300
    assert shares == pytest.approx(np.full(len(shares), 0.5))
    below = report._costs_of(float(made_up(1.0 / 4**2).mean()), own[1:], peers, "mean")
    assert below == ["below 8.0", "4.0", "below 2.00"]
    assert report._costs_of(1e-9, own, peers, "mean") == []


def test_a_choice_by_distances_survives_what_misleads_one_by_squares():
    """Ten times nearer on all images but one: where it is among the 32, a quarter of the draws, squares err."""
    near, even = np.full(128, 1e-4), np.full(128, 1e-3)
    near[0] = 0.05
    by_square, by_distance = (choices._picked([near, even], 32, 200, root=root) for root in (False, True))
    assert by_distance == pytest.approx(np.ones(200))
    assert 0.15 < (by_square > 5.0).mean() < 0.35  # 25%, standard error 3%


def test_the_tables_are_written_from_the_records(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.frontier.settings.RESULTS", tmp_path)
    table = {
        "sde": [setting(10, made_up(0.1)), setting(10, made_up(0.4), "peer", "diffusers A f5, linspace")],
        "ode": [],
    }
    monkeypatch.setattr("benchmarks.frontier.settings.settings", lambda process: table[process])
    assert "0.25 [0.25, 0.25]" in report.at_each_budget()
    assert choices.auto() == choices.auto_summary() == report.law() == choices.auto_law() == report.MISSING
    chosen = {"label": "Multistep f5", "budget": 10, "steps": 10, "predicted": 0.2, "standard_error": 0.02}
    chosen |= {"distance": 0.4, "distance_standard_error": 0.02}
    chosen |= {"errors": [made_up(0.1).tolist()], "calls": {"f5": 10.0}}
    (tmp_path / "frontier-sde-auto.json").write_text(json.dumps({"entries": [chosen]}))
    assert "Multistep f5, 10 steps" in choices.auto()
    assert "1.00 [1.00, 1.00]" in choices.auto()
    assert "Of 1 choices 1 are within 15%" in choices.auto_summary()
    of_law = {"kernel": [0.005, 0.001, 0.009], "frechet": 0.2, "eta": 1.0, "budget": 10}
    least = of_law | {"label": "diffusers A f5, linspace", "kernel": [0.004, 0.001, 0.007]}
    (tmp_path / "multilevel-law.json").write_text(json.dumps({"entries": [least]}))
    (tmp_path / "frontier-sde-auto-law.json").write_text(json.dumps({"entries": [chosen | of_law]}))
    assert "5.0 [1.0, 9.0] | 0.200 | A f5, linspace | 4.0 [1.0, 7.0]" in choices.auto_law()


def test_plans_are_compared_with_constant_ones_of_the_same_draws(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.plans.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.tables.RESULTS", tmp_path)
    entries = [
        {"problem": "closed", "process": "SDE", "draws": "independent", "plan": plan, "converged": plan != "learned",
         "errors": made_up(scale).tolist()}
        for plan, scale in (("constant", 1.0), ("allocated", 0.5), ("learned", 0.25))
    ]  # fmt: skip
    (tmp_path / "plans.json").write_text(json.dumps({"entries": entries}))
    assert "allocated: 0.50 (0.50 to 0.50) | learned: 0.25 (0.25 to 0.25, not settled)" in plans.table()


def test_a_share_of_a_switch_is_of_its_steps():
    assert Switch("T-Stitch", 0.25).calls(8) == {"f2": 2.0, "f5": 6.0}
    assert Switch("SRDiffusion", 0.75).calls(2) == {"f2": 1.0, "f5": 1.0}
