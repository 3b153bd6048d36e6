"""Langevin dynamics: the paper's matrices, one noise path, closed-form laws, and errors that name their chain."""

import json
import math

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.pair import pair_reach, pair_rotation
from multidrift.noise.path import BrownianPath

UNDER = md.Underdamped(horizon=3.0, friction=2.0, beta=1.5)
OVER = md.Overdamped(horizon=3.0, beta=1.5)


def gradient(x):
    return -x - 0.3 * torch.sin(2 * x)


def path_of(process, count=4, shape=(2,), seed=0):
    keys = Keys.of((seed,) * count, range(count), Stream.NOISE, torch.device("cpu"))
    return BrownianPath(process, keys, shape, torch.float64)


def moments(process, h):
    """(A_h, G_h, Γ_h²) of one step of length h, as the library takes it."""
    step = next(process.intervals(0.0, h).each(torch.zeros(1, dtype=torch.float64)))
    unit = torch.eye(2, dtype=torch.float64)
    a = step.leave(step.enter(unit)).T.numpy()
    zero = torch.zeros(2, dtype=torch.float64)
    g = step.leave(step.enter(zero) + step.dtau).numpy()
    mixing = step.std[:, None] * torch.from_numpy(process.reach(0.0, h, 0.0, h))
    root = step.leave(mixing.T).T.numpy()
    return a, g, root @ root.T


@pytest.mark.parametrize("h", [1e-3, 0.02, 0.3, 2.0])
@pytest.mark.parametrize("friction", [0.5, 2.0, 10.0])
def test_underdamped_steps_are_the_papers(h, friction):
    """PMM, section 2.1: A_h, G_h and Γ_h², to 1e-9 relative where the paper's form of Γ_h² does not cancel itself."""
    beta, decay = 1.5, math.exp(-friction * h)
    a, g, cov = moments(md.Underdamped(horizon=4.0, friction=friction, beta=beta), h)
    lost = -math.expm1(-friction * h)
    np.testing.assert_allclose(a, [[1, lost / friction], [0, decay]], rtol=1e-12)
    np.testing.assert_allclose(g, [(h - lost / friction) / friction, lost / friction], rtol=1e-9, atol=1e-16)
    uu = 2 / friction * (h - 2 / friction * lost + -math.expm1(-2 * friction * h) / (2 * friction))
    uw, ww = lost**2 / friction, -math.expm1(-2 * friction * h)
    np.testing.assert_allclose(cov * beta, [[uu, uw], [uw, ww]], rtol=1e-9, atol=1e-17 / (friction * h))


def test_underdamped_steps_at_small_h():
    """Where the paper's form cancels: G ≈ (h²/2, h) and Γ² ≈ γ [[2h³/3, h²], [h², 2h]]/β, to γh relative."""
    h, friction, beta = 1e-5, 2.0, 1.5
    _, g, cov = moments(md.Underdamped(horizon=4.0, friction=friction, beta=beta), h)
    np.testing.assert_allclose(g, [h**2 / 2, h], rtol=1e-4)
    np.testing.assert_allclose(cov * beta / friction, [[2 * h**3 / 3, h**2], [h**2, 2 * h]], rtol=1e-4)


@pytest.mark.parametrize("place", [0.5, 0.1, 0.77, 0.999])
@pytest.mark.parametrize("q", [1e-6, 1e-3, 0.5, 3.0, 40.0, 3000.0])
def test_the_pairs_bridge(q, place):
    """The rotation is orthogonal, and the halves' increments add up to the whole's whatever the fresh normals are."""
    rotation = pair_rotation(1.0, 0.0, place * q, q)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(4), atol=1e-14)
    whole = pair_reach(1.0, 0.0, q, q)
    halves = np.concatenate([pair_reach(1.0, 0.0, place * q, q), pair_reach(1.0, place * q, q, q)], axis=1)
    expected = np.concatenate([whole, np.zeros((2, 2))], axis=1)
    np.testing.assert_allclose(halves @ rotation, expected, atol=1e-13 * np.abs(whole).max())


def test_the_pairs_increments_add_up_in_any_order():
    """ΔZ[a, c] = diag(1, e^{−γ(c−b)}) ΔZ[a, b] + ΔZ[b, c], with e^{γ(r − end)} as the second function."""
    for a, b, c in ((0.0, 0.4, 1.1), (0.3, 0.30001, 2.9), (1.0, 1.7, 1.70002)):
        path = path_of(UNDER)
        late, whole, early = path.increment(b, c), path.increment(a, c), path.increment(a, b)
        fade = torch.tensor([1.0, math.exp(-2.0 * (c - b))], dtype=torch.float64)
        torch.testing.assert_close(whole, fade * early + late, rtol=1e-11, atol=1e-12)


