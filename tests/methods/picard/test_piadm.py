"""PIADM's blocks, steps, rounds and early stopping, and runs of exactly so many rounds."""

import math
import warnings

import numpy as np
import pytest
import torch
from tests.fakes import F64, counting_denoiser

import multidrift as md
from multidrift.methods.picard.front import block_boundaries
from multidrift.schedules.grids import forward_time


def forward(schedule, times):
    return forward_time(schedule.log_snr(np.asarray(times)))


@pytest.mark.parametrize("blocks", [2, 4, 9])
def test_blocks_on_grid_piadm_are_of_equal_forward_time(ddpm, blocks):
    """Up to a step at either end, the times of the grid being what they are."""
    for schedule in (ddpm, md.schedules.cosine(), md.schedules.edm()):
        times = md.grid_times(schedule, 120, "piadm")
        ends = block_boundaries(md.Diffusion(schedule), times, blocks, "piadm")
        s = forward(schedule, times)
        lengths = -np.diff(s[np.append(0, ends)])
        assert lengths == pytest.approx((s[0] - s[-1]) / blocks, abs=-np.diff(s).min())


def test_a_run_on_grid_piadm_takes_those_blocks(mixture, ddpm):
    """Its states come at the ends of blocks: the last times that a round of each block looks at."""
    times = md.grid_times(ddpm, 60, "piadm")
    wanted = times[block_boundaries(md.Diffusion(ddpm), times, 4, "piadm")]
    states = md.steps(mixture.denoiser(ddpm), md.Picard(60, "piadm", blocks=4), count=1)
    assert sorted({state.t for state in states} - {0.0}, reverse=True) == pytest.approx(wanted[wanted > 0])


# dimension, accuracy, factors: block lengths below, at and above 1, one block alone, and ends beyond the schedule's
CASES = [
    (2, 0.5, {}),
    (2, 0.3, {"block": 0.25}),
    (8, 0.5, {"block": 2.0, "rounds": 2.0}),
    (5, 0.9, {"block": 50.0, "stop": 0.5}),
    (100, 0.8, {"step": 5.0, "horizon": 0.7}),
    (3000, 0.5, {"step": 2000.0}),
]


@pytest.mark.parametrize("ode", [False, True], ids=["SDE", "ODE"])
@pytest.mark.parametrize(("d", "delta", "factors"), CASES)
def test_the_schedule_is_that_of_the_theorem(ddpm, d, delta, factors, ode):
    """T, η, h, N, M, K and the steps of the last block, from the formulas."""
    found = md.piadm(d, delta, ddpm, ode=ode, **factors)
    picard = found.predictor if ode else found
    factor = {"horizon": 1.0, "block": 1.0, "step": 1.0, "rounds": 1.0, "stop": 1.0} | factors
    log = math.log(d / delta**2)
    most, least = forward(ddpm, [999.0, 0.0])
    start = min(factor["horizon"] * log, most)
    eta = max(factor["stop"] * delta**2 / d, least)
    number = math.ceil((start - eta) / factor["block"])
    h = (start - eta) / number
    epsilon = factor["step"] * (delta / math.sqrt(d) if ode else delta**2 / d) / log
    most_steps = math.ceil(h / epsilon - 1e-9)
    s = forward(ddpm, picard.times)
    assert s[0] == pytest.approx(start)
    assert s[-1] == pytest.approx(eta)
    ends = [0, *block_boundaries(md.Diffusion(ddpm), np.array(picard.times), picard.blocks, "piadm")]
    assert -np.diff(s[ends]) == pytest.approx([h] * number)
    assert np.diff(ends)[:-1].tolist() == [most_steps] * (number - 1)
    assert -np.diff(s[: ends[-2] + 1]) == pytest.approx([h / most_steps] * (ends[-2]), rel=1e-6)
    last, after = -np.diff(s[ends[-2] :]), s[ends[-2] + 1 :]
    bound = epsilon * np.minimum(1.0, after)
    assert (last <= bound * (1 + 1e-6)).all()
    fewest = max(h + eta - 1, 0) / epsilon + math.log(min(h + eta, 1) / eta) / math.log1p(epsilon)
    assert len(last) < fewest + 2
    assert picard.rounds == math.ceil(factor["rounds"] * math.log(d * start / delta**2))


def test_the_corrector_of_the_ode_is_that_of_the_theorem(ddpm):
    method = md.piadm(20, 0.5, ddpm, ode=True, corrector=1.5, friction=3.0)
    assert method.corrector.steps == math.ceil(1.5 * math.sqrt(20) * math.log(80) / 0.5)
    assert method.corrector.rounds == method.predictor.rounds
    assert method.dynamics == md.Underdamped(1.5, friction=3.0)
    assert md.method_from_dict(method.to_dict()) == method


