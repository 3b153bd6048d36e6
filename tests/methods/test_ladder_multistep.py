"""LadderMultistep: its identities, order, calls, coefficients, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from tests.fakes import F64, Counting

import multidrift as md
from multidrift.methods.ladder_multistep.nodes import cell_nodes

SCHEDULES = {
    "vp": md.schedules.vp(),
    "ve": md.schedules.ve(),
    "edm": md.schedules.edm(),
    "flow": md.schedules.flow(),
    "ddpm": md.schedules.ddpm(),
}
HELD = md.CellWeights(cheap=1.0)  # D held from node to node, nothing corrected


def other():
    """A mixture near that of the fixture: what a smaller network would have learnt."""
    return md.GaussianMixture(
        weights=[0.45, 0.55],
        means=[[0.5, 0.1], [-0.45, 0.25]],
        covariances=[[[0.35, 0.05], [0.05, 0.40]], [[0.45, 0.00], [0.00, 0.25]]],
    )


def ladder_of(mixture, schedule):
    costs = md.Ladder([mixture.denoiser(schedule, "a")]).measured(batch=1, repeats=1).costs
    seconds = type(costs)({"a": 0.05, "b": 1.0}, 64, "by hand")
    return md.Ladder([other().denoiser(schedule, "a"), mixture.denoiser(schedule, "b")], costs=seconds)


@pytest.fixture(scope="module")
def ladder(mixture, ddpm):
    return ladder_of(mixture, ddpm)


@pytest.fixture(scope="module")
def references(mixture, ddpm):
    """Fine paths of 64 samples, by η."""
    fine = {0.0: md.Multistep(400, "logsnr", order=3), 1.0: md.Euler(1500, "logsnr")}
    return {
        eta: md.sample(mixture.denoiser(ddpm), method, md.Diffusion(ddpm, eta), count=64, **F64).samples
        for eta, method in fine.items()
    }


@pytest.mark.parametrize("levels", [("b",), ("a", "b")])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_nothing_corrected_at_every_step_is_euler_bit_for_bit(ladder, ddpm, levels, eta):
    process = md.Diffusion(ddpm, eta)
    method = md.LadderMultistep(12, "logsnr", levels=levels, substeps=1, weights=HELD)
    times = method.for_model(ladder).grid_for(process)
    ours, euler = (
        md.sample(ladder, run, process, count=3, save=1, **F64) for run in (method, md.Euler(times=times.tolist()))
    )
    assert torch.equal(ours.trajectory[:-1], euler.trajectory[:-1])


def test_equal_levels_walked_and_taken_over_are_euler_on_the_fine_grid():
    """c = 1, the whole of M and no slope: the cell is what the cheap level walked, here the top level itself."""
    ladder = md.Ladder([lambda x: -x + 0.1 * torch.sin(x), lambda x: -x + 0.1 * torch.sin(x)], names=("a", "b"))
    process = md.Overdamped(horizon=2.0)
    weights = md.CellWeights(cheap=1.0, defect=1.0)
    method = md.LadderMultistep(9, levels=("a", "b"), substeps=4, weights=weights)
    ours = md.sample(ladder, method, process, count=4, shape=(2,), **F64).samples
    fine = md.sample(ladder, md.Euler(32), process, count=4, shape=(2,), **F64).samples
    assert torch.allclose(ours, fine, atol=1e-12)


@pytest.mark.parametrize(("eta", "least"), [(0.0, 1.9), (1.0, 0.9)])
@pytest.mark.parametrize("levels", [("b",), ("a", "b")])
def test_strong_order(ladder, mixture, ddpm, references, levels, eta, least):
    """By regression against a fine path of the same noise, ten times nearer than any of them."""
    process, model, reference = md.Diffusion(ddpm, eta), mixture.denoiser(ddpm), references[eta]
    numbers, errors = (12, 24, 48) if eta else (32, 64, 128), []
    for steps in numbers:
        method = md.LadderMultistep(steps, "logsnr", levels=levels)
        found = md.sample(ladder, method, process, count=64, **F64).samples
        errors.append(float((found - reference).square().mean().sqrt()))
    assert -np.polyfit(np.log(numbers), np.log(errors), 1)[0] > least
    plain = md.sample(model, md.Multistep(numbers[-1], "logsnr"), process, count=64, **F64).samples
    room = 1.0 if eta and len(levels) == 2 else 1.1  # a cheap level tells of the noise what Multistep cannot know
    assert errors[-1] < room * float((plain - reference).square().mean().sqrt())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_it_converges_to_eulers_sample_on_every_schedule(mixture, name, eta):
    """At its own nodes and at many of a named grid: nearer with more, and near at last."""
    schedule = SCHEDULES[name]
    ladder, process = ladder_of(mixture, schedule), md.Diffusion(schedule, eta)
    grid = "logsnr"
    reference = md.sample(mixture.denoiser(schedule), md.Euler(500, grid), process, count=16, **F64).samples
    few, more, many = (
        float((md.sample(ladder, method, process, count=16, **F64).samples - reference).square().mean().sqrt())
        for method in (
            md.LadderMultistep(5),
            md.LadderMultistep(20),
            md.LadderMultistep(120, grid),
        )
    )
    assert more < few
    assert many < 0.03


@pytest.mark.parametrize("process", [md.Overdamped(horizon=4.0), md.Underdamped(horizon=4.0, friction=2.0)])
def test_langevin_dynamics_come_nearer_than_euler_at_equal_calls(process):
    """Against 1024 steps on the same noise: the corrected cell has the error of the trapezium, not of a held drift."""
    ladder = md.Ladder([lambda x: -0.9 * x, lambda x: -x - 0.2 * x**3], names=("a", "b"))
    reference = md.sample(ladder, md.Euler(1024), process, count=64, shape=(2,), **F64).samples
    ours = md.sample(ladder, md.LadderMultistep(32, levels=("a", "b")), process, count=64, shape=(2,), **F64)
    euler = md.sample(ladder, md.Euler(32), process, count=64, shape=(2,), **F64)
    assert ours.calls["b"] == euler.calls["b"] == 32
    found, plain = (float((r.samples - reference).square().mean().sqrt()) for r in (ours, euler))
    assert found < 0.5 * plain


@pytest.mark.parametrize("reevaluate", [True, False])
@pytest.mark.parametrize("substeps", [1, 3, None])
@pytest.mark.parametrize("levels", [("b",), ("a", "b"), ("gaussian", "b"), None])
def test_calls_are_those_said_before(mixture, ddpm, levels, substeps, reevaluate):
    plain = ladder_of(mixture, ddpm)
    samples = mixture.sample(500, seed=1)
    ladder = md.Ladder(list(plain), costs=plain.costs, gaussian=md.GaussianDenoiser.fit(samples, ddpm))
    method = md.LadderMultistep(6, levels=levels, substeps=substeps, reevaluate=reevaluate)
    result = md.sample(ladder, method, count=2)
    assert dict(result.calls) == method.expected_calls(ladder) == dict(method.plan(ladder).calls)
    assert result.calls["b"] == 6
    assert result.batches == result.calls


@pytest.mark.parametrize("substeps", [1, 4])
def test_calls_are_those_said_before_without_a_gaussian(ladder, substeps):
    """The run begins with a call of both levels, the cheap one's counted like any other."""
    method = md.LadderMultistep(6, levels=("a", "b"), substeps=substeps)
    result = md.sample(ladder, method, count=2)
    assert dict(result.calls) == method.expected_calls(ladder) == dict(method.plan(ladder).calls)


