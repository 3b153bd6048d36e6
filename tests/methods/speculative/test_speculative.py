"""Speculative sampling: Euler where everything is accepted, samples that depend on themselves, counts, bad input."""

import functools
import math
import warnings

import numpy as np
import pytest
import torch
from tests.fakes import F64, counting_denoiser
from tests.methods.speculative.targets import ladder_for

import multidrift as md
from multidrift.drifts.costs import Costs
from multidrift.methods.speculative.forecast import expected_rounds
from multidrift.methods.speculative.pilot import Pilot

DDPM = md.schedules.ddpm()
SDE = md.Diffusion(DDPM)
PROCESSES = [
    *(md.Diffusion(DDPM, eta) for eta in (0.5, 1.0, 2.0)),
    *(md.Diffusion(DDPM, 1.0, holds) for holds in ("noise", "score", "ddpm")),
    *(md.Diffusion(s) for s in (md.schedules.cosine(), md.schedules.edm(), md.schedules.ve(), md.schedules.flow())),
    md.Diffusion(DDPM, noise_scale=lambda t: 0.5 + t / 2000),
    md.Diffusion(DDPM, noise_scale=lambda t: float(t > 500)),  # half of the steps have no noise at all
    md.Overdamped(2.0, beta=2.0),
    md.Overdamped(2.0, preconditioner=(0.5, 2.0)),
    md.Underdamped(2.0, friction=2.0),
    md.Underdamped(2.0, friction=2.0, preconditioner=(0.5, 2.0)),
]


def twice(process, mixture, names=("a", "b")):
    """A ladder whose levels are all the same."""
    if process.model_schedule is None:
        return md.Ladder([md.LangevinDrift(mixture.score, name) for name in names])
    return md.Ladder([mixture.denoiser(process.model_schedule, name) for name in names])


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_a_drafter_as_good_as_the_top_level_gives_euler_bit_for_bit(process, mixture):
    arguments = {"process": process, "shape": (2,), "count": 3, "save": 1} | F64
    same = twice(process, mixture, ("a", "b", "c"))
    wanted = md.sample(same, md.Euler(14), **arguments)
    for settings in (
        {"drafter": "a", "window": 20},
        {"drafter": "a+held", "window": 5},
        {"drafter": ("a+held", "b+held"), "window": 4},
        {"drafter": "b+extrapolated", "window": (2, 6)},
        {"drafter": "a+held", "window": 6, "verification": "block"},
        {"drafter": "frozen", "window": 1},
    ):
        found = md.sample(same, md.Speculative(14, **settings), **arguments)
        exact = settings["drafter"] != "frozen"
        assert not exact or found.speculation.accepted.all()
        assert not exact or torch.equal(found.samples, wanted.samples), settings
        assert not exact or torch.equal(found.trajectory, wanted.trajectory)
        assert found.finished


def test_rounds_and_calls_are_counted_where_networks_are_called(mixture):
    low, top = (counting_denoiser(mixture, DDPM, name) for name in ("low", "top"))
    steps, window = 22, 5
    result = md.sample(md.Ladder([low, top]), md.Speculative(steps, window=window, drafter="low"), count=4)
    rounds = math.ceil((steps - 1) / window)
    assert top.net.rows == [4 * window] * (rounds - 1) + [4 * (steps - 1 - window * (rounds - 1)), 4]
    assert low.net.rows == [4] * (steps - 1)
    assert result.rounds == rounds + 1
    assert result.speculation.rounds.tolist() == [rounds] * 4
    assert result.calls == {"low": steps - 1, "top": steps}


def test_a_sample_depends_on_its_seed_and_number_alone():
    ladder = ladder_for(SDE)
    for settings in ({"drafter": "low+held", "window": 6}, {"drafter": ("frozen", "middle"), "window": (2, 8)}):
        method = md.Speculative(16, **settings)
        together = md.sample(ladder, method, count=6, seed=3, **F64)
        apart = [md.sample(ladder, method, count=2, first=first, seed=3, **F64) for first in (0, 2, 4)]
        assert torch.allclose(torch.cat([part.samples for part in apart]), together.samples, atol=1e-10, rtol=0)
        rounds = np.concatenate([part.speculation.rounds for part in apart])
        assert rounds.tolist() == together.speculation.rounds.tolist()
        assert len(set(rounds.tolist())) > 1  # samples go their own way, and finished ones leave the batch
        parts = md.sample(ladder, method, count=6, seed=3, batch_size=4, **F64)
        assert torch.allclose(parts.samples, together.samples, atol=1e-10, rtol=0)


