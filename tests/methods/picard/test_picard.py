"""Parallel Picard: equal to the sequential method, exact from the front on, sparing with calls."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from tests.fakes import F64, counting_denoiser

import multidrift as md
from multidrift.methods.picard.front import block_boundaries

STEPS = 14
SETTINGS = [
    {},
    {"blocks": 3},
    {"blocks": 13},
    {"window": 4},
    {"window": 4, "blocks": 2},
    {"window": 500},
    {"initial": 3},
    {"absolute": True},
    {"accelerate": "anderson"},
    {"accelerate": "anderson", "window": 5, "blocks": 2},
    {"accelerate": "secant"},
    {"accelerate": "secant", "window": 5, "blocks": 2},
]


def processes():
    ddpm = md.schedules.ddpm()
    for eta in (0.0, 0.5, 1.0, 2.0):
        yield md.Diffusion(ddpm, eta)
    for holds in ("noise", "score", "ddpm"):
        yield md.Diffusion(ddpm, 1.0, holds)
    yield md.Diffusion(ddpm, 0.0, "score")
    for schedule in (md.schedules.cosine(), md.schedules.edm(), md.schedules.ve(), md.schedules.flow()):
        yield md.Diffusion(schedule, 0.0)
        yield md.Diffusion(schedule, 1.0)
    yield md.Diffusion(ddpm, 1.0, noise_scale=lambda t: 0.5 + t / 2000)
    yield md.Overdamped(2.0, beta=2.0)
    yield md.Overdamped(2.0, preconditioner=(0.5, 2.0))
    yield md.Underdamped(2.0, friction=2.0)
    yield md.Underdamped(40.0, friction=3.0)  # γ·horizon = 120: more than one anchor can span


PROCESSES = list(processes())


def model_of(process, mixture):
    return mixture.score if process.model_schedule is None else mixture.denoiser(process.model_schedule)


def pair(process, mixture, settings, steps=STEPS, **more):
    """(Picard's result, Euler's)."""
    steps = 60 if getattr(process, "horizon", 0) > 10 else steps
    grid = settings.pop("grid", "blend")
    arguments = {"shape": (2,), "count": 3} | F64 | more
    method = md.Picard(steps, grid, **{"tolerance": 1e-14} | settings)
    model = model_of(process, mixture)
    return md.sample(model, method, process, **arguments), md.sample(model, md.Euler(steps, grid), process, **arguments)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_parallel_equals_sequential(process, mixture):
    for settings in SETTINGS:
        found, wanted = pair(process, mixture, dict(settings))
        assert torch.allclose(found.samples, wanted.samples, atol=1e-10, rtol=0), settings
        assert found.converged
        assert found.finished


@pytest.mark.parametrize("grid", ["logsnr", "leading", "trailing", "linspace", "karras", "piadm"])
def test_parallel_equals_sequential_on_every_spacing(grid, mixture, ddpm):
    for eta in (0.0, 1.0):
        for settings in ({}, {"blocks": 4}, {"window": 5}):
            found, wanted = pair(md.Diffusion(ddpm, eta), mixture, {"grid": grid} | settings)
            assert torch.allclose(found.samples, wanted.samples, atol=1e-10, rtol=0)


def test_parallel_equals_sequential_at_given_times(denoiser):
    times = (999.0, 700.0, 650.0, 300.0, 40.5, 3.0)
    found = md.sample(denoiser, md.Picard(times=times, tolerance=1e-14), count=2, **F64).samples
    assert torch.allclose(found, md.sample(denoiser, md.Euler(times=times), count=2, **F64).samples, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_window_one_is_euler_bit_for_bit(process, mixture, dtype):
    found, wanted = pair(process, mixture, {"window": 1, "tolerance": 1e-3}, dtype=dtype)
    assert torch.equal(found.samples, wanted.samples)
    assert found.rounds == wanted.rounds
    assert found.calls == wanted.calls


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_float32_agrees_to_1e_4(process, mixture):
    found, wanted = pair(process, mixture, {"tolerance": 1e-6}, dtype=torch.float32)
    size = wanted.samples.abs().max()
    assert ((found.samples - wanted.samples).abs() < 1e-4 * size.clamp(min=1)).all()


@pytest.mark.parametrize("process", [PROCESSES[0], PROCESSES[2], PROCESSES[-2]], ids=lambda p: type(p).__name__)
def test_after_n_rounds_the_first_n_points_are_exact(process, mixture):
    model = model_of(process, mixture)
    wanted = md.sample(model, md.Euler(STEPS), process, count=2, shape=(2,), save=1, **F64).trajectory
    seen = []
    with pytest.warns(md.ConvergenceWarning, match="max_rounds: 5 rounds"):
        found = md.sample(
            model,
            md.Picard(STEPS, tolerance=1e-15, max_rounds=5),
            process,
            count=2,
            shape=(2,),
            save=1,
            callback=lambda state: seen.append(state.step),
            **F64,
        )
    assert seen[:5] == [1, 2, 3, 4, len(wanted) - 1 - process.final_calls]
    assert torch.allclose(found.trajectory[:6], wanted[:6], atol=1e-14, rtol=0)
    assert (found.trajectory[11] - wanted[11]).abs().max() > 1e-9
    assert not found.converged


def test_rounds_of_a_linear_problem_fall_super_linearly(ddpm):
    """dx = −Lx dt from x = 1: after k rounds the error is that of Σ_{j≤k} C(n, j)(−Lh)^j, below (LT)^{k+1}/(k+1)!."""
    rate, horizon, steps = 1.0, 3.0, 60
    process = md.Overdamped(horizon, beta=1e30)  # without noise
    step = horizon / steps
    start = torch.ones(1, 1, dtype=torch.float64)
    for rounds in (2, 5, 9):
        method = md.Picard(steps, tolerance=1e-15, max_rounds=rounds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", md.ConvergenceWarning)
            found = float(md.sample(lambda x: -rate * x, method, process, start=start, **F64).samples)
        partial = sum(math.comb(steps, j) * (-rate * step) ** j for j in range(rounds + 1))
        assert found == pytest.approx(partial, abs=1e-12)
        error = abs(found - (1 - rate * step) ** steps)
        assert error <= (rate * horizon) ** (rounds + 1) / math.factorial(rounds + 1)


@pytest.mark.parametrize("process", [PROCESSES[0], PROCESSES[2]], ids=["ODE", "SDE"])
def test_error_follows_the_tolerance(process, mixture):
    """A change of tolerance·σ(t) early on is carried to the end: the samples' error is of the tolerance itself."""
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        found, wanted = pair(process, mixture, {"tolerance": tolerance}, steps=40, count=20)
        error = float((found.samples - wanted.samples).square().mean().sqrt())
        print(f"  tolerance {tolerance:g}: root mean square error {error:.2g} after {found.rounds} rounds")
        assert error < tolerance