def test_no_network_is_called_twice_at_one_state(mixture, ddpm):
    exact, rough = mixture.denoiser(ddpm), other().denoiser(ddpm)
    seen = {name: Counting(lambda x, t, d=d: d.net(x, t)) for name, d in {"a": rough, "b": exact}.items()}
    ladder = md.Ladder([md.Denoiser(net, ddpm, "sample", name=name, shape=(2,)) for name, net in seen.items()])
    md.sample(ladder, md.LadderMultistep(5, levels=("a", "b")), count=2)
    times = [float(t[0]) for t in seen["b"].times]
    assert times == sorted(times, reverse=True)
    assert len(times) == len(set(times)) == 5
    counts = [[float(t[0]) for t in seen["a"].times].count(t) for t in times]
    assert counts == [1, 2, 2, 2, 2]  # at a node once where the top was called, once where the state was corrected


def test_a_plan_is_replayed(ladder, ddpm, tmp_path):
    process = md.Diffusion(ddpm, 1.0)
    method = md.LadderMultistep(6).fitted(ladder, process, paths=3, steps=16)
    plan = method.plan(ladder, process)
    plan.save(tmp_path / "plan.json")
    ours = md.sample(ladder, method, process, count=3).samples
    again = md.sample(ladder, md.Plan.load(tmp_path / "plan.json"), process, count=3).samples
    assert torch.allclose(ours, again, atol=1e-5)  # products are kept to eight digits


