"""The time points of a parallel run: what a change is measured by, which points settle, and what they begin as."""

import numpy as np
import pytest
import torch
from tests.fakes import F64, counting_denoiser

import multidrift as md
from multidrift.methods.picard import walk as picard
from multidrift.methods.picard.points import Points, _cuts
from multidrift.runs.guard import FiniteGuard


@pytest.fixture
def points_of(monkeypatch):
    """Points of a run of `process`, of one sample in two dimensions, all open and none settled."""

    def made(model, process, steps):
        seen = []
        monkeypatch.setattr(picard, "Points", lambda run, scale: seen.append((run, scale)) or Points(run, scale))
        md.sample(model, md.Picard(steps, rounds=1), process, count=1, shape=(2,), **F64)
        points = Points(*seen[0])
        points.advance(np.array([points.increments]))
        return points

    return made


def moved(points, changes):
    """States before a round in which the points after the first moved by these multiples of their scale."""
    size = torch.from_numpy(points.scale[1:] * np.asarray(changes)).view(-1, 1, 1)
    before = points.x.clone()
    before[1:] -= size * torch.tensor([[1.4, 0.2]])  # root mean square 1
    return before


def settle(points, before, tolerance, most_rounds):
    return points.front.settle(points.changes(before, points.front.open()), tolerance, most_rounds)


def test_changes_are_root_mean_squares_over_their_own_scale(denoiser, ddpm, points_of):
    points = points_of(denoiser, md.Diffusion(ddpm), 6)
    assert points.scale == pytest.approx(ddpm.sigma(md.grid_times(ddpm, 6)))
    changes = [0.5, 2.0, 0.1, 3.0, 1.0]
    assert points.changes(moved(points, changes), points.front.open())[:, 0] == pytest.approx(changes)


def test_points_settle_up_to_the_first_that_moved(denoiser, ddpm, points_of):
    """It settles as well, as what it was computed from did not move; so do points that have had all their rounds."""
    points = points_of(denoiser, md.Diffusion(ddpm), 6)
    before = moved(points, [0.9, 1.1, 0.5, 7.0, 4.0])
    assert settle(points, before, 1.0, 2) == pytest.approx(7.0)
    assert (points.front.settled.tolist(), points.front.unconverged) == ([2], 0.0)
    settle(points, moved(points, [0.0, 0.0, 1.5, 2.5, 0.5]), 1.0, 2)
    assert points.front.settled.tolist() == [5]
    assert points.front.unconverged == pytest.approx(2.5)  # of point 4; point 3, the first that moved, is final


def test_scales_of_langevin_dynamics():
    process = md.Overdamped(2.0, beta=4.0)
    assert process.noise_size(np.array([0.0, 0.5, 2.0])) == pytest.approx(np.sqrt([0.25, 0.25, 0.75]))


def test_first_states_grow_as_the_marginals_do(mixture, points_of):
    """For data of unit variance: √(1 + σ²) of a variance-exploding schedule."""
    schedule = md.schedules.edm()
    points = points_of(mixture.denoiser(schedule), md.Diffusion(schedule), 5)
    points.fill(np.array([0]))
    sizes = torch.from_numpy(np.hypot(1.0, points.run.times)).view(-1, 1, 1)
    assert torch.allclose(points.x, points.run.start * sizes / sizes[0])


def test_every_final_state_is_checked(denoiser, monkeypatch):
    watched, real = [], FiniteGuard.watch_state
    monkeypatch.setattr(FiniteGuard, "watch_state", lambda self, n, state: watched.append(n) or real(self, n, state))
    md.sample(denoiser, md.Picard(12), count=2)
    assert sorted(watched) == list(range(11))


def test_rows_of_a_window_and_of_a_coarse_start(mixture, ddpm):
    """A window of 5 has 5 points a sample; three coarse steps are three calls before the first round."""
    model = counting_denoiser(mixture, ddpm)
    assert md.sample(model, md.Picard(20, window=5), count=4).peak_rows == 4 * 5
    model.net.rows.clear()
    md.sample(model, md.Picard(20, initial=3), count=4)
    assert model.net.rows[:4] == [4, 4, 4, 4 * 19]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ([5.0, 5.0, 5.0, 4.9], []),
        ([20.0, 0.0, 0.1], [2]),
        ([19.0, 2.0, 3.0, 15.5, 1.0], [1, 3]),
        ([8.0, 8.0, -15.0, 8.0, 5.0, -21.5], [5]),
        ([-12.0, -9.0, -9.0, -9.0], [1, 3]),
        ([30.0, 30.0, 30.0], [1, 2]),
        ([np.inf, 12.0, 9.0], [2]),
    ],
)
def test_cuts_come_where_the_span_of_one_anchor_ends(changes, wanted):
    """By hand: sums of the changes since the last cut, their largest less their least, at most 20."""
    assert _cuts(np.exp(-np.array(changes))) == wanted


@pytest.mark.parametrize("settings", [{}, {"coarse": "gaussian"}])
def test_the_last_report_of_a_converged_run_is_eulers(mixture, ddpm, settings):
    """State, time, and the prediction that the last step was made with."""
    gaussian = md.GaussianDenoiser(mixture.mean.numpy(), mixture.covariance.numpy(), ddpm)
    ladder = md.Ladder([mixture.denoiser(ddpm)], gaussian=gaussian)
    runs = (md.Picard(8, tolerance=1e-14, **settings), md.Euler(8))
    process = md.Diffusion(ddpm, holds="noise")
    found, wanted = ([*md.steps(ladder, run, process, count=3, **F64)][-2] for run in runs)
    assert found.t == wanted.t
    assert torch.allclose(found.x, wanted.x, atol=1e-10, rtol=0)
    assert torch.allclose(found.prediction, wanted.prediction, atol=1e-10, rtol=0)
