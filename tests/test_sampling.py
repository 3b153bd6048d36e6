"""`sample` and `steps`: what a sample depends on, what is counted, and what is left as it was found."""

import threading

import numpy as np
import pytest
import torch
from tests.fakes import Small

import multidrift as md

F64 = {"dtype": torch.float64}


@pytest.fixture
def network(small, ddpm):
    return md.Denoiser(small, ddpm, shape=(1, 8, 8))


@pytest.mark.parametrize("method", [md.Euler(9), md.Multistep(9)], ids=repr)
@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_sample_depends_on_its_number_alone(network, ddpm, method, eta, dtype, tolerance):
    process = md.Diffusion(ddpm, eta)
    network.net.to(dtype)
    whole = md.sample(network, method, process, count=64, dtype=dtype).samples
    for count, first in ((1, 0), (1, 40), (7, 5), (64, 0)):
        part = md.sample(network, method, process, count=count, first=first, dtype=dtype).samples
        assert torch.allclose(part, whole[first : first + count], atol=tolerance)
    for batch_size in (1, 5, 64):
        cut = md.sample(network, method, process, count=64, batch_size=batch_size, dtype=dtype).samples
        assert torch.allclose(cut, whole, atol=tolerance)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_equal_batch_size_is_bitwise_equal(network, batch_size):
    whole = md.sample(network, md.Euler(6), count=13, batch_size=batch_size).samples
    for count, first in ((1, 0), (5, 0), (13, 0), (2, 11)):
        part = md.sample(network, md.Euler(6), count=count, first=first, batch_size=batch_size).samples
        assert torch.equal(part, whole[first : first + count])


def test_seed_list_gives_each_sample_its_own_seed(network):
    both = md.sample(network, md.Euler(6), seed=[7, 3], batch_size=2).samples
    for row, seed in enumerate((7, 3)):
        alone = md.sample(network, md.Euler(6), seed=seed, batch_size=2).samples
        assert torch.equal(both[row], alone[0])
    assert not torch.equal(both[0], both[1])


def test_start_and_later_times_continue_a_run(denoiser, ddpm):
    """Image to image: a run cut in two at a time it passes is the run itself, noise included."""
    method = md.Euler(30)
    whole = md.sample(denoiser, method, count=5, save=1, **F64)
    times = md.grid_times(ddpm, 30)
    rest = md.sample(denoiser, md.Euler(times=times[12:]), start=whole.trajectory[12], **F64)
    assert torch.allclose(rest.samples, whole.samples, atol=1e-12)
    assert whole.trajectory_times[12] == times[12]
    assert len(whole.trajectory) == 31


def test_step_counts_share_the_path(denoiser):
    """The same seed gives the same picture at any step count: coarse runs approach fine ones sample by sample."""
    fine = md.sample(denoiser, md.Euler(1000), count=100, **F64).samples
    error = [
        float((md.sample(denoiser, md.Euler(n), count=100, **F64).samples - fine).square().mean()) for n in (25, 100)
    ]
    spread = float((md.sample(denoiser, md.Euler(1000), count=100, seed=1, **F64).samples - fine).square().mean())
    assert error[1] < error[0] < 0.05 * spread


@pytest.mark.parametrize("eta", [0, 0.5, 1, 2])
@pytest.mark.parametrize("kind", ["ddpm", "vp", "ve", "edm", "flow"])
def test_samples_have_the_law_of_the_mixture(mixture, kind, eta):
    """Mean and covariance of 12,000 samples after 200 steps: five standard errors, plus 1.5% of discretisation."""
    schedule = getattr(md.schedules, kind)()
    model = mixture.denoiser(schedule)
    method = md.Euler(200, "logsnr" if schedule.family == "variance_exploding" else "blend")
    x = md.sample(model, method, md.Diffusion(schedule, eta), count=12_000).samples.double()
    assert torch.allclose(x.mean(0), mixture.mean, atol=5 * 0.75 / 12_000**0.5 + 0.01)
    assert torch.allclose(x.T.cov(), mixture.covariance, atol=5 * 0.71 / 12_000**0.5 + 0.015 * (1 + eta) * 0.6)


def test_result_counts_what_was_called(network):
    result = md.sample(network, md.Euler(9), count=5, batch_size=2)
    assert result.calls == {"model": 9}
    assert result.batches == {"model": 27}
    assert result.rounds == 9
    assert len(network.net.seen) == 27
    assert all(shape == (2, 1, 8, 8) for shape, _ in network.net.seen)
    assert result.finished


def test_network_sees_the_grid_as_floats(network, ddpm):
    md.sample(network, md.Euler(7), count=3)
    seen = [t for _, t in network.net.seen]
    assert all(t.shape == (3,) and t.dtype == torch.float32 for t in seen)
    np.testing.assert_allclose([float(t[0]) for t in seen], md.grid_times(ddpm, 7), rtol=1e-6)


