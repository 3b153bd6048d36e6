"""Calibrations: γ of ladders with a known one, the verdict, what is kept and what is refused."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.drifts.costs import Costs
from multidrift.planning.paths import finite_places, level_differences, sensitivity, top_paths
from multidrift.planning.scaling import ScalingFit, fit_differences, fit_errors, power_law

COSTS = np.array([1.0, 2.0, 6.0, 10.0, 17.0])


def calibrated(ladder, process=None, **settings):
    return md.calibrate(ladder, process, **({"costs": ladder.costs, "paths": 6, "steps": 12} | settings))


@pytest.mark.parametrize("gamma", [0.8, 2.5])
def test_an_exact_power_law_above_a_floor_is_found(gamma):
    found, floor = power_law(0.03 + 0.02 * COSTS ** (-1 / gamma), COSTS)
    assert found == pytest.approx(gamma, rel=0.02)
    assert floor == pytest.approx(0.03, rel=0.02)


def test_gamma_is_that_of_the_distance_not_of_its_square():
    squares = np.tile((0.03 + 0.02 * COSTS ** (-2 / 2.5))[:, None], (1, 8))
    fit = fit_errors(squares, COSTS)
    assert fit.gamma == pytest.approx(2.5, rel=0.02)
    assert fit.interval == pytest.approx((2.5, 2.5), rel=0.02)
    assert fit_errors(squares[:3], COSTS[:3]) is None


@pytest.mark.parametrize("gamma", [1.2, 2.5, 4.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_gamma_of_a_synthetic_ladder_is_recovered(gamma, eta, ddpm):
    """By both measures; the images are draws of the law whose exact denoiser the levels approach."""
    images = 0.5 * torch.randn((512, 2), generator=torch.Generator().manual_seed(1))
    found = calibrated(md.SyntheticLadder(gamma).ladder(ddpm), md.Diffusion(ddpm, eta), images=images, paths=16)
    for fit in (found.by_errors, found.by_differences):
        assert fit.interval[0] <= gamma <= fit.interval[1]
        assert fit.interval[1] - fit.interval[0] < 0.5 * gamma
    assert found.gamma is found.by_errors
    assert md.worth(found).answer == ("yes" if gamma > 2 else "no")


@pytest.mark.parametrize("gamma", [1.5, 1.7, 2.5])
@pytest.mark.parametrize("costs", [(1.0, 10.0, 12.0, 100.0), (1.0, 2.0, 6.0, 10.0, 17.0)])
def test_gamma_from_differences_needs_no_geometric_costs(gamma, costs):
    """Errors of a level's own at C^(−1/γ): the difference of two is made by the lower one, whose cost counts too."""
    rng, costs = np.random.default_rng(0), np.array(costs)
    errors = rng.standard_normal((len(costs), 64, 200)) * costs[:, None, None] ** (-1 / gamma)
    found = fit_differences(np.square(np.diff(errors, axis=0)).mean(axis=-1), costs)
    assert found.interval[0] <= gamma <= found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.1 * gamma


def test_a_step_counts_by_what_its_end_carries(ddpm):
    """The weights of differences are Δτ·S with S at the end of each step, as S is defined."""
    ladder, process = md.SyntheticLadder(3.0, levels=3).ladder(ddpm), md.Diffusion(ddpm, 1.0)
    found = calibrated(ladder, process, paths=6, steps=12)
    times, positions, _ = top_paths(ladder, process, 12, 6, 0)
    table = level_differences({name: ladder[name] for name in ladder.names}, process, times, positions)
    weights = (process.relative_steps(times) * found.sensitivity[1:]) ** 2
    neighbours = np.stack([weights @ table[k, k - 1][:-1] for k in (1, 2)])
    expected = fit_differences(neighbours, [found.seconds[name] for name in ladder.names])
    assert found.by_differences.gamma == expected.gamma


def test_gamma_of_langevin_dynamics_comes_from_the_differences():
    ladder = md.SyntheticLadder(3.0).ladder()
    for process in (md.Overdamped(2.0), md.Underdamped(2.0, friction=2.0)):
        found = calibrated(ladder, process, paths=64)
        assert found.by_errors is None
        assert found.gamma.interval[0] <= 3.0 <= found.gamma.interval[1]
        assert np.isfinite(found.sensitivity).all() == (not process.has_velocity)


def two_levels(schedule, cheap, cost):
    drifts = [lambda x, t: cheap * torch.tanh(x), lambda x, t: torch.tanh(x)]
    levels = [
        md.Denoiser(net, schedule, "sample", name=name, shape=(2,))
        for name, net in zip(("small", "big"), drifts, strict=True)
    ]
    return md.Ladder(levels, costs=Costs({"small": cost, "big": 1.0}, 1, "test"))