def test_the_pairs_law():
    """Covariance of one increment and independence of neighbours: 60,000 samples, each bound at five deviations."""
    path = path_of(UNDER, 60_000, ())
    first, second = path.increment(0.1, 0.45), path.increment(0.45, 1.0)
    root = pair_reach(2.0, 0.1, 0.45, 0.45)
    found = np.cov(torch.cat((first, second), dim=1).numpy().T)
    np.testing.assert_allclose(found[:2, :2], root @ root.T, rtol=5 * math.sqrt(2 / 60_000))
    scale = np.sqrt(np.outer(np.diag(found), np.diag(found)))
    assert np.all(np.abs(found[:2, 2:] / scale[:2, 2:]) < 5 / math.sqrt(60_000))


PROCESSES = {
    "overdamped": OVER,
    "underdamped": UNDER,
    "ddpm": md.Diffusion(md.schedules.ddpm()),
    "chain": md.Diffusion(md.schedules.ddpm(), holds="ddpm"),
    "scaled": md.pmm_variant("1c", md.schedules.ddpm()),
    "flow": md.Diffusion(md.schedules.flow(), 0.5),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_places_of_each_samples_own_read_the_same_path(name):
    """`increments` at one place a row is `increment` there, also inside a cell that an earlier query has cut."""
    process = PROCESSES[name]
    ends = (0.3, 1.1) if name.endswith("damped") else (-1.3, 0.4)
    rows = torch.tensor([0, 3, 3, 1, 2, 0])
    low = ends[0]
    points = np.array([ends[1], low + 1e-5, low + 0.3, low + 0.123, low + 2e-4, low + 0.5])
    path = path_of(process)
    before = path.increment(low - 0.2, low)
    found = path.increments(low, points, rows)
    onward = path.increment(low, ends[1])
    for place, row, value in zip(points.tolist(), rows.tolist(), found, strict=True):
        expected = path_of(process).increment(low, place)[row]
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(onward, path_of(process).increment(low, ends[1]), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(before, path_of(process).increment(low - 0.2, low), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("process", [OVER, UNDER], ids=["overdamped", "underdamped"])
def test_runs_of_any_number_of_steps_share_the_path(process):
    """Distance to 1024 steps falls with strong order 1: by a regression on 32 chains, slope at least 0.8."""
    start = torch.linspace(-2, 2, 32, dtype=torch.float64)[:, None]

    def run(steps):
        return md.sample(gradient, md.Euler(steps), process, start=start, dtype=torch.float64).samples

    fine, numbers = run(1024), (16, 32, 64, 128)
    errors = [float((run(n) - fine).square().mean().sqrt()) for n in numbers]
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert slope > 0.8
    assert errors[0] < 0.1


def test_overdamped_stationary_variance():
    """LMC on a Gaussian of variance s: s/(1 − h/(2s)) at β = 1; steps of 0.8 are off by 22%, five deviations are 5%."""
    process, h = md.Overdamped(horizon=16.0), 0.8
    start = 1.5 * torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    found = md.sample(lambda x: -x / 2.25, md.Euler(20), process, start=start).samples.var()
    assert float(found) == pytest.approx(2.25 / (1 - h / 4.5), rel=5 * math.sqrt(2 / 20_000))


def test_underdamped_velocities_and_positions_in_equilibrium():
    """Fine steps on a unit Gaussian at β = 2: variances 1/2 of both; 20,000 chains, five deviations."""
    process = md.Underdamped(horizon=6.0, friction=1.5, beta=2.0)
    start = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1)) / math.sqrt(2)
    result = md.sample(lambda x: -x, md.Euler(300), process, start=start)
    bound = 5 * math.sqrt(2 / 20_000) + 0.01  # and the step's own bias
    assert float(result.samples.var()) == pytest.approx(0.5, rel=bound)
    assert float(result.velocities.var()) == pytest.approx(0.5, rel=bound)


@pytest.mark.parametrize("kind", [md.Overdamped, md.Underdamped])
def test_a_preconditioner_is_a_change_of_coordinates(kind):
    """With M and x = √M y the run in y on the target in y is the same run, to rounding."""
    metric = torch.tensor([4.0, 0.25], dtype=torch.float64)
    start = torch.tensor([[1.0, 2.0], [0.3, -1.0]], dtype=torch.float64)
    settings = {"dtype": torch.float64, "seed": 3}
    plain = md.sample(
        lambda y: metric.sqrt() * gradient(metric.sqrt() * y),
        md.Euler(20),
        kind(2.0),
        start=start / metric.sqrt(),
        **settings,
    )
    moved = md.sample(gradient, md.Euler(20), kind(2.0, preconditioner=(4.0, 0.25)), start=start, **settings)
    torch.testing.assert_close(moved.samples, plain.samples * metric.sqrt(), rtol=1e-10, atol=1e-10)


def test_potential_is_the_gradient(mixture):
    x = mixture.sample(20)
    found = md.potential(mixture.log_density).predict(x, 0.0, "score", {})
    torch.testing.assert_close(found, mixture.score(x), rtol=1e-10, atol=1e-10)
    result = md.sample(md.potential(mixture.log_density), md.Euler(10), OVER, start=x, dtype=torch.float64)
    torch.testing.assert_close(
        result.samples, md.sample(mixture.score, md.Euler(10), OVER, start=x, dtype=torch.float64).samples
    )
    assert result.calls == {"potential": 10}
    assert not result.samples.requires_grad


def test_gradients_flow_through_a_run():
    """Forward differences of the run's end in its start agree with `grad=True`, through `md.potential`."""
    start = torch.tensor([[0.4], [1.0]], dtype=torch.float64, requires_grad=True)
    target = md.potential(lambda x: -(x**4).sum(dim=1) / 4)

    def end(x):
        return md.sample(target, md.Euler(8), md.Overdamped(0.5), start=x, dtype=torch.float64, grad=True).samples.sum()

    (slope,) = torch.autograd.grad(end(start), start)
    nudge = torch.tensor([[1e-6], [0.0]], dtype=torch.float64)
    measured = float((end(start.detach() + nudge) - end(start.detach() - nudge)).detach()) / 2e-6
    assert float(slope[0, 0]) == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize("process", [OVER, UNDER], ids=["overdamped", "underdamped"])
def test_every_chain_depends_on_seed_and_number_alone(process):
    many = md.sample(gradient, md.Euler(12), process, count=6, shape=(3,), seed=5, dtype=torch.float64)
    some = md.sample(gradient, md.Euler(12), process, count=2, shape=(3,), seed=5, first=3, dtype=torch.float64)
    torch.testing.assert_close(many.samples[3:5], some.samples, rtol=1e-12, atol=1e-12)


def test_trajectory_and_velocities():
    result = md.sample(gradient, md.Euler(10), UNDER, count=3, shape=(2,), save=4)
    assert result.trajectory.shape == (4, 3, 2)
    assert result.trajectory_times == pytest.approx((0.0, 1.2, 2.4, 3.0))
    assert result.velocities.shape == result.samples.shape
    given = torch.ones(3, 2)
    other = md.sample(gradient, md.Euler(10), UNDER, count=3, shape=(2,), velocities=given)
    assert not torch.allclose(other.samples, result.samples)
    states = list(md.steps(gradient, md.Euler(10), UNDER, count=3, shape=(2,)))
    assert [s.step for s in states] == list(range(1, 11))
    assert states[-1].total == 10
    assert torch.equal(states[-1].velocities, result.velocities)


def test_other_methods_run_on_langevin():
    """One-level Multilevel is Euler bit for bit; order 1 of Multistep too; order 2 comes closer to fine steps."""
    start = torch.linspace(-1, 1, 16)[:, None].double()
    for process in (OVER, UNDER):

        def run(method, model=gradient, process=process):
            return md.sample(model, method, process, start=start, dtype=torch.float64)

        euler = run(md.Euler(16)).samples
        assert torch.equal(run(md.Multistep(16, order=1)).samples, euler)
        ladder = md.Ladder([lambda x: -x, gradient], names=("linear", "full"))
        assert torch.equal(run(md.Multilevel(16, levels=("full",), calls=(16,)), ladder).samples, euler)
        result = run(md.Multilevel(16, calls=(16, 4), draws="midpoint"), ladder)
        assert result.calls == {"linear": 16, "full": 4} == dict(result.plan.calls)
        assert float((result.samples - euler).abs().max()) < float(
            (run(md.Euler(16), lambda x: -x).samples - euler).abs().max()
        )
    with pytest.raises(md.MultidriftError, match="^order: got 3"):
        md.sample(gradient, md.Multistep(16, order=3), UNDER, start=start)


def test_processes_and_plans_are_kept(tmp_path):
    for process in (md.Overdamped(2.0, beta=3.0, preconditioner=(1.0, 2.0)), UNDER):
        again = type(process).from_dict(json.loads(json.dumps(process.to_dict())))
        assert again == process
    method = md.PoissonMidpoint(12, substeps=5)
    plan = method.plan(gradient, OVER, seed=4, count=3)
    plan.save(tmp_path / "plan.json")
    direct = md.sample(gradient, method, OVER, count=3, shape=(2,), plan_seed=4)
    replayed = md.sample(gradient, md.Plan.load(tmp_path / "plan.json"), OVER, count=3, shape=(2,))
    assert torch.equal(direct.samples, replayed.samples)
    with pytest.raises(md.MultidriftError, match="plan: made for a process with"):
        md.sample(gradient, plan, UNDER, count=3, shape=(2,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: md.Overdamped(horizon=0.0), "horizon: got 0.0"),
        (lambda: md.Overdamped(horizon=math.inf), "horizon: got inf"),
        (lambda: md.Underdamped(horizon=1.0, friction=0.0), "friction: got 0.0"),
        (lambda: md.Underdamped(horizon=1.0, beta=-1.0), "beta: got -1.0"),
        (lambda: md.Overdamped(horizon=1.0, preconditioner=(1.0, 0.0)), "preconditioner: got"),
        (lambda: md.Overdamped(horizon=1.0, resolution=2.0), "resolution: got 2.0"),
        (lambda: md.PoissonMidpoint(5, substeps=0), "substeps: got 0"),
        (lambda: md.PoissonMidpoint(5, draws="coin"), "draws: got 'coin'"),
        (lambda: md.PoissonMidpoint(5, spread="even"), "spread: got 'even'"),
        (lambda: md.PoissonMidpoint(5, reduce_noise=True, shared=True), "reduce_noise: got True"),
        (lambda: md.potential(3), "log_density: got 3"),
        (lambda: md.pmm_variant("4", md.schedules.ddpm()), "variant: got '4'"),
        (lambda: md.pmm_variant("2", md.schedules.edm()), "schedule: got"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"process": None}, "process: got None; a model without a schedule takes md.Overdamped"),
        ({"process": md.Diffusion(md.schedules.ddpm())}, "process: got Diffusion, which takes a Denoiser"),
        ({"method": md.Euler(10, "karras")}, "grid: got 'karras'; it takes 'linspace'"),
        ({"method": md.Euler(10, integer=True)}, "integer: got True"),
        ({"method": md.Euler(times=(2.0, 1.0))}, "times: got"),
        ({"method": md.Euler(times=(0.0, 4.0))}, "times: got"),
        ({"method": md.Euler(200_000)}, "steps: got steps as short as"),
        ({"process": md.Underdamped(100.0, friction=10.0)}, "friction: got 'γ·block = 100.0'"),
        ({"model": lambda x: x[:, :1]}, "<lambda>'s output shape: got"),
        ({"model": lambda x: x.numpy()}, "<lambda>: returned ndarray"),
        ({"model": md.potential(lambda x: x)}, "log_density: got \\(4, 2\\); it takes one scalar a chain"),
        ({"model": md.potential(lambda x: x.sum())}, "log_density: got \\(\\); it takes one scalar a chain"),
        ({"model": md.potential(lambda x: x.detach().sum(dim=1))}, "log_density: got a value without a gradient"),
        ({"velocities": torch.zeros(4, 2)}, "velocities: got 'a tensor of shape \\(4, 2\\)'; it takes None"),
        ({"process": UNDER, "velocities": torch.zeros(4, 1)}, "velocities: got 'a tensor of shape \\(4, 1\\)'"),
    ],
)
def test_wrong_calls(settings, message):
    arguments = {"model": gradient, "method": md.Euler(10), "process": OVER, "start": torch.zeros(4, 2)} | settings
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.sample(**arguments)


def test_exploding_chains_are_named_and_what_was_sampled_is_kept():
    """A quartic potential from far away: Euler's steps grow without bound for one chain alone."""
    start = torch.tensor([[0.1], [9.0], [0.2]])
    with pytest.raises(md.MultidriftError, match=r"exploded at step \d \(t = 0\.\d+\) for chain 1") as caught:
        md.sample(lambda x: -(x**3), md.Euler(40), md.Overdamped(4.0), start=start, save=1)
    kept = caught.value.result
    assert not kept.finished
    assert kept.trajectory.shape[1:] == (3, 1)
    assert torch.isfinite(kept.trajectory[:, 0]).all()


def test_a_gradient_that_is_not_finite_is_named():
    def broken(x):
        return torch.where(x > 0.5, torch.nan, -x)

    with pytest.raises(md.MultidriftError, match="broken: the prediction is not finite at step 0 .* for chain 2"):
        md.sample(broken, md.Euler(10), OVER, start=torch.tensor([[0.0], [0.1], [0.9]]))
