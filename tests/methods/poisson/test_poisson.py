"""The Poisson midpoint method: the papers' recursions to rounding, the laws of its draws, and what it costs."""

import math

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.methods.poisson.substeps import fire_substeps, probabilities
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
from multidrift.schedules.grids import GRIDS

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
CPU = torch.device("cpu")
COUNT, SHAPE, SEED, PLAN_SEED = 5, (2,), 7, 3
DRAWS = ("independent", "single")


def recursion(model, method, process, start):
    """PS(A, G, Γ, b, α, K) run through all K substeps, with the noise and the firings of the library's run."""
    model = md.LangevinDrift(model) if not isinstance(model, md.Denoiser) else model
    nodes = method.grid_for(process)
    fine = process.refined(nodes, method.spacing(process), method.substeps)
    noise = BrownianPath(process, Keys.of((SEED,) * COUNT, range(COUNT), Stream.NOISE, CPU), SHAPE, torch.float64)
    choices = Keys.of((PLAN_SEED,) * COUNT, range(1, COUNT + 1), Stream.DRAWS, CPU)
    pair = process.has_velocity

    def drift(x, t):
        d = model.predict(x[..., 0] if pair else x, t, process.drift_is, {})
        return d[..., None] if pair else d

    x, k = start, method.substeps
    for n in range(len(nodes) - 1):
        times = fine[n * k : (n + 1) * k + 1]
        lengths = process.intervals(times[:-1], times[1:], anchor=np.full(k, times[-1])).dtau.reshape(k, -1)[:, 0]
        q = probabilities(method.draws, method.spread, lengths)
        fired = fire_substeps(method.draws, q, COUNT, lambda j, n=n: choices.uniforms((n << 20) + j).numpy())
        first = drift(x, times[0])
        frozen, refined = x, x
        for i, step in enumerate(process.intervals(times[:-1], times[1:]).each(x)):
            held = first.clone()
            for row, substep, weight in zip(fired.rows, fired.substeps, fired.weights, strict=True):
                if substep == i:
                    held[row] += weight * (drift(frozen, times[i]) - first)[row]
            dw = noise.increment(step.low, step.high) * step.std if process.noisy else 0.0
            refined = step.leave(step.enter(refined) + step.dtau * held + dw)
            frozen = step.leave(step.enter(frozen) + step.dtau * first + dw)
        x = refined
    return model.predict(x, nodes[-1], "sample", {}) if process.final_calls else x[..., 0] if pair else x


def nonlinear(x):
    return -x - 0.5 * torch.sin(3 * x)


