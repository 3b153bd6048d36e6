"""The theorem at small size: the settings, the closed forms, and slopes over a factor of 16 in the error."""

import numpy as np
import pytest
import torch

import multidrift as md
from benchmarks.theorem import PROBLEMS, SEED, forecast_slopes, measure, settings, slope
from multidrift.evaluation.coupled import squared_distances

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_closed_form_is_what_fine_steps_come_to(name):
    problem, exact = PROBLEMS[name](), PROBLEMS[name]().solution(4)
    drift = md.SyntheticLadder(3.0, dimension=4).exact(problem.schedule)
    errors = [
        float(
            squared_distances(
                md.sample(
                    drift, md.Euler(n), problem.process, count=4, seed=SEED, shape=(4,), dtype=torch.float64
                ).samples,
                exact,
            ).mean()
        )
        ** 0.5
        for n in (50, 100, 200)
    ]
    assert errors[2] < 0.01
    assert np.log2(np.array(errors[:-1]) / errors[1:]) == pytest.approx([1, 1], abs=0.3)


def test_every_halving_doubles_the_steps_and_keeps_the_calls_of_the_top_level():
    for gamma in (2.5, 4.0):
        found = settings(gamma, 4)
        assert [steps * p[-1] for steps, _, p in found] == pytest.approx([8.0] * 4)
        ratios = [p[-1] / p[-2] for _, _, p in found]
        assert ratios == pytest.approx([2.0 ** -(1 + gamma / 2)] * 4)


def test_the_closed_form_tends_to_the_theorem():
    for gamma in (2.5, 3.0, 4.0):
        here, far = forecast_slopes(gamma)
        assert gamma <= far < here < gamma + 0.6
        assert far == pytest.approx(gamma, abs=0.02)
    assert forecast_slopes(1.0)[0] > 1.5


def test_the_cost_of_multilevel_runs_falls_by_nearly_one_power_less_than_eulers():
    """γ = 4, 32 samples, steps 64 to 512: the theorem's powers are 4 and 5, the closed form says 4.2 here."""
    found = measure("sde", 4.0, 4, 32)
    own, low, high = slope(found["multilevel"])
    assert low < own < high
    assert own == pytest.approx(4.2, abs=0.4)
    euler, low, high = slope(found["euler"])
    assert low < 5.0 < high
    assert euler - own > 0.4