def test_no_for_levels_equally_good_or_equally_expensive(ddpm):
    same = md.worth(calibrated(two_levels(ddpm, 1.0, 0.1)))
    assert (same.answer, "say the same: take small alone" in same.reason) == ("no", True)
    dear = md.worth(calibrated(two_levels(ddpm, 0.7, 0.9)))
    assert (dear.answer, "costs 90%" in dear.reason) == ("no", True)
    # Two levels say different things and are as far from the truth, in other directions.
    alike = md.worth(calibrated(two_levels(ddpm, -1.0, 0.1), images=torch.zeros(64, 2)))
    assert (alike.answer, "big denoises no better than small on 64 images" in alike.reason) == ("no", True)
    assert md.worth(calibrated(two_levels(ddpm, 0.7, 0.1))).answer == "unclear"


def test_too_few_images_are_no_proof_of_equality(ddpm):
    """f4 errs eight times less than f1, which 16 images do not show beside the data's own scatter."""
    ladder = md.SyntheticLadder(4.0, levels=4, size=0.02).ladder(ddpm)
    few = calibrated(ladder, paths=16)
    gap = few.errors[0] - few.errors[-1]
    assert abs(gap.mean()) < 2 * gap.std(ddof=1) / 4
    assert md.worth(few).answer == "yes"
    images = 0.5 * torch.randn((16, 2), generator=torch.Generator().manual_seed(1))
    told = md.worth(calibrated(ladder, images=images))
    assert (told.answer, "do not tell whether f4" in told.reason) == ("unclear", True)


def test_no_where_levels_differ_and_approach_nothing():
    """Of Langevin dynamics there are no errors: differences that do not fall with the cost say it."""
    drifts = [lambda x, shift=shift: -x + 0.1 * torch.sin(2 * x + shift) for shift in (0.0, 1.7, 3.4, 5.1)]
    names = [f"g{k}" for k in range(4)]
    levels = [md.LangevinDrift(drift, name, (2,)) for drift, name in zip(drifts, names, strict=True)]
    ladder = md.Ladder(levels, costs=Costs({name: 8.0**k for k, name in enumerate(names)}, 1, "test"))
    told = md.worth(calibrated(ladder, md.Overdamped(2.0), paths=16))
    assert (told.answer, "take g0 alone" in told.reason) == ("no", True)


@pytest.mark.parametrize("diffusion", [True, False])
def test_levels_that_all_go_the_same_way_are_not_refused(diffusion, ddpm):
    """Neighbours differ by as much at the top, and the top is right all the same: the differences cannot tell."""
    nets = [lambda x, *_, s=s: s * torch.tanh(x) for s in (0.7, 0.8, 0.9, 1.0)]
    if diffusion:
        levels = [md.Denoiser(net, ddpm, "sample", name=f"g{k}", shape=(2,)) for k, net in enumerate(nets)]
    else:
        levels = [md.LangevinDrift(lambda x, net=net: -net(x), f"g{k}", (2,)) for k, net in enumerate(nets)]
    ladder = md.Ladder(levels, costs=Costs({f"g{k}": 8.0**k for k in range(4)}, 1, "test"))
    told = md.worth(calibrated(ladder, None if diffusion else md.Overdamped(2.0), paths=16))
    assert (told.answer, "too little is known" in told.reason) == ("unclear", True)


def test_differences_and_their_best_coefficient_are_those_of_the_levels(ddpm):
    found = calibrated(two_levels(ddpm, 0.8, 0.1))
    assert found.best_coefficients(("small", "big")) == pytest.approx(np.full((1, 12), 1 / 0.8), rel=1e-6)
    first, between = found.variances(("small", "big"))
    assert between == pytest.approx(first / 0.8**2 * 0.2**2, rel=1e-6)
    again = found.variances(("small", "big"), np.array(found.places))
    assert again == pytest.approx(np.stack([first, between]))


def test_differences_are_means_over_coordinates():
    ladder = md.SyntheticLadder(2.5, levels=2).ladder()
    positions = torch.randn((3, 5, 2), generator=torch.Generator().manual_seed(0))
    levels = {name: ladder[name] for name in ladder.names}
    table = level_differences(levels, md.Overdamped(1.0), np.array([0.0, 0.5, 1.0]), positions)
    drifts = [level.predict(positions[1], 0.5, "score", {}) for level in ladder]
    assert table[0, 1, 1] == pytest.approx((drifts[0] - drifts[1]).square().mean(dim=1).numpy(), rel=1e-5)
    assert table[1, 1, 1] == pytest.approx(drifts[1].square().mean(dim=1).numpy(), rel=1e-5)