def test_a_sample_depends_on_its_number_alone(ladder):
    method = md.LadderMultistep(6)
    three = md.sample(ladder, method, count=3, seed=4, **F64).samples
    last = md.sample(ladder, method, count=1, seed=4, first=2, **F64).samples
    assert torch.allclose(three[2:], last, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_fitted_coefficients_beat_the_closed_forms_on_other_noise(ladder, mixture, ddpm, eta):
    """Fitted on 16 paths of one seed, measured on 256 samples of another."""
    process = md.Diffusion(ddpm, eta)
    fine = md.Euler(1500, "logsnr") if eta else md.Multistep(400, "logsnr", order=3)
    reference = md.sample(mixture.denoiser(ddpm), fine, process, count=256, seed=9).samples
    plain = md.LadderMultistep(16)
    found = [
        float((md.sample(ladder, method, process, count=256, seed=9).samples - reference).square().mean())
        for method in (plain, plain.fitted(ladder, process, paths=16, seed=3))
    ]
    assert found[1] < found[0]


def test_a_fit_is_the_regression_of_the_mean_over_a_cell():
    """On drifts that are straight lines in λ the mean is exact: top = θ, and nothing else is needed."""
    places = np.linspace(-2.0, 2.0, 41)
    rng = np.random.default_rng(0)
    lines = rng.normal(size=(50, 2))
    top = lines[:, :1] + lines[:, 1:] * places
    values = np.concatenate([rng.normal(size=top.shape), top], axis=1)
    covariance = md.DriftCovariance(
        ("a", "b"), {"a": "", "b": ""}, {}, tuple(places.tolist()), values.T @ values / 50, 50
    )
    weights = np.exp(2.0 * places[10:21])
    mean = covariance.mean("b", places[10:21], weights / weights.sum())
    first, last = covariance.value("b", places[10]), covariance.value("b", places[20])
    (theta,) = covariance.regress(mean - first, [last - first], [0.5], 0.0)
    exact = float((weights / weights.sum()) @ (places[10:21] - places[10])) / (places[20] - places[10])
    assert theta == pytest.approx(exact, abs=1e-9)


def test_a_covariance_is_kept_and_read_back(ladder, ddpm):
    process = md.Diffusion(ddpm, 0.0)
    covariance = md.LadderMultistep(6).fitted(ladder, process, paths=2, steps=12).covariance
    read = md.DriftCovariance.from_dict(json.loads(json.dumps(covariance.to_dict())))
    assert np.allclose(read.products, covariance.products, rtol=1e-7, atol=1e-12)
    kept = ladder.with_covariance(covariance)
    assert kept.covariance_for(process, dict(zip(ladder.names, ladder, strict=True))) is covariance
    assert kept.covariance_for(md.Diffusion(ddpm, 1.0), dict(zip(ladder.names, ladder, strict=True))) is None
    ours = md.sample(kept, md.LadderMultistep(6), process, count=2).samples
    explicit = md.sample(ladder, md.LadderMultistep(6, covariance=covariance), process, count=2).samples
    assert torch.equal(ours, explicit)
    assert not torch.equal(ours, md.sample(ladder, md.LadderMultistep(6), process, count=2).samples)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("inner", [1, 2, 7, 40])
def test_nodes_lie_inside_any_schedule(name, eta, inner):
    schedule = SCHEDULES[name]
    nodes = cell_nodes(md.Diffusion(schedule, eta), inner)
    assert len(nodes) == inner + 2
    assert np.all(np.diff(nodes) < 0)
    assert (nodes[0], nodes[-1]) == (schedule.t_max, schedule.t_min)


def test_nodes_are_at_the_same_noise_levels_on_every_schedule():
    vp = md.schedules.vp()
    wide = md.schedules.edm()
    first, second = (s.log_snr(cell_nodes(md.Diffusion(s, 1.0), 7)[1:-1]) for s in (vp, wide))
    assert np.allclose(first, second, atol=1e-6)


def bad(ladder, process):
    fit = md.LadderMultistep(6).fitted(ladder, process, paths=2, steps=12).covariance
    elsewhere = md.Diffusion(process.schedule, 0.5)
    clipped = md.Denoiser(ladder["a"].net, process.schedule, "sample", clip=3.0, name="a", shape=(2,))
    another = md.Ladder([clipped, ladder["b"]])
    return {
        "levels: .*different levels, cheapest first": lambda: md.sample(
            ladder, md.LadderMultistep(6, levels=("b", "b"))
        ),
        "levels: .*out of a, b": lambda: md.sample(ladder, md.LadderMultistep(6, levels=("b", "a"))),
        "levels: .*levels out of a, b": lambda: md.sample(ladder, md.LadderMultistep(6, levels=("f2", "b"))),
        "steps: got 2; it takes at least 3": lambda: md.LadderMultistep(2),
        "substeps: got 0": lambda: md.LadderMultistep(6, substeps=0),
        "levels: .*a cheap level and the top one, or of one": lambda: md.LadderMultistep(6, levels=("a", "b", "c")),
        "covariance: .*eta = 1.0, not 0.5": lambda: md.sample(ladder, md.LadderMultistep(6, covariance=fit), elsewhere),
        "covariance: .*another level a": lambda: md.sample(
            another, md.LadderMultistep(6, levels=("a", "b"), covariance=fit), process
        ),
        "paths: got 1; it takes an integer of at least 2": lambda: md.LadderMultistep(6).fitted(ladder, paths=1),
        "levels: got None; .*ladder.measured": lambda: md.sample(md.Ladder(list(ladder)), md.LadderMultistep(6)),
        "start: got 'gaussian'": lambda: md.sample(ladder, md.LadderMultistep(6, start="gaussian")),
        "covariance: 'ladder' is missing": lambda: md.DriftCovariance.from_dict({"levels": ["a"]}),
    }


def test_wrong_calls_are_refused(ladder, ddpm):
    for message, call in bad(ladder, md.Diffusion(ddpm, 1.0)).items():
        with pytest.raises(md.MultidriftError, match=message):
            call()
