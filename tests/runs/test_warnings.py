"""What is said of a run that will overshoot, before it, and of one that has left its marginals, after it."""

import itertools
import re
import warnings

import pytest
import torch

import multidrift as md
from multidrift.methods.poisson.kicks import largest_kicks
from multidrift.methods.poisson.walk import _Cut
from multidrift.runs import marginals
from multidrift.runs.marginals import MarginalGuard

SCHEDULES = {
    "ddpm": md.schedules.ddpm(),
    "cosine": md.schedules.cosine(),
    "ve": md.schedules.ve(),
    "edm": md.schedules.edm(),
    "flow": md.schedules.flow(),
}


def scaled(scale):
    """Two components of this size."""
    return md.GaussianMixture(
        [0.4, 0.6], [[scale, 0.0], [-scale, 0.3 * scale]], [(scale**2 / 4 * torch.eye(2)).tolist()] * 2
    )


def warned(run, kind):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run()
    return [str(w.message) for w in caught if issubclass(w.category, kind)], result


@pytest.mark.parametrize("draws", ["independent", "single", "midpoint"])
@pytest.mark.parametrize("variant", ["1a", "2"])
def test_variants_that_overshoot_on_cosine_say_so_before_the_run(variant, draws, mixture):
    """A kick out of the strongest noise moves ε's prediction of the data by more than all of it."""
    process = md.pmm_variant(variant, SCHEDULES["cosine"])
    method = md.PoissonMidpoint(26, "linspace", substeps=40, draws=draws)
    with pytest.warns(md.PlanWarning, match="overshoot: level mixture fires with weight .* at step 0"):
        method.plan(mixture.denoiser(process.schedule), process)


@pytest.mark.parametrize("draws", ["independent", "single"])
@pytest.mark.parametrize("variant", ["1a", "2"])
@pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
def test_runs_that_left_their_marginals_say_so(variant, draws, mixture):
    process = md.pmm_variant(variant, SCHEDULES["cosine"])
    method = md.PoissonMidpoint(26, "linspace", substeps=40, draws=draws)
    model, far = mixture.denoiser(process.schedule), []
    for run in (
        lambda: md.sample(model, method, process, count=64),
        lambda: list(md.steps(model, method, process, 64)),
    ):
        with pytest.warns(md.RunWarning, match=r"left its marginals at step \d+ \(t = .*\) for sample \d+") as caught:
            far.append(run())
        (one,) = (w for w in caught if w.category is md.RunWarning)
        assert one.filename == __file__
        assert int(re.search(r"\((\d+) of 64 did so", str(one.message))[1]) >= 4
    assert float(far[0].samples.var(dim=0).max()) > 100 * float(mixture.covariance.max())
    found, result = warned(lambda: md.sample(model, md.Euler(26, "linspace"), process, count=64), md.RunWarning)
    assert not found  # its first step throws it far as well, but the next brings it back
    assert float(result.samples.var(dim=0).max()) < 2 * float(mixture.covariance.max())


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ordinary_runs_never_warn(name, scale):
    """Whatever the size of the data, the steps, the grid and η; with ε or the score held from 25 steps on at η ≤ 1."""
    schedule = SCHEDULES[name]
    model = scaled(scale).denoiser(schedule)
    runs = itertools.product((0.0, 1.0, 2.0), (md.Euler(3), md.Euler(10, "linspace"), md.Euler(30, "karras")))
    cases = [(md.Diffusion(schedule, eta), method) for eta, method in runs]
    cases += [(md.Diffusion(schedule), md.PoissonMidpoint(n, substeps=20, draws="single")) for n in (4, 25)]
    if name not in ("flow", "edm", "cosine"):
        cases += [(md.Diffusion(schedule, eta, h), md.Euler(25)) for eta in (0.0, 1.0) for h in ("noise", "score")]
    for process, method in cases:
        found, _ = warned(lambda p=process, m=method: md.sample(model, m, p, count=32), md.RunWarning)
        assert not found, (process, method)