@pytest.mark.parametrize("factor", [None, 0.1])
def test_sensitivity_of_a_linear_equation_is_its_closed_form(factor):
    """dx = −Mx dt + noise: an error at one of n steps is carried by the (1 − Mh) of those after it, and h = T/n."""
    pair = [md.LangevinDrift(net, name, (2,)) for name, net in (("a", lambda x: 0.1 - x), ("b", lambda x: -x))]
    preconditioner, m = (None, 1.0) if factor is None else ([factor] * 2, factor)
    places, found = sensitivity(md.Ladder(pair), md.Overdamped(3.0, preconditioner=preconditioner), 12, 4, 0)
    assert places == pytest.approx(np.linspace(0, 3, 13)[1:])
    assert found == pytest.approx(3.0 * m * (1 - 0.25 * m) ** np.arange(11, -1, -1), rel=1e-9)


def test_a_calibration_with_a_preconditioner_fits_its_ladder_when_it_is_loaded(tmp_path):
    ladder, process = md.SyntheticLadder(2.5, levels=2).ladder(), md.Overdamped(1.0, preconditioner=[0.5, 2.0])
    calibrated(ladder, process).save(tmp_path / "c.json")
    again = md.Calibration.load(tmp_path / "c.json")
    assert md.allocate(ladder, again, process, seconds=0.05).seconds <= 0.05
    assert md.Overdamped.from_dict(again.process) == process


def test_gamma_below_two_is_told_also_where_the_levels_cost_alike(ddpm):
    found = calibrated(md.SyntheticLadder(1.2, levels=3).ladder(ddpm), paths=16)
    cheap = replace(found, seconds={"f1": 1.0, "f2": 1.5, "f3": 2.1}, by_differences=ScalingFit(1.9, (1.85, 1.95)))
    assert "is below 2" in md.worth(cheap).reason