def test_finished_samples_leave_the_batch():
    ladder, rows = ladder_for(SDE), []
    state = None
    for state in md.steps(ladder, md.Speculative(16, window=6, drafter="low"), count=8):
        rows.append(state.calls["top"])
    assert state.step == state.total
    per_round = np.diff([0.0, *rows])
    assert per_round[-2] < per_round[0]  # the one before the final call
    found = md.sample(ladder, md.Speculative(16, window=6, drafter="low"), count=8)
    assert found.calls["top"] < 6 * (found.rounds - 1)


def test_the_trajectory_is_that_of_settled_states():
    ladder = ladder_for(SDE)
    method = md.Speculative(12, window=4, drafter="low+held")
    every = md.sample(ladder, method, count=3, save=1, **F64)
    assert len(every.trajectory) == 13
    assert every.trajectory_times[:-1] == tuple(md.grid_times(DDPM, 12).tolist())
    third = md.sample(ladder, method, count=3, save=3, **F64)
    assert torch.equal(third.trajectory[:4], every.trajectory[:12:3])
    assert torch.equal(every.trajectory[-1], every.samples)


def test_a_run_can_be_stopped():
    result = md.sample(
        ladder_for(SDE), md.Speculative(30, window=4, drafter="low"), count=3, callback=lambda state: state.step > 9
    )
    assert not result.finished
    assert 0 < result.speculation.done.sum() < 29 * 3
    assert 0.0 < result.speculation.acceptance <= 1.0


def test_adaptive_windows_waste_fewer_calls():
    ladder = ladder_for(SDE)
    wide = md.sample(ladder, md.Speculative(60, window=30, drafter="low"), count=20)
    adapted = md.sample(ladder, md.Speculative(60, window=(1, 30), drafter="low"), count=20)
    assert adapted.calls["top"] < 0.9 * wide.calls["top"]
    assert adapted.speculation.rounds.mean() < 1.4 * wide.speculation.rounds.mean()


FORECAST = [
    *({"drafter": name} for name in ("frozen", "low", "low+held", "low+extrapolated", "gaussian", "gaussian+held")),
    {"drafter": ("low+held", "middle+held")},
    {"drafter": ("frozen", "middle")},
    {"drafter": md.Multilevel(60, levels=("low", "middle"), calls=(60, 20))},
    {"drafter": "top", "every": 3},
    {"drafter": "low+held", "every": 3},
    {"drafter": "low+held", "window": 4},
    {"drafter": "low+held", "window": (2, 20)},
    *({"drafter": name, "verification": "block"} for name in ("frozen", "low", "gaussian+held")),
]


@functools.lru_cache
def piloted():
    """A ladder, the grid of 60 steps, and drifts of all levels along 32 paths of 30."""
    ladder = ladder_for(SDE)
    levels = dict(ladder.with_gaussian())
    times = md.Euler(60).grid_for(SDE)
    return ladder, times, Pilot.of(SDE, levels, ladder["top"].shape, times[::2], 32, seed=5)


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
@pytest.mark.parametrize("settings", FORECAST, ids=lambda settings: str(settings)[:60])
def test_the_forecast_of_rounds_is_within_15_percent(settings):
    ladder, times, pilot = piloted()
    method = md.Speculative(60, **{"window": 10} | settings)
    expected = method.forecast_from(ladder, pilot.of_levels(*method.levels_of(ladder)), times)
    measured = md.sample(ladder, method, count=60).speculation.rounds.mean()
    assert abs(expected.rounds - measured) < 0.15 * measured
    assert expected.method == "Speculative"


