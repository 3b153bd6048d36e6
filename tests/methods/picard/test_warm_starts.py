"""First guesses of parallel runs from earlier ones, and the states that come after each round."""

import pytest
import torch
from tests.fakes import F64

import multidrift as md


def test_a_warm_start_takes_fewer_rounds(denoiser):
    cold = md.sample(denoiser, md.Picard(40), count=3, save=1, **F64)
    again = md.sample(denoiser, md.Picard(40, initial=cold), count=3, **F64)
    assert again.rounds < 0.4 * cold.rounds
    other_grid = md.sample(denoiser, md.Picard(30, "logsnr", initial=cold, tolerance=1e-13), count=3, **F64)
    wanted = md.sample(denoiser, md.Euler(30, "logsnr"), count=3, **F64)
    assert torch.allclose(other_grid.samples, wanted.samples, atol=1e-10)


def test_a_warm_start_is_the_earlier_path_between_its_times(denoiser):
    """Linear in time between two saved states, and without the data that ends a diffusion's trajectory."""
    times = (999.0, 600.0, 200.0, 0.0)
    known = md.sample(denoiser, md.Euler(times=times), count=2, save=1, **F64)
    path = known.trajectory
    assert path.shape[0] == len(times) + 1  # the states and the data
    asked = md.Picard(times=(999.0, 700.0, 600.0, 50.0, 0.0), initial=known, rounds=1)
    seen = []
    counting = md.Denoiser(
        lambda x, t: seen.append((t, x)) or denoiser.net(x, t), denoiser.schedule, "sample", shape=(2,)
    )
    md.sample(counting, asked, count=2, **F64)
    first = seen[0][1].view(4, 2, 2)  # the states at all times but the last
    wanted = torch.stack(
        (path[0], path[1] + (path[0] - path[1]) * 100 / 399, path[1], path[3] + (path[2] - path[3]) / 4)
    )
    assert torch.allclose(first, wanted, atol=1e-12)


def test_a_warm_start_with_velocities(mixture):
    process, gradient = md.Underdamped(2.0, friction=2.0), mixture.score
    cold = md.sample(gradient, md.Picard(40, tolerance=1e-8), process, count=3, shape=(2,), save=1, **F64)
    again = md.sample(gradient, md.Picard(40, initial=cold, tolerance=1e-8), process, count=3, shape=(2,), **F64)
    assert cold.trajectory_velocities.shape == cold.trajectory.shape == (41, 3, 2)
    assert torch.equal(cold.trajectory_velocities[-1], cold.velocities)
    assert again.rounds == 1 < cold.rounds
    assert torch.allclose(again.velocities, cold.velocities, atol=1e-7)
    step_by_step = md.sample(gradient, md.Euler(40), process, count=3, shape=(2,), save=1, **F64)
    assert torch.allclose(step_by_step.trajectory_velocities, cold.trajectory_velocities, atol=1e-6)


def test_states_of_a_round_are_not_touched_by_later_ones(mixture):
    process = md.Underdamped(2.0, friction=2.0)
    states, kept = [], []
    for state in md.steps(mixture.score, md.Picard(20, tolerance=1e-8), process, count=2, shape=(2,), **F64):
        states.append(state)
        kept.append([part.clone() for part in (state.x, state.velocities, state.prediction)])
    assert len(states) > 3
    for state, parts in zip(states, kept, strict=True):
        for part, then in zip((state.x, state.velocities, state.prediction), parts, strict=True):
            assert torch.equal(part, then)


def test_a_warm_start_is_not_kept_in_a_plan(denoiser):
    method = md.Picard(12, initial=md.sample(denoiser, md.Euler(12), count=1, save=1))
    assert method.to_dict()["initial"] == "an earlier result"
    with pytest.raises(md.MultidriftError, match="initial: got 'an earlier result'"):
        md.method_from_dict(method.to_dict())
    assert isinstance(hash(method), int)


def test_states_come_after_each_round(denoiser):
    states = list(md.steps(denoiser, md.Picard(25, blocks=2), count=2))
    assert states[-1].step == states[-1].total == 25
    assert states[-1].residual is None
    assert all(s.residual >= 0 and s.prediction.shape == s.x.shape for s in states[:-1])
    assert [s.step for s in states] == sorted(s.step for s in states)
    assert len({s.t for s in states}) == 2  # the ends of the two blocks
    half = md.sample(denoiser, md.Picard(25), count=2, callback=lambda state: state.step > 5)
    assert not half.finished


def test_a_result_without_a_path_is_no_warm_start(denoiser):
    with pytest.raises(md.MultidriftError, match="initial: got a Result without a trajectory; it takes one of a run"):
        md.Picard(20, initial=md.sample(denoiser, md.Euler(5)))
    other = md.sample(denoiser, md.Euler(5), count=2, save=1)
    with pytest.raises(md.MultidriftError, match=r"initial: got states of shape \(2, 2\); it takes \(3, 2\)"):
        md.sample(denoiser, md.Picard(20, initial=other), count=3)