def test_one_invocation_a_round(mixture, ddpm):
    for settings in ({}, {"blocks": 3}, {"window": 5}):
        model = counting_denoiser(mixture, ddpm)
        result = md.sample(model, md.Picard(20, tolerance=1e-6, **settings), count=4, **F64)
        assert len(model.net.rows) == result.rounds == result.batches["model"] == len(result.residuals) + 1
        assert sum(model.net.rows) == result.calls["model"] * 4
        assert max(model.net.rows) == result.peak_rows


def test_settled_points_and_finished_samples_are_not_evaluated_again(mixture, ddpm):
    model = counting_denoiser(mixture, ddpm)
    result = md.sample(model, md.Picard(30, tolerance=1e-4), count=6, **F64)
    rows = model.net.rows
    assert all(a > b for a, b in itertools.pairwise(rows[:-1]))
    assert min(float(t.max()) for t in model.net.times) < 300  # the front of the grid is left behind
    alone = [md.sample(model, md.Picard(30, tolerance=1e-4), count=1, first=i, **F64) for i in range(6)]
    assert sum(sum(r.calls.values()) for r in alone) == pytest.approx(6 * result.calls["model"])
    assert max(r.rounds for r in alone) == result.rounds > min(r.rounds for r in alone)
    assert torch.allclose(torch.cat([r.samples for r in alone]), result.samples, atol=1e-10)


def test_a_batch_size_cuts_rounds_but_changes_nothing(mixture, ddpm):
    model = counting_denoiser(mixture, ddpm)
    whole = md.sample(model, md.Picard(20), count=3, **F64)
    cut = md.sample(model, md.Picard(20), count=3, batch_size=7, **F64)
    assert torch.allclose(whole.samples, cut.samples, atol=1e-12)
    assert cut.rounds == whole.rounds
    assert cut.calls == whole.calls
    assert cut.peak_rows == 7
    assert cut.batches["model"] > whole.batches["model"]


def test_conditioning_follows_the_samples(ddpm):
    model = md.Denoiser(lambda x, t, scale: torch.tanh(x) * scale[:, None], ddpm, "sample", shape=(2,))
    scale = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    found = md.sample(model, md.Picard(12, tolerance=1e-14), count=3, conditioning={"scale": scale}, **F64).samples
    wanted = md.sample(model, md.Euler(12), count=3, conditioning={"scale": scale}, **F64).samples
    assert torch.allclose(found, wanted, atol=1e-10)


def test_settings_go_to_dicts_and_back(denoiser):
    method = md.Picard(20, blocks=(500.0, 100.0), window=7, tolerance=0.01, max_rounds=4)
    assert md.method_from_dict(method.to_dict()) == method
    plan = md.Picard(20, blocks=2).plan(denoiser)
    found = md.sample(denoiser, plan, count=2).samples
    assert torch.equal(found, md.sample(denoiser, md.Picard(20, blocks=2), count=2).samples)