def test_an_outlier_of_the_data_is_no_explosion(ddpm):
    """One sample in fifty a thousand times as large as the others, at the start and in the data."""
    target = md.GaussianMixture([0.98, 0.02], [[0.0], [1000.0]], [[[1.0]], [[1.0]]])
    found, result = warned(lambda: md.sample(target.denoiser(ddpm), md.Euler(40), count=128), md.RunWarning)
    assert result.samples.isfinite().all()
    assert not found


@pytest.mark.parametrize(
    ("sizes", "warns"),
    [
        ((1, 1e3, 1e3, 1e3, 1, 1), True),  # three in a row
        ((1, 1e3, 1e3, 1, 1e3, 1), False),  # each time it came back
        ((1, 1, 1, 1, 1, 1e3), True),  # the end itself
        ((1, 5, 5, 5, 5, 5), False),
    ],
)
@pytest.mark.parametrize("at_once", [1, 4, 50])  # steps that are looked at together
def test_what_counts_is_to_be_far_for_long_or_at_the_end(sizes, warns, at_once, ddpm, monkeypatch):
    monkeypatch.setattr(marginals, "_SETTLED_AT_ONCE", at_once)
    process, times = md.Diffusion(ddpm), md.grid_times(ddpm, 7)
    guard = MarginalGuard(process, ["a", "b", "c"], times)
    before = torch.ones(3, 1)
    for n, size in enumerate(sizes):
        states = torch.tensor([[1.0], [size], [1.0]])
        guard.watch(n, states, 0.3 * before)
        before = states
    found, _ = warned(guard.read, md.RunWarning)
    assert len(found) == warns
    far = [n for n, size in enumerate(sizes) if size > 5]
    assert all(f"at step {far[0]} (" in message and " for b: it grew to" in message for message in found)
    assert all("(1 of 3 did so)" in message for message in found)
    assert not warned(guard.read, md.RunWarning)[0]


@pytest.mark.parametrize(
    ("settings", "holds", "overshoots"),
    [
        ({"steps": 10}, "data", False),
        ({"steps": 10, "spread": "steps"}, "data", True),
        ({"steps": 10}, "noise", True),
        ({"steps": 50}, "noise", False),
        ({"steps": 50, "spread": "steps"}, "score", False),
        ({"steps": 10, "substeps": 1}, "noise", False),
    ],
)
def test_kicks_above_the_goal_are_those_that_warn(settings, holds, overshoots, denoiser, ddpm):
    method = md.PoissonMidpoint(**{"grid": "blend", "substeps": 40} | settings)
    found, _ = warned(lambda: method.plan(denoiser, md.Diffusion(ddpm, 1.0, holds)), md.PlanWarning)
    assert bool(found) == overshoots
    assert all("spread='clock'" in message for message in found)


def test_the_weight_of_a_kick_is_its_size_over_that_of_the_step(denoiser, ddpm):
    """Weight times step, as the warning has them, is the share of the state that the largest kick replaces."""
    process = md.Diffusion(ddpm, 1.0, "noise")
    method = md.PoissonMidpoint(10, "blend", substeps=40)
    times = method.grid_for(process)
    cut, steps = _Cut(method, process, times), process.relative_steps(times)
    largest = largest_kicks(process, times, cut.places, cut.kicks())
    ((message,), _) = warned(lambda: method.plan(denoiser, process), md.PlanWarning)
    weight, step = re.search(r"weight ([\d.]+) at step (\d+)", message).groups()
    assert int(step) == largest.argmax()
    assert float(weight) == pytest.approx(largest.max() / steps[largest.argmax()], abs=0.06)


def test_chains_are_not_compared_with_marginals():
    found, _ = warned(
        lambda: md.sample(lambda x: -0.001 * x, md.Euler(10), md.Overdamped(1.0), start=1e4 * torch.ones(3, 1)),
        md.RunWarning,
    )
    assert not found