def test_what_is_saved_is_what_is_loaded(ddpm, tmp_path):
    found = calibrated(md.SyntheticLadder(2.5).ladder(ddpm))
    found.save(tmp_path / "c.json")
    again = md.Calibration.load(tmp_path / "c.json")
    assert again.to_dict() == found.to_dict()
    assert again.gamma == found.gamma
    for text, message in (("{", "no valid JSON"), ("{}", "takes a calibration"), ("[]", "no JSON object")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(md.MultidriftError, match=f"bad.json.*{message}"):
            md.Calibration.load(tmp_path / "bad.json")
    damaged = found.to_dict() | {"places": [0.0]}
    (tmp_path / "bad.json").write_text(json.dumps(damaged))
    with pytest.raises(md.MultidriftError, match="differences"):
        md.Calibration.load(tmp_path / "bad.json")
    unpriced = found.to_dict() | {"seconds": dict.fromkeys(found.seconds, float("nan"))}
    (tmp_path / "bad.json").write_text(json.dumps(unpriced))
    with pytest.raises(md.MultidriftError, match="bad.json: is damaged, no valid JSON"):
        md.Calibration.load(tmp_path / "bad.json")


def test_a_calibration_of_something_else_is_named_and_taken_by_force(ddpm):
    ladder = md.SyntheticLadder(2.5, levels=2).ladder(ddpm)
    process = md.Diffusion(ddpm)
    found = calibrated(ladder)
    found.check(ladder, process, batch=1, machine="synthetic")
    other = md.SyntheticLadder(2.5, levels=3).ladder(ddpm)
    with pytest.raises(md.MultidriftError, match="calibration: was taken on f1, f2, without level f3"):
        found.check(other, process, force=True)
    changed = md.Ladder([md.Denoiser(level.net, ddpm, "epsilon", name=level.name, shape=(2,)) for level in ladder])
    cases = [
        ((changed, process), {}, "another level f1"),
        ((ladder, md.Diffusion(ddpm, 0.0)), {}, "eta = 1.0, not 0.0"),
        ((ladder, process), {"batch": 16}, "batches of 1, not 16"),
        ((ladder, process), {"machine": "a phone"}, "another machine .synthetic, not a phone"),
    ]
    for (model, equation), settings, message in cases:
        with pytest.raises(md.MultidriftError, match=f"{message}.*force=True"):
            found.check(model, equation, **settings)
        with pytest.warns(md.CalibrationWarning, match="by force"):
            found.check(model, equation, **settings, force=True)


def test_bad_input_is_refused(ddpm):
    ladder = md.SyntheticLadder(2.5).ladder(ddpm)
    with pytest.raises(md.MultidriftError, match="ladder: got .*at least two levels"):
        md.calibrate(md.SyntheticLadder(2.5, levels=1).ladder(ddpm))
    with pytest.raises(md.MultidriftError, match="seconds.'f1'.: got nan"):
        md.calibrate(ladder, costs=Costs(dict.fromkeys(ladder.names, float("nan")), 1, "test"))
    with pytest.raises(md.MultidriftError, match="costs: got .*seconds of f1"):
        md.calibrate(ladder, costs=Costs({"f1": 1.0}, 1, "test"))
    with pytest.raises(md.MultidriftError, match="paths: got 1"):
        md.calibrate(ladder, paths=1)
    with pytest.raises(md.MultidriftError, match="ladder: got Denoiser"):
        md.calibrate(ladder["f1"])
    with pytest.raises(md.MultidriftError, match="gamma: got -1"):
        md.SyntheticLadder(-1.0)


def test_seconds_are_measured_where_none_are_known(ddpm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", md.CalibrationWarning)  # on a busy machine
        found = md.calibrate(md.SyntheticLadder(2.5, levels=2).ladder(ddpm), batch=3, paths=2, steps=8, repeats=2)
    assert found.batch == 3
    assert all(value > 0 for value in found.seconds.values())
    assert found.overhead > 0
    assert "threads" in found.machine


def test_acceptance_falls_with_the_difference_and_the_step(ddpm):
    found = calibrated(md.SyntheticLadder(2.5, size=4.0).ladder(ddpm))
    fine, coarse = (np.linspace(-2.0, 2.0, n) for n in (401, 41))
    assert found.acceptance("f5", fine) == pytest.approx(np.ones(400))
    assert (found.acceptance("f1", fine)[-10:].mean()) > found.acceptance("f1", coarse)[-1]
    gap = found.differences[0, -1]
    squared = np.diff(np.exp(2 * coarse))[-1] * np.interp(coarse[-2], found.places, gap) * 2
    expected = 2 * torch.distributions.Normal(0, 1).cdf(torch.tensor(-np.sqrt(squared) / 2))
    assert found.acceptance("f1", coarse)[-1] == pytest.approx(float(expected), rel=1e-6)
    quieter = calibrated(md.SyntheticLadder(2.5, size=4.0).ladder(ddpm), md.Diffusion(ddpm, 1.0, noise_scale=0.25))
    quieter = replace(quieter, differences=found.differences)
    expected = 2 * torch.distributions.Normal(0, 1).cdf(torch.tensor(-np.sqrt(squared / 0.25) / 2))
    assert quieter.acceptance("f1", coarse)[-1] == pytest.approx(float(expected), rel=1e-6)
    with pytest.raises(md.MultidriftError, match="process: got .*'eta': 0.0.*takes one with noise"):
        calibrated(md.SyntheticLadder(2.5).ladder(ddpm), md.Diffusion(ddpm, 0.0)).acceptance("f1", fine)


@pytest.mark.parametrize(
    "make",
    [
        lambda schedule: md.Diffusion(schedule, 0.6),
        lambda schedule: md.Diffusion(schedule, 1.0, noise_scale=0.5),
        lambda schedule: md.Diffusion(schedule, 1.0, holds="noise"),
        lambda schedule: md.Overdamped(1.0),
    ],
)
def test_acceptance_is_that_of_speculative_sampling(make, ddpm):
    """A drafter that is off by a constant: of 4,000 samples as many accept each step's draft as is foretold.

    Within 0.04, five standard deviations, that is in all 28 comparisons but for one in 60,000.
    """
    shift, steps = 0.4, 8
    if isinstance(process := make(ddpm), md.Overdamped):
        pair = [md.LangevinDrift(net, name, (1,)) for name, net in (("a", lambda x: shift - x), ("b", lambda x: -x))]
    else:
        nets = (("a", lambda x, t: 0.5 * x + shift), ("b", lambda x, t: 0.5 * x))
        pair = [md.Denoiser(net, ddpm, "sample", name=name, shape=(1,)) for name, net in nets]
    ladder = md.Ladder(pair, costs=Costs({"a": 0.1, "b": 1.0}, 1, "test"))
    found = calibrated(ladder, process, paths=64, steps=24)
    method = md.Speculative(steps, window=1, drafter="a")
    told = md.sample(ladder, method, process, count=4000, seed=3, progress=False).speculation
    places = finite_places(process, method.grid_for(process))
    assert told.accepted.mean(axis=1) == pytest.approx(found.acceptance("a", places), abs=0.04)
