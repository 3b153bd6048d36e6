"""Anderson acceleration and the secant: fewer rounds to the same path."""

import pytest
import torch
from tests.fakes import F64

import multidrift as md
from multidrift.methods.picard import walk as picard
from multidrift.methods.picard.anderson import Anderson


@pytest.mark.parametrize("accelerate", ["anderson", "secant"])
def test_acceleration_leaves_the_first_points_exact_and_samples_apart(mixture, ddpm, accelerate):
    model = mixture.denoiser(ddpm)
    wanted = md.sample(model, md.Euler(30), count=4, save=1, **F64).trajectory
    method = md.Picard(30, tolerance=1e-15, max_rounds=5, accelerate=accelerate)
    with pytest.warns(md.ConvergenceWarning):
        found = md.sample(model, method, count=4, save=1, **F64).trajectory
    assert torch.allclose(found[:6], wanted[:6], atol=1e-13, rtol=0)
    method = md.Picard(30, tolerance=1e-3, accelerate=accelerate, window=12)
    whole = md.sample(model, method, count=4, **F64).samples
    alone = torch.cat([md.sample(model, method, count=1, first=i, **F64).samples for i in range(4)])
    assert torch.allclose(alone, whole, atol=1e-10)


def test_acceleration_solves_a_linear_problem_in_fewer_rounds():
    """A stiff line, dx = −x dt over 6 units of time, on which Picard iteration first runs away."""
    process = md.Overdamped(6.0, beta=1e30)  # without noise
    rounds = {}
    for accelerate in (None, "anderson", "secant"):
        method = md.Picard(60, tolerance=1e-6, absolute=True, accelerate=accelerate)
        found = md.sample(lambda x: -x, method, process, start=torch.ones(1, 1, dtype=torch.float64), **F64)
        assert float(found.samples) == pytest.approx(0.9**60, abs=1e-5)
        rounds[accelerate] = found.rounds
    print(f"  rounds: {rounds}")
    assert rounds["anderson"] <= 0.5 * rounds[None]
    assert rounds["secant"] == 3  # two to know the slope, which in one dimension is all there is; one to see it


def test_anderson_keeps_two_iterates(denoiser, monkeypatch):
    """However many rounds there are: their last difference, and the last iterate itself."""
    made = []
    monkeypatch.setattr(picard, "Anderson", lambda points: made.append(Anderson(points)) or made[0])
    md.sample(denoiser, md.Picard(20, accelerate="anderson", rounds=8), count=1)
    assert len(made[0]._differences) == 1


def test_secant_of_an_underdamped_run_is_that_of_its_positions():
    """The same line with velocities: D depends on positions alone, so that three rounds are all again."""
    process = md.Underdamped(12.0, friction=1.0, beta=1e30)
    start = torch.ones(1, 1, dtype=torch.float64)
    method = md.Picard(60, tolerance=1e-6, absolute=True, accelerate="secant")
    found = md.sample(lambda x: -x, method, process, start=start, velocities=torch.zeros_like(start), **F64)
    wanted = md.sample(lambda x: -x, md.Euler(60), process, start=start, velocities=torch.zeros_like(start), **F64)
    assert found.rounds == 3
    assert torch.allclose(found.samples, wanted.samples, atol=1e-9)
    assert torch.allclose(found.velocities, wanted.velocities, atol=1e-9)