def test_conditioning_is_cut_with_the_batch(network):
    scale = torch.linspace(0.5, 2, 7)
    whole = md.sample(network, md.Euler(5), count=7, conditioning={"scale": scale}).samples
    cut = md.sample(network, md.Euler(5), count=7, conditioning={"scale": scale}, batch_size=3).samples
    assert torch.allclose(whole, cut, atol=1e-6)
    assert not torch.allclose(whole, md.sample(network, md.Euler(5), count=7).samples)


def test_networks_are_left_as_they_were_found(network):
    network.net.train()
    network.net.conv.eval()
    md.sample(network, md.Euler(4))
    assert network.net.training
    assert not network.net.conv.training
    loop = md.steps(network, md.Euler(9))
    next(loop)
    assert not network.net.training
    assert torch.is_grad_enabled()
    loop.close()
    assert network.net.training
    network.net.forward = lambda x, t: x / 0
    with pytest.raises(md.MultidriftError):
        md.sample(network, md.Euler(4))
    assert network.net.training


def test_gradients_through_a_run(ddpm):
    net = Small().double()
    network = md.Denoiser(net, ddpm, shape=(1, 4, 4))
    assert not md.sample(network, md.Euler(4), **F64).samples.requires_grad
    start = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert not md.sample(network, md.Euler(4), start=start, **F64).samples.requires_grad

    def end(x):
        return md.sample(network, md.Euler(4), start=x, grad=True, **F64).samples

    assert torch.autograd.gradcheck(end, (start,))
    end(start).sum().backward()
    assert net.conv.weight.grad is not None


def test_steps_yields_what_sample_exhausts(network):
    states = list(md.steps(network, md.Euler(6), count=2))
    assert [s.step for s in states] == [1, 2, 3, 4, 5, 6]
    assert states[-1].total == 6
    assert states[-1].t == 0
    assert states[2].calls == {"model": 3}
    assert torch.equal(states[-1].x, md.sample(network, md.Euler(6), count=2).samples)
    assert torch.equal(states[-1].x, states[-1].prediction)


@pytest.mark.parametrize("holds", ["data", "noise", "score"])
def test_state_tells_the_clean_prediction(denoiser, ddpm, holds):
    first = next(md.steps(denoiser, md.Euler(6), md.Diffusion(ddpm, holds=holds), count=2, **F64))
    start = md.sample(denoiser, md.Euler(6), count=2, save=1, **F64).trajectory[0]
    wanted = denoiser.predict(start, np.full(2, 999.0), "sample", {})
    assert torch.allclose(first.prediction, wanted, atol=1e-8)


def test_callback_stops_cleanly(network):
    seen = []

    def stop_at_three(state):
        seen.append(state.step)
        return state.step == 3

    result = md.sample(network, md.Euler(9), callback=stop_at_three)
    assert seen == [1, 2, 3]
    assert not result.finished
    assert result.calls == {"model": 3}


def test_saved_states_are_every_kth_and_the_last(denoiser):
    result = md.sample(denoiser, md.Euler(10), count=2, save=4)
    assert result.trajectory.shape == (4, 2, 2)
    assert torch.equal(result.trajectory[-1], result.samples)
    assert result.trajectory_times[0] == 999
    assert result.trajectory_times[-1] == 0


def test_methods_are_shared_between_threads(denoiser):
    """One method, one process and one model serve several threads at once, each with its own result."""
    method = md.Multistep(25)
    wanted = [md.sample(denoiser, method, count=3, seed=s).samples for s in range(4)]
    found = [None] * 4

    def work(seed):
        for _ in range(5):
            found[seed] = md.sample(denoiser, method, count=3, seed=seed).samples

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_global_generator_is_untouched(network):
    before = torch.get_rng_state()
    md.sample(network, md.Euler(4), count=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_pure_noise_start_of_flow(mixture):
    """α = 0 at the first time: z = 0 there for η > 0, and the run is that of a start a little later."""
    schedule = md.schedules.flow()
    model = mixture.denoiser(schedule)
    samples = md.sample(model, md.Euler(50), md.Diffusion(schedule, 1), count=100, **F64).samples
    assert torch.isfinite(samples).all()
    for holds in ("noise", "score"):
        with pytest.raises(md.MultidriftError, match=rf"holds: got '{holds}' where α = 0"):
            md.sample(model, md.Euler(50), md.Diffusion(schedule, 1, holds))
    epsilon = md.Denoiser(lambda x, t: x, schedule, predicts="epsilon", shape=(2,))
    with pytest.raises(md.MultidriftError, match="predicts: got 'epsilon' at a time where α = 0"):
        md.sample(epsilon, md.Euler(50))


def test_pictures(network, tmp_path):
    result = md.sample(network, md.Euler(3), count=5)
    assert [image.size for image in result.images()] == [(8, 8)] * 5
    result.save(tmp_path / "grid.png")
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]