CHAIN = tuple(float(t) for t in range(999, 99, -100))
CASES = {
    "overdamped": (md.Overdamped(horizon=2.0, beta=1.3), {"steps": 5}),
    "underdamped": (md.Underdamped(horizon=2.0, friction=3.0), {"steps": 5}),
    "ddpm": (md.Diffusion(md.schedules.ddpm()), {"steps": 6}),
    "ode": (md.Diffusion(md.schedules.ddpm(), 0.0), {"steps": 6}),
    "flow": (md.Diffusion(md.schedules.flow(), 0.7), {"steps": 6, "grid": "linspace"}),
} | {f"V{v}": (md.pmm_variant(v, md.schedules.ddpm()), {"times": CHAIN}) for v in ("1a", "1b", "1c", "1d", "2", "3")}


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("spread", ["clock", "steps"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_papers_recursion_through_all_substeps(name, spread, draws, mixture):
    process, grid = CASES[name]
    model = nonlinear if process.model_schedule is None else mixture.denoiser(process.schedule)
    method = md.PoissonMidpoint(**grid, substeps=10, draws=draws, spread=spread)
    start = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    state = torch.stack((start, 0.5 * start), dim=-1) if process.has_velocity else start
    extra = {"velocities": 0.5 * start} if process.has_velocity else {}
    found = md.sample(
        model, method, process, start=start, seed=SEED, plan_seed=PLAN_SEED, dtype=torch.float64, **extra
    ).samples
    torch.testing.assert_close(found, recursion(model, method, process, state), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", ["1a", "1b", "1c", "1d", "2", "3"])
def test_variants_step_as_the_papers_chain_does(variant, mixture):
    """K = 10 substeps are ten steps of the chain with ε frozen: coefficients as the appendix writes them."""
    schedule = md.schedules.ddpm()
    process = md.pmm_variant(variant, schedule)
    beta, kept = np.asarray(schedule.betas), schedule.alphas_cumprod
    model = mixture.denoiser(schedule)
    x = start = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    path = BrownianPath(process, Keys.of((0,) * COUNT, range(COUNT), Stream.NOISE, CPU), SHAPE, torch.float64)
    epsilon = model.predict(x, 500.0, "epsilon", {})
    for t in range(500, 490, -1):
        a = 1 - beta[t]
        if variant[0] == "1":
            coefficient = -2 * (1 - math.sqrt(a)) / (math.sqrt(a) * math.sqrt(1 - kept[500]))
            variance = beta[t] / (1 + ("abcd".index(variant[1]) - 1) * beta[t])
        else:
            coefficient = -beta[t] / (math.sqrt(a) * math.sqrt(1 - kept[t]))
            variance = (1 - kept[t - 1]) * beta[t] / (1 - kept[t] if variant == "2" else 1.0)
        z = path.increment(float(schedule.log_snr(t)), float(schedule.log_snr(t - 1)))
        if variant[0] == "1":  # what is held is the score at t = 500, −ε/σ_500
            coefficient = -2 * (1 - math.sqrt(a)) / math.sqrt(a) / math.sqrt(1 - kept[500])
        x = x / math.sqrt(a) + coefficient * epsilon + math.sqrt(variance) * z
    states = md.steps(model, md.Euler(times=(500.0, 490.0)), process, start=start, dtype=torch.float64)
    torch.testing.assert_close(next(states).x, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("draws", ["independent", "single", "midpoint"])
@pytest.mark.parametrize("name", ["overdamped", "underdamped", "ddpm"])
def test_one_substep_is_euler(name, draws, mixture):
    process, grid = CASES[name]
    model = nonlinear if process.model_schedule is None else mixture.denoiser(process.schedule)
    settings = {"process": process, "count": 3, "shape": SHAPE, "dtype": torch.float64}
    found = md.sample(model, md.PoissonMidpoint(**grid, substeps=1, draws=draws), **settings)
    assert torch.equal(found.samples, md.sample(model, md.Euler(**grid), **settings).samples)


def test_midpoint_is_the_explicit_midpoint_rule():
    """Overdamped, linear drift: x' = x − h·x̂ + W, x̂ = x(1 − h/2) + W(h/2), from the same path."""
    process, start = md.Overdamped(horizon=1.0), torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    path = BrownianPath(process, Keys.of((0, 0), (0, 1), Stream.NOISE, CPU), (1,), torch.float64)
    x = start
    for n in range(4):
        half, rest = (path.increment(a, a + 0.125) * math.sqrt(0.25) for a in (0.25 * n, 0.25 * n + 0.125))
        x = x - 0.25 * (x * (1 - 0.125) + half) + half + rest
    method = md.PoissonMidpoint(4, substeps=7, draws="midpoint")
    found = md.sample(lambda y: -y, method, process, start=start, dtype=torch.float64)
    torch.testing.assert_close(found.samples, x, rtol=1e-11, atol=1e-11)
    assert found.calls == {"<lambda>": 8}


@pytest.mark.parametrize("spread", ["clock", "steps"])
@pytest.mark.parametrize("draws", DRAWS)
def test_substeps_fire_with_their_probabilities(draws, spread):
    """40,000 draws: P(fire at i) = q_i and, of coins, no correlation, each within five deviations; weights are 1/q."""
    lengths = np.linspace(0.2, 2.0, 6)
    q = probabilities(draws, spread, lengths)
    assert q.sum() == pytest.approx(1.0)
    rng, count = np.random.default_rng(0), 40_000
    fired = fire_substeps(draws, q, count, lambda _: rng.random(count))
    table = np.zeros((count, 6))
    np.add.at(table, (fired.rows, fired.substeps), 1.0)
    assert table.max() == 1
    assert not table[:, 0].any()
    np.testing.assert_allclose(fired.weights, 1 / q[fired.substeps])
    deviation = np.sqrt(q * (1 - q) / count)
    assert np.all(np.abs(table.mean(axis=0) - q)[1:] < 5 * deviation[1:])
    if draws == "independent":
        together = np.corrcoef(table[:, 1:].T) - np.eye(5)
        assert np.abs(together).max() < 5 / math.sqrt(count)
    if draws == "single":
        assert np.all(table.sum(axis=1) == 1)


def test_firings_are_found_by_the_first_uniforms():
    """A single one where the sum of q first exceeds it, as P(u < q_1) = q_1 has it; an edge belongs to the next."""
    q = probabilities("single", "clock", np.array([0.5, 1.0, 3.0]))
    fired = fire_substeps("single", q, 3, {0: np.array([0.1, 0.25, 0.9])}.__getitem__)
    assert fired.substeps.tolist() == [1, 2, 2]
    gaps, asked = [0.5, 0.1, 0.5, 0.5], []  # on a clock that the substeps cut at 0.41, 0.81 and 1.22

    def uniforms(j):
        asked.append(j)
        return np.exp([-gaps[j]])

    assert fire_substeps("independent", np.full(3, 1 / 3), 1, uniforms).substeps.tolist() == [1, 2]
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize("settings", [{"shared": True}, {"draws": "midpoint"}])
def test_noise_is_reduced_for_random_draws_of_each_samples_own(settings):
    message = "^reduce_noise: got True; it takes draws of each sample's own that are random$"
    with pytest.raises(md.MultidriftError, match=message):
        md.PoissonMidpoint(5, reduce_noise=True, **settings)
    assert md.PoissonMidpoint(5, reduce_noise=True, draws="single").reduce_noise


def test_every_kick_has_the_size_of_the_step_on_the_clock():
    lengths = np.array([0.5, 1.0, 3.0])
    q = probabilities("independent", "clock", lengths)
    np.testing.assert_allclose(lengths / q, lengths.sum())
    np.testing.assert_allclose(probabilities("independent", "steps", lengths), 1 / 3)


class Counting:
    """A gradient that keeps the sizes of its batches."""

    def __init__(self):
        self.rows = []

    def __call__(self, x):
        self.rows.append(len(x))
        return nonlinear(x)


@pytest.mark.parametrize("draws", ["independent", "single", "midpoint"])
def test_calls_are_those_the_network_saw(draws):
    """All midpoints of a step, and of all samples, go through one invocation."""
    net, steps, count = Counting(), 40, 30
    method = md.PoissonMidpoint(steps, substeps=10, draws=draws)
    result = md.sample(md.LangevinDrift(net, "net"), method, md.Overdamped(4.0), count=count, shape=(1,))
    assert len(net.rows) == result.batches["net"] <= 2 * steps
    assert sum(net.rows) / count == pytest.approx(result.calls["net"])
    expected = method.cost(md.LangevinDrift(net, "net")).calls["net"]
    deviation = math.sqrt(steps * 0.9 / count) if draws == "independent" else 0.0
    assert abs(result.calls["net"] - expected) <= 5 * deviation
    assert expected == {"independent": 40 * 1.9, "single": 80, "midpoint": 80}[draws]


def test_diffusion_costs_two_calls_a_step_and_one(denoiser):
    method = md.PoissonMidpoint(25, substeps=40, draws="single")
    result = md.sample(denoiser, method, count=4)
    assert result.calls == {"mixture": 49} == dict(method.cost(denoiser).calls) == dict(result.plan.calls)
    assert result.samples.isfinite().all()
    one = md.PoissonMidpoint(25, substeps=1)
    assert dict(one.cost(denoiser).calls) == md.sample(denoiser, one, count=2).calls == {"mixture": 25}
    assert dict(md.PoissonMidpoint(25, substeps=2, draws="independent").cost(denoiser).calls) == {"mixture": 37}
    assert dict(md.PoissonMidpoint(25, substeps=2, draws="single").cost(denoiser).calls) == {"mixture": 49}


@pytest.mark.parametrize("name", ["overdamped", "underdamped", "ddpm"])
def test_a_sample_is_the_same_in_any_batch(name, mixture):
    process, grid = CASES[name]
    model = nonlinear if process.model_schedule is None else mixture.denoiser(process.schedule)
    method = md.PoissonMidpoint(**grid, substeps=8)
    settings = {"process": process, "shape": SHAPE, "seed": 4, "plan_seed": 9, "dtype": torch.float64}
    many = md.sample(model, method, count=9, **settings)
    some = md.sample(model, method, count=3, first=4, **settings)
    torch.testing.assert_close(many.samples[4:7], some.samples, rtol=1e-11, atol=1e-11)
    cut = md.sample(model, method, count=9, batch_size=4, **settings)
    torch.testing.assert_close(many.samples, cut.samples, rtol=1e-11, atol=1e-11)
    assert cut.calls == many.calls


def test_shared_draws_fire_for_all_alike():
    """With one draw the corrections of all samples come at the same steps: an invocation has all rows or none."""
    net = Counting()
    method = md.PoissonMidpoint(30, substeps=10, shared=True)
    md.sample(net, method, md.Overdamped(3.0), count=7, shape=(1,))
    assert set(net.rows) <= {7, 14, 21, 28}
    assert len(net.rows) < 60
    with pytest.raises(md.MultidriftError, match="^reduce_noise: got True"):
        md.sample(net, md.PoissonMidpoint(5, reduce_noise=True), md.Underdamped(3.0), count=2, shape=(1,))


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_substeps_go_the_way_of_their_step_and_add_up_to_it(grid, integer, eta, ddpm):
    """Also where the nodes were rounded, or lie anywhere, and the grid's own measure would put a cut outside."""
    process = md.Diffusion(ddpm, eta)
    odd = np.array([999.0, 998.5, 400.0, 399.0, 3.0, 0.0])
    for nodes in (md.PoissonMidpoint(20, grid, integer=integer).grid_for(process), odd):
        fine = process.refined(nodes, grid, 50)
        assert np.array_equal(fine[::50], nodes)
        ends = np.repeat(nodes[1:], 50)
        short = process.intervals(fine[:-1], fine[1:], anchor=ends).dtau.reshape(-1, 50)
        whole = process.intervals(nodes[:-1], nodes[1:]).dtau
        assert np.all(short * np.sign(whole)[:, None] > 0)
        np.testing.assert_allclose(short.sum(axis=1), whole, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_rounded_nodes_run(eta, denoiser, ddpm):
    method = md.PoissonMidpoint(20, "logsnr", integer=True, substeps=50)
    process = md.Diffusion(ddpm, eta)
    result = md.sample(denoiser, method, process, count=64)
    plain = md.sample(denoiser, md.PoissonMidpoint(20, "logsnr", substeps=50), process, count=64)
    assert result.samples.isfinite().all()
    assert float((result.samples - plain.samples).square().mean()) < 0.1 * float(plain.samples.var())


def test_a_grid_that_was_not_rounded_is_cut_in_its_own_measure(ddpm):
    """Equal steps of λ cut into equal steps of λ, to rounding."""
    process = md.Diffusion(ddpm)
    fine = process.refined(md.grid_times(ddpm, 9, "logsnr"), "logsnr", 16)
    np.testing.assert_allclose(fine, md.grid_times(ddpm, 129, "logsnr"), rtol=1e-9, atol=1e-9)