def test_forecast_rounds_are_those_of_the_recursion_over_where_a_draft_ends():
    """E_n = 1 + Σ_j P(a draft from n ends j + 1 steps on) E_{n+j+1}, to 5 standard errors of 200 draws (1 in 10⁵)."""
    steps, window, sizes = 40, 8, np.array([[0.3], [0.9]])
    for row in sizes:
        accepted = math.erfc(row[0] / math.sqrt(8.0))
        known = [0.0] * (steps + window)
        for n in range(steps - 1, -1, -1):
            length = min(window, steps - n)
            ends = [accepted**j * (1.0 - accepted) for j in range(length - 1)]
            ends.append(accepted ** (length - 1))
            known[n] = 1.0 + sum(p * known[n + j + 1] for j, p in enumerate(ends))
        squares = lambda _, ahead, size=row: np.tile(size**2, (len(ahead), 2))  # noqa: E731  # two samples alike
        found = expected_rounds(squares, np.ones(steps), window).mean()
        blind = expected_rounds(squares, np.ones(steps), window, blind=True).mean()
        error = math.sqrt(known[0] / 200)
        assert abs(found - known[0]) < 5 * error
        assert abs(blind - (1.0 + known[1])) < 5 * error


def test_a_forecast_draws_its_own_pilot():
    ladder, times, _ = piloted()
    method = md.Speculative(60, window=10, drafter="low+held")
    levels = method.levels_of(ladder)
    pilot = Pilot.of(SDE, levels, ladder["top"].shape, times[[0, 15, 30, 44, 59]], 2, seed=3)
    assert method.forecast(ladder, pilot=4, count=2, seed=3) == method.forecast_from(ladder, pilot, times)


def test_the_critical_path_of_a_draft_counts_what_comes_one_after_another():
    """Frozen: nothing; a level: its calls; a chain: rounds of its own and what it drafts in each."""
    ladder, times, pilot = piloted()
    ladder.costs = Costs({"low": 0.1, "middle": 0.3, "top": 1.0}, 1, "here")
    for settings, cost in (({"drafter": "frozen"}, 0.0), ({"drafter": "low", "every": 3}, 0.4)):
        method = md.Speculative(60, window=10, **settings)
        found = method.forecast_from(ladder, pilot.of_levels(*method.levels_of(ladder)), times)
        assert found.critical_path == pytest.approx(found.rounds * (1.0 + cost) / 60)
    method = md.Speculative(60, window=10, drafter=("low+held", "middle+held"))
    found = method.forecast_from(ladder, pilot.of_levels(*method.levels_of(ladder)), times)
    path = md.critical_path(md.sample(ladder, method, count=1), ladder, 60)
    assert abs(found.critical_path - path) < 0.25 * path


@pytest.mark.parametrize("process", [md.Overdamped(2.0, preconditioner=(0.5,) * 10), md.Underdamped(4.0, friction=2.0)])
def test_rounds_are_forecast_for_langevin_dynamics_too(process):
    ladder = ladder_for(process)
    for drafter in ("frozen", "low", "low+held"):
        method = md.Speculative(50, window=10, drafter=drafter)
        expected = method.forecast(ladder, process, pilot=40, count=16, seed=5)
        measured = md.sample(ladder, method, process, count=40).speculation.rounds.mean()
        assert abs(expected.rounds - measured) < 0.15 * measured


def test_forecasts_cover_drafters_beside_coarse_levels():
    ladder = ladder_for(SDE)
    ladder.costs = Costs({"low": 0.1, "middle": 0.3, "top": 1.0}, 1, "here")
    choices = md.forecasts(ladder, 100)
    assert [c.critical_path for c in choices] == sorted(c.critical_path for c in choices)
    ours = {c.coarse[0]: c for c in choices if c.method == "Speculative"}
    assert set(ours) == {"frozen", "gaussian+held", "low+held", "middle+held"}
    assert ours["frozen"].critical_path == ours["frozen"].rounds / 100
    low = ours["low+held"]
    assert low.critical_path == pytest.approx(low.rounds * (1 + 20 * 0.1) / 100)
    method = md.Speculative(100, drafter="low+held")
    assert method.cost(ladder).calls == {"low": low.rounds * 20, "top": low.rounds * 20 + 1}
    result = md.sample(ladder, method, count=2)
    path = md.critical_path(result, ladder, 100)
    assert path == pytest.approx((result.batches["top"] + 0.1 * result.batches["low"]) / 100)


def test_a_method_goes_to_a_dict_and_back():
    multilevel = md.Multilevel(20, levels=("low", "middle"), calls=(20, 5))
    for drafter in ("low+held", ("frozen", "middle"), multilevel):
        method = md.Speculative(20, window=(2, 9), drafter=drafter)
        assert md.method_from_dict(method.to_dict()) == method


