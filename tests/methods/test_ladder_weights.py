"""The coefficients of LadderMultistep, beside their formulas written out and regressions on samples."""

import numpy as np
import pytest
import torch
from scipy.special import expit

import multidrift as md
from multidrift.drifts.covariance import DriftCovariance
from multidrift.methods.ladder_multistep.weights import Cell, CellWeights, closed_form, fitted

DDPM = md.schedules.ddpm()
TIMES = np.array([600.0, 480.0, 300.0])
LIKE = torch.zeros(4, 3, dtype=torch.float64)
PROCESSES = {"ODE": md.Diffusion(DDPM, 0), "SDE": md.Diffusion(DDPM, 1.0), "half": md.Diffusion(DDPM, 0.5)}
UNDERDAMPED = md.Underdamped(3.0, friction=1.5)


def mean_place(process, times, first, last):
    """Of (place − first)/(last − first) over the drift clock, by a thousand small steps: [clocks]."""
    edges = np.linspace(times[0], times[-1], 2001)
    clock = process.intervals(edges[:-2:2], edges[2::2], np.full(1000, times[-1])).dtau.reshape(1000, -1)
    return (process.place(edges[1::2]) - first) / (last - first) @ (clock / clock.sum(axis=0))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("cheap", [True, False])
@pytest.mark.parametrize("name", PROCESSES)
def test_closed_forms_are_these(name, cheap, known):
    process = PROCESSES[name]
    noisy = name != "ODE"
    before, (first, middle, last) = float(DDPM.log_snr([750.0])[0]), DDPM.log_snr(TIMES)
    trust = expit(2.0 * (first + 2.3))
    theta = mean_place(process, TIMES, first, last)[0]
    steps = process.intervals(TIMES[:-1], TIMES[1:], TIMES[[-1, -1]]).dtau
    walked = steps[1] / steps.sum() * (middle - first) / (last - first)
    # What is without noise linear in σ²/α² = e^{−2λ} goes on as it went over the cell before.
    onwards = (np.exp(-2 * first) - np.exp(-2 * last)) / (np.exp(-2 * before) - np.exp(-2 * first))
    slope = (last - first) / (first - before) * (0.25 if cheap else 1.0)
    found = closed_form(Cell(process, TIMES, before), LIKE, cheap=cheap, known=known)
    wanted = {
        "past": 0.0 if noisy else slope * theta,
        "cheap": trust,
        "top": theta if known else 1.0,
        "before": 0.0,
        "defect": 0.7 * trust if cheap else 0.0,
        "change": -0.7 * trust * walked if cheap else 0.0,
        "last": 1.0 if cheap and noisy else 0.0,
        "last_past": 0.0 if noisy else onwards,
    }
    assert vars(found) == pytest.approx(wanted, rel=2e-3)


def test_without_a_cell_before_nothing_is_carried_on():
    for before in (None, -np.inf):
        found = closed_form(Cell(PROCESSES["ODE"], TIMES, before), LIKE, cheap=False, known=True)
        assert found.past == found.last_past == 0.0


def test_where_the_run_starts_at_no_signal_the_end_alone_counts():
    process = md.Diffusion(md.schedules.flow(), 0)
    found = closed_form(Cell(process, np.array([1.0, 0.8, 0.6]), None), LIKE, cheap=True, known=True)
    assert vars(found) == {**dict.fromkeys(vars(found), 0.0), "top": 1.0}


def test_position_and_velocity_have_weights_of_their_own():
    """θ of a clock is the mean of time over it; Langevin dynamics trusts the cheap level, as no signal grows."""
    times = np.array([0.5, 0.8, 1.4])
    cell = Cell(UNDERDAMPED, times, 0.2)
    for shares in (cell.shares(), cell.quadrature()[1]):
        assert shares.shape[1] == 2
        assert shares.sum(axis=0) == pytest.approx([1.0, 1.0])
    found = closed_form(cell, torch.zeros(4, 3, 2, dtype=torch.float64), cheap=True, known=True)
    theta = mean_place(UNDERDAMPED, times, 0.5, 1.4)
    assert theta[0] != pytest.approx(theta[1])
    assert found.top.numpy() == pytest.approx(theta, rel=2e-3)
    assert found.change.numpy() == pytest.approx(-0.7 * cell.shares()[1] * 0.3 / 0.9)
    assert (found.cheap, found.last, found.last_past) == (1.0, 1.0, 0.0)
    assert float(found.past.abs().max()) == 0.0