def test_gradients_flow_through_the_rounds(ddpm):
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    model = md.Denoiser(lambda x, t: torch.tanh(weight * x), ddpm, "sample", shape=(2,))
    slopes = []
    secant = md.Picard(8, tolerance=1e-14, accelerate="secant", window=5)
    for method in (md.Euler(8), md.Picard(8, tolerance=1e-14), secant):
        total = md.sample(model, method, count=2, grad=True, **F64).samples.sum()
        slopes.append(torch.autograd.grad(total, weight)[0])
    for slope in slopes[1:]:
        assert torch.allclose(slopes[0], slope, atol=1e-9)


def test_a_network_in_half_precision_converges_to_its_floor(ddpm):
    torch.manual_seed(0)
    model = md.Denoiser(_OneLayer(torch.bfloat16), ddpm, "epsilon", shape=(2,))
    floor = torch.finfo(torch.bfloat16).eps
    found = md.sample(model, md.Picard(20, tolerance=floor), count=2, save=1)
    wanted = md.sample(model, md.Euler(20), count=2, save=1)
    assert found.converged
    last = float(ddpm.sigma(ddpm.t_min))
    assert (found.trajectory[-2] - wanted.trajectory[-2]).abs().max() / last < 20 * floor * wanted.samples.abs().max()
    with pytest.raises(md.MultidriftError, match="tolerance: got 0.001; it takes at least 0.0078, the precision of"):
        md.sample(model, md.Picard(20, tolerance=1e-3), count=2)


class _OneLayer(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2).to(dtype)

    def forward(self, x, t):
        return self.layer(x)


@pytest.mark.parametrize("blocks", [1, 2, 5, 19])
def test_blocks_are_of_equal_length_in_log_snr(blocks, ddpm):
    process = md.Diffusion(ddpm)
    times = md.grid_times(ddpm, 200, "linspace") if blocks < 19 else md.grid_times(ddpm, 20)
    ends = block_boundaries(process, times, blocks, "linspace")
    assert len(ends) == blocks
    assert ends[-1] == len(times) - 1
    assert (np.diff(ends) > 0).all()
    if 1 < blocks < 19:
        lengths = np.diff(ddpm.log_snr(times[np.append(0, ends)]))
        assert lengths == pytest.approx(lengths.mean(), abs=0.5 * np.diff(ddpm.log_snr(times)).max() * 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 0}, "blocks: got 0; it takes a number of blocks of at least 1"),
        ({"blocks": "two"}, "blocks: got 'two'"),
        ({"blocks": ()}, r"blocks: got \(\)"),
        ({"window": 0}, "window: got 0; it takes None or an integer of at least 1"),
        ({"max_rounds": 0}, "max_rounds: got 0"),
        ({"tolerance": 0}, "tolerance: got 0; it takes a positive number"),
        ({"tolerance": -1e-3}, "tolerance: got -0.001"),
        ({"tolerance": math.inf}, "tolerance: got inf"),
        ({"coarse_every": 2}, "coarse_every: got 2; it takes 1 without coarse="),
        ({"coarse": "f1", "coarse_every": 0}, "coarse_every: got 0; it takes an integer of at least 1"),
        ({"accelerate": "newton"}, "accelerate: got 'newton'; it takes None, 'anderson' or 'secant'"),
        (
            {"accelerate": "anderson", "coarse": "f1"},
            "accelerate: got 'anderson'; it takes None or 'secant' with coarse=",
        ),
        ({"initial": "end"}, "initial: got 'end'; it takes 'start'"),
        ({"initial": 0}, "initial: got 0"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.Picard(20, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 20}, "blocks: got 20; it takes at most one a step, 19"),
        ({"blocks": tuple(np.linspace(990, 10, 20))}, "blocks: got 21 blocks; it takes at most one a step, 19"),
        ({"blocks": (1200.0,)}, "blocks: got .*; it takes times between 999 and 0"),
        ({"blocks": (100.0, 500.0)}, "blocks: got .*; it takes times in the order of the run"),
        ({"tolerance": 1e-9}, "tolerance: got 1e-09; it takes at least 1.2e-07, the precision of torch.float32"),
        ({"coarse": "f1"}, "coarse: got 'f1' with Denoiser.*; it takes an md.Ladder as the model"),
    ],
)
def test_settings_that_do_not_suit_the_run(settings, message, mixture, ddpm):
    model = counting_denoiser(mixture, ddpm)
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.sample(model, md.Picard(20, **settings))
    assert not model.net.rows


def test_values_that_are_not_finite_are_traced(ddpm):
    broken = md.Denoiser(lambda x, t: x / (t - 999.0).abs().clamp(max=1.0)[:, None], ddpm, "sample", shape=(2,))
    with pytest.raises(md.MultidriftError, match="the prediction is not finite at step 0"):
        md.sample(broken, md.Picard(20), count=2)