def nan_after(level, when, only=None):
    """A level whose output turns NaN from its `when`-th call on, in one sample's rows where `only` says so."""

    def net(x, t):
        net.calls += 1
        out = level.net(x, t)
        return out * float("nan") if net.calls >= when else out

    net.calls = 0
    return md.Denoiser(net, level.schedule, level.predicts, name=level.name, shape=level.shape)


@pytest.mark.parametrize(("bad", "when", "step"), [("low", 3, 2), ("top", 2, 4)])
def test_what_is_not_finite_is_named_with_its_step_and_sample(bad, when, step):
    ladder = ladder_for(SDE)
    same = {name: ladder["top"].renamed(name) for name in ("low", "top")}
    levels = [nan_after(level, when) if name == bad else level for name, level in same.items()]
    with pytest.raises(
        md.MultidriftError, match=rf"{bad}: the prediction is not finite at step {step} .* for sample 7"
    ):
        md.sample(md.Ladder(levels), md.Speculative(12, window=4, drafter="low"), first=7, count=2)


BAD = [
    ({"window": 0}, "window: got 0"),
    ({"window": (5, 2)}, r"window: got \(5, 2\)"),
    ({"window": (0, 4)}, "window"),
    ({"window": (1, 2, 3)}, "window"),
    ({"window": 2.5}, "window"),
    ({"every": 0}, "every: got 0"),
    ({"drafter": md.Multilevel(12, levels=("low",), calls=(9,))}, "drafter.*takes a Multilevel of 20 steps"),
    ({"drafter": md.Multilevel(20, levels=("low",), calls=(9,), shared=False)}, "drafter.*shared draws"),
]


@pytest.mark.parametrize(("settings", "message"), BAD, ids=lambda v: str(v)[:40])
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(md.MultidriftError, match=message):
        md.Speculative(20, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drafter": "top"}, "drafter: got 'top'; it takes a level below top, or top with every= at least 2"),
        ({"drafter": "top+held", "every": 3}, "no difference to itself"),
        ({"drafter": "f9"}, "drafter: got .*f9.*levels below the top one: gaussian, low, middle"),
        ({"drafter": ()}, "drafter"),
        ({"drafter": ("low", "frozen")}, "'frozen' as the first"),
        ({"drafter": ("middle", "low")}, "cheapest first"),
        ({"drafter": md.Multilevel(20, calls=(20, 9, 5))}, "levels below the top one"),
    ],
    ids=str,
)
def test_drafters_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(md.MultidriftError, match=message):
        md.sample(ladder_for(SDE), md.Speculative(20, **settings))


def test_a_process_without_noise_is_refused_with_the_reason(mixture):
    for process in (md.Diffusion(DDPM, 0.0), md.Diffusion(DDPM, noise_scale=0.0)):
        with pytest.raises(md.MultidriftError, match=r"process: .* it takes noise \(eta > 0.*md.Picard is the method"):
            md.sample(mixture.denoiser(DDPM), md.Speculative(20), process)


def test_it_has_no_gradient(mixture):
    with pytest.raises(md.MultidriftError, match="grad: got True; it takes False: what is accepted jumps"):
        md.sample(mixture.denoiser(DDPM), md.Speculative(9), grad=True)


def test_a_single_network_drafts_frozen_alone(mixture):
    model = mixture.denoiser(DDPM)
    assert md.sample(model, md.Speculative(20, window=5), count=2).finished
    with pytest.raises(md.MultidriftError, match="drafter: got 'f1'.*takes an md.Ladder"):
        md.sample(model, md.Speculative(20, drafter="f1"))


def test_forecasts_of_what_cannot_be_forecast_are_refused():
    ladder = ladder_for(SDE)
    with pytest.raises(md.MultidriftError, match="pilot: got 3"):
        md.Speculative(20).forecast(ladder, pilot=3)
    with pytest.raises(md.MultidriftError, match="steps: got 4; it takes at least 5 to forecast rounds"):
        md.Speculative(4).forecast(ladder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert md.Speculative(20).forecast(ladder, pilot=100, count=1).rounds >= 1