@pytest.mark.parametrize("name", list(vars(CellWeights())))
def test_a_weight_that_is_no_number_is_named(name):
    with pytest.raises(md.MultidriftError, match=f"^{name}: got 'a'"):
        CellWeights(**{name: "a"})


LEVELS, PLACES, SHRINK = ("f1", "f2", "f3"), np.linspace(-3.0, 3.0, 13), 1e-3


@pytest.fixture(scope="module")
def drawn():
    """Values of each level at each place, [samples, places]: smooth in the place, the levels related to one another."""
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((200, 4)) @ np.stack([PLACES**n / 3.0**n for n in range(4)])
    return {name: (0.5 + 0.2 * k) * smooth + 0.3 * rng.standard_normal(smooth.shape) for k, name in enumerate(LEVELS)}


@pytest.fixture(scope="module")
def covariance(drawn):
    values = np.concatenate([drawn[name] for name in LEVELS], axis=1)
    return DriftCovariance(LEVELS, dict.fromkeys(LEVELS, "x"), {}, tuple(PLACES), values.T @ values / len(values), 2)


def regression(target, known, start):
    """Least squares on the samples, each coefficient held to its start by a thousandth of its own square."""
    x, b = np.stack(list(known.values()), axis=1), np.array([getattr(start, name) for name in known])
    gram = x.T @ x
    found = b + np.linalg.solve(gram + SHRINK * np.diag(np.diag(gram)), x.T @ (target - x @ b))
    return dict(zip(known, found, strict=True))


@pytest.mark.parametrize("times", [TIMES, TIMES[[0, 2]]], ids=["walked", "at once"])
@pytest.mark.parametrize("cheap", ["f1", ""])
@pytest.mark.parametrize("then", ["f3", ""])
def test_fitted_weights_are_regressions_on_what_each_stage_knows(drawn, covariance, times, cheap, then):
    process, before = PROCESSES["SDE"], -2.5
    cell = Cell(process, times, before)
    places, passed = cell.quadrature()
    first, last = cell.ends

    def at(name, place):
        return np.array([np.interp(place, PLACES, row) for row in drawn[name]])

    a, b = at("f2", first), at("f3", last)
    mean = at("f3", places) @ passed[:, 0]
    gone = a - at(then, before) if then else None
    past, corrected, at_the_end = ({} if gone is None else {name: gone} for name in ("past", "before", "last_past"))
    change = {"last": at(cheap, last) - at(cheap, first)} if cheap else {}
    defect = {}
    if cheap and len(times) > 2:
        defect = {"cheap": at(cheap, process.place(times[:-1])) @ cell.shares()[:, 0] - at(cheap, first)}
    start = CellWeights(past=0.1, cheap=0.9, top=0.4, before=0.2, defect=0.3, change=-0.2, last=0.8, last_past=0.05)
    corrected |= {"top": b - a}
    if defect:
        corrected |= {"defect": defect["cheap"], "change": change["last"]}
    wanted = vars(start) | {"change": 0.0, "defect": 0.0}
    for target, known in (
        (mean, defect | past),
        (mean, corrected),
        (b, change | at_the_end),
    ):
        wanted |= regression(target - a, known, start) if known else {}
    assert vars(fitted(cell, covariance, start, ("f2", then, cheap))) == pytest.approx(wanted, rel=1e-6)


def test_a_first_cell_has_no_past_to_fit(covariance):
    start = CellWeights(past=0.1, last_past=0.05)
    found = fitted(Cell(PROCESSES["SDE"], TIMES, None), covariance, start, ("f2", "f3", "f1"))
    assert (found.past, found.before, found.last_past) == (0.1, 0.0, 0.05)