@pytest.mark.parametrize("settings", [{}, {"coarse": "cheap"}, {"accelerate": "anderson"}, {"accelerate": "secant"}])
def test_rounds_are_as_many_as_are_asked_for(mixture, ddpm, settings):
    """K a block, whatever they have reached: where levels are equal nothing moves from the start. No warning."""
    top = counting_denoiser(mixture, ddpm, "top")
    ladder = md.Ladder([counting_denoiser(mixture, ddpm, "cheap"), top])
    for blocks, rounds in ((1, 3), (3, 4), (1, 20)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = md.sample(ladder, md.Picard(25, "blend", blocks=blocks, rounds=rounds, **settings), count=3)
        assert found.rounds == blocks * rounds + 1
        assert len(top.net.rows) == found.rounds
        assert found.finished
        top.net.rows.clear()
    assert md.sample(ladder, md.Picard(25, rounds=50, **settings), count=1).rounds == 24 + 1  # by then all is exact


def test_rounds_say_whether_they_met_the_tolerance(denoiser):
    assert not md.sample(denoiser, md.Picard(30, rounds=3), count=2).converged
    assert md.sample(denoiser, md.Picard(30, rounds=25), count=2).converged
    assert md.Picard(30, rounds=7).cost(denoiser).calls == {"mixture": 30 * 7}


def test_rounds_ask_for_no_precision(mixture, ddpm):
    """A tolerance below the precision of the numbers is refused, unless it decides nothing."""
    with pytest.raises(md.MultidriftError, match="tolerance: got 1e-09"):
        md.sample(mixture.denoiser(ddpm), md.Picard(10, tolerance=1e-9))
    assert md.sample(mixture.denoiser(ddpm), md.Picard(10, tolerance=1e-9, rounds=3)).finished


@pytest.mark.parametrize("ode", [False, True], ids=["SDE", "ODE"])
@pytest.mark.parametrize("holds", ["score", "data"])
def test_more_rounds_come_nearer_to_the_sequential_run(mixture, ddpm, holds, ode):
    """Down to rounding with enough of them, on the same steps."""
    process = md.Diffusion(ddpm, 0 if ode else 1, holds)
    model, errors = mixture.denoiser(ddpm), []
    for factor in (1.0, 2.0, 4.0, 20.0):
        method = md.piadm(2, 0.5, ddpm, rounds=factor)
        wanted = md.sample(model, md.Euler(times=method.times), process, count=4, **F64).samples
        errors.append(float((md.sample(model, method, process, count=4, **F64).samples - wanted).abs().max()))
    print(f"  largest differences to Euler: {errors}")
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[-1] < 1e-10


def test_a_run_as_the_theorem_sets_it(mixture, ddpm):
    """Its law is that of the data predicted from exact samples noised up to s = η, but for the bias of the steps.

    Each entry of the covariance within 5.5 standard errors and 0.02; by a union over three entries and two runs a right
    sampler fails with a probability below 3e-7.
    """
    count = 1500
    model = mixture.denoiser(ddpm)
    data = mixture.sample(200_000, seed=1).double()
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for ode in (False, True):
        method = md.piadm(2, 0.4, ddpm, ode=ode, rounds=2.0, step=4.0)
        t = (method.predictor if ode else method).times[-1]
        noised = float(ddpm.alpha(t)) * data + float(ddpm.sigma(t)) * noise
        wanted = torch.cov(model.predict(noised, t, "sample", {}).T)
        spread = (wanted.diagonal()[:, None] * wanted.diagonal() + wanted.square()).sqrt() / math.sqrt(count)
        found = torch.cov(
            md.sample(model, method, md.Diffusion(ddpm, 0 if ode else 1, "score"), count=count).samples.double().T
        )
        print(f"  {'ODE' if ode else 'SDE'}: off by {((found - wanted) / spread).flatten().tolist()} standard errors")
        assert ((found - wanted).abs() < 5.5 * spread + 0.02).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.5), "dimension: got 0; it takes an integer of at least 1"),
        ((2, 0.0), "accuracy: got 0.0; it takes a positive number"),
        ((2, 0.9), "accuracy: got 0.9; it takes a positive number of at most 0.858"),
        ((3000, 0.01), r"accuracy: got 0.01; it takes a larger one or a larger step=: this asks for .* steps"),
        ((2, 0.5, {"block": 0.0}), "block: got 0.0; it takes a positive number"),
        ((2, 0.5, {"step": math.inf}), "step: got inf"),
        ((2, 0.5, {"stop": 100.0}), "stop: got 100.0; it takes less: the run would stop at s = 12.5, before"),
        ((2, 0.5, {"block": 1e-9}), "accuracy: got 0.5; it takes a larger one"),
    ],
)
def test_what_has_no_schedule(ddpm, arguments, message):
    *numbers, factors = (*arguments, {}) if len(arguments) == 2 else arguments
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.piadm(*numbers, ddpm, **factors)


def test_bad_rounds():
    with pytest.raises(md.MultidriftError, match="^rounds: got 0; it takes None or an integer of at least 1"):
        md.Picard(20, rounds=0)
    with pytest.raises(md.MultidriftError, match="^max_rounds: got 5; it takes None with rounds="):
        md.Picard(20, rounds=5, max_rounds=5)
