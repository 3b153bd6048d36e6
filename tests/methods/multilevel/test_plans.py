"""Plans: the law of the three draws, their weights, their two warnings and their file.

Statistical bounds are at five standard errors (false alarm below 1e-6 each).
"""

import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch
from tests.fakes import Small

import multidrift as md
from multidrift.methods.multilevel.draws import DRAWS, fire, shares, unbiasing, weigh
from multidrift.methods.multilevel.probabilities import expected_calls, from_calls, given
from multidrift.runs.plan import coefficients, counted_calls

P_CONSTANT = np.full(59, 0.3)
P_VARYING = 0.05 + 0.9 * np.linspace(0, 1, 59) ** 2


@pytest.mark.parametrize("p", [P_CONSTANT, P_VARYING], ids=["constant", "varying"])
@pytest.mark.parametrize("draws", ["independent", "systematic", "cells"])
def test_every_step_fires_with_its_probability(draws, p):
    rng = np.random.default_rng(0)
    n = 20_000
    rate = np.mean([fire(draws, p, rng.random(len(p))) for _ in range(n)], axis=0)
    assert np.all(np.abs(rate - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-12)


def test_independent_draws_are_coins():
    uniforms = np.random.default_rng(0).uniform(size=len(P_VARYING))
    uniforms[3] = P_VARYING[3]
    np.testing.assert_array_equal(fire("independent", P_VARYING, uniforms), uniforms < P_VARYING)


def test_midpoint_draw_is_systematic_with_half_an_offset():
    fires = fire("midpoint", P_VARYING, np.zeros(59))
    assert np.array_equal(fires, fire("systematic", P_VARYING, np.full(59, 0.5)))


@pytest.mark.parametrize("p", [P_CONSTANT, P_VARYING], ids=["constant", "varying"])
@pytest.mark.parametrize("offset", [0.001, 0.37, 0.5, 0.999])
def test_systematic_firings_stay_within_one_of_their_expectation(p, offset):
    fires = fire("systematic", p, np.full(59, offset))
    assert np.all(np.abs(np.cumsum(fires) - np.cumsum(p)) <= 1 + 1e-9)


PROFILES = pytest.mark.parametrize(
    "p", [P_CONSTANT, P_VARYING, P_VARYING[::-1], np.ones(59)], ids=["constant", "rising", "falling", "one"]
)
OFFSETS = (0.01, 0.4, 0.5, 0.9)


@PROFILES
@pytest.mark.parametrize("draws", ["cells", "midpoint"])
def test_weights_sum_to_the_interval(draws, p):
    """Σ w_n h_n = Σ h_n, whatever the lengths of the steps, and nothing but firings has a weight."""
    for lengths in (np.linspace(0.02, 0.3, 59), np.geomspace(1, 1e-4, 59)):
        for offset in OFFSETS:
            fires = fire(draws, p, np.full(59, offset))
            weights = weigh(draws, fires, p, lengths)
            assert (weights * lengths).sum() == pytest.approx(lengths.sum(), rel=1e-12)
            assert np.array_equal(weights > 0, fires)


@PROFILES
def test_every_step_is_shared_out_whole_and_to_the_firings_beside_it(p):
    for offset in OFFSETS:
        fires = fire("systematic", p, np.full(59, offset))
        owned = shares(fires, p)
        np.testing.assert_allclose(owned.sum(axis=0), 1, rtol=1e-12)
        assert np.array_equal(owned[:, fires], np.eye(fires.sum()))  # a firing's own step is all its own
        for k, n in enumerate(np.flatnonzero(fires)):
            cell = np.flatnonzero(owned[k])
            assert fires[cell[0] : cell[-1] + 1].sum() == 1
            assert cell[0] <= n <= cell[-1]


@PROFILES
def test_weights_are_bounded(p):
    """A cell holds the probability of one firing, at either end of the run up to half of one more."""
    for offset in np.linspace(0.001, 0.999, 41):
        held = shares(fire("systematic", p, np.full(59, offset)), p) @ p
        assert held.max() <= 2.0 + 1e-9
        assert held[1:-1].max() <= 1.5 + 1e-9
        assert held.sum() == pytest.approx(p.sum())


GEOMETRIC, EVEN = np.geomspace(1, 1e-3, 59), np.ones(59)
LENGTHS = pytest.mark.parametrize("lengths", [EVEN, GEOMETRIC], ids=["even", "geometric"])


@PROFILES
@LENGTHS
def test_systematic_weights_are_unbiased_at_every_step_and_bounded(p, lengths):
    """E[w_n] = 1 at the first and the last step as in the middle, over 20,000 offsets; no kick above 2/p_n.

    The offsets are evenly laid out, so that the mean of w_n errs by at most its greatest weight over 20,000.
    """
    offsets = (np.arange(20_000) + 0.5) / 20_000
    fires = np.array([fire("systematic", p, offset[None]) for offset in offsets])
    patterns, counts = np.unique(fires, axis=0, return_counts=True)  # weights depend on what fires alone
    factors = unbiasing(p, lengths)
    weights = np.array([weigh("systematic", pattern, p, lengths, factors) for pattern in patterns])
    np.testing.assert_allclose(counts @ weights / 20_000, 1.0, atol=2 / p.min() / 20_000)
    assert (weights * p).max() < 2.0


# Probabilities in twentieths: what fires changes with the offset at twentieths only, so 20 offsets give exact means.
TWENTIETHS = {
    "even": [5] * 9,
    "high": [19, 18, 17, 13, 12, 11, 19, 19],
    "uneven": [3, 7, 12, 5, 16, 9, 2, 11],
    "certain": [6, 6, 20, 20, 20, 7, 9],
    "dips": [12, 19, 13, 18, 14, 19, 12],
}


@pytest.mark.parametrize("name", TWENTIETHS)
@pytest.mark.parametrize("base", [1.0, 0.5, 2.0, -3.0])
def test_means_of_systematic_weights_are_exactly_one(name, base):
    """Also: neighbours weigh 1 where the others make up for the rest by a factor of 2 at the most, or all alike do."""
    p = np.array(TWENTIETHS[name]) / 20
    lengths = base ** np.arange(len(p)) if base > 0 else np.where(np.arange(len(p)) % 2, -base, 1.0)
    beside, alone = unbiasing(p, lengths)
    draws = [fire("systematic", p, np.array([offset])) for offset in (np.arange(20) + 0.5) / 20]
    weights = [weigh("systematic", fires, p, lengths, np.stack([beside, alone])) for fires in draws]
    np.testing.assert_allclose(np.mean(weights, axis=0), 1.0, rtol=1e-7)
    kept = beside == 1.0
    assert np.all(alone[kept] <= 2.0 + 1e-7)
    np.testing.assert_array_equal(beside[~kept], alone[~kept])


def test_less_than_one_expected_firing_weighs_one_over_p():
    """With one expected or more, a cell: here the only firing stands for the whole run."""
    lengths, fires = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, False])
    for draws in ("systematic", "cells", "midpoint"):
        np.testing.assert_allclose(weigh(draws, fires, np.full(4, 0.125), lengths), [0, 8, 0, 0])
    for p in (0.25, 0.4):
        np.testing.assert_allclose(weigh("cells", fires, np.full(4, p), lengths), [0, 5, 0, 0])


def test_factors_that_are_given_are_taken():
    p, lengths = np.full(9, 0.5), np.ones(9)
    fires = fire("systematic", p, np.array([0.3]))
    twice = weigh("systematic", fires, p, lengths, np.full((2, 9), 2.0))
    np.testing.assert_array_equal(twice, 2.0 * weigh("cells", fires, p, lengths))


def test_the_last_cells_are_what_is_corrected():
    """Cells of the first and last four steps weigh 5/8 to 11/8 on average, at p = 1/4; the others weigh 1."""
    beside, alone = unbiasing(np.full(80, 0.25), np.ones(80))
    ends = [8 / 5, 8 / 7, 8 / 9, 8 / 11]
    np.testing.assert_allclose(alone, [*ends, *[1.0] * 72, *ends[::-1]])
    assert np.array_equal(beside, np.ones(80))  # no neighbours fire; where they do, levels must go on cancelling


@LENGTHS
def test_weights_found_by_themselves_are_those_found_together(lengths):
    fires = fire("systematic", P_VARYING, np.array([0.3]))
    alone = weigh("systematic", fires, P_VARYING, lengths)
    together = weigh("systematic", fires, P_VARYING, lengths, unbiasing(P_VARYING, lengths))
    np.testing.assert_array_equal(alone, together)


def test_weights_of_even_steps_are_one_over_p():
    """Constant p and steps of one length: the gap between firings; in cells at the ends up to half a gap more."""
    p = np.full(60, 0.25)
    for offset in (0.1, 0.3, 0.5, 0.7, 0.9):
        fires = fire("systematic", p, np.full(60, offset))
        np.testing.assert_allclose(weigh("systematic", fires, p, np.ones(60))[fires], 4, rtol=1e-9)
        weights = weigh("cells", fires, p, np.ones(60))
        each = weights[weights > 0]
        np.testing.assert_allclose(each[1:-1], 4, rtol=1e-9)
        assert 2 <= each[0] <= 6
        assert 2 <= each[-1] <= 6


@pytest.mark.parametrize("p", [P_CONSTANT, P_VARYING], ids=["constant", "varying"])
def test_weighted_firings_integrate_smooth_terms_to_second_order(p):
    """Σ w_n h_n g_n against Σ h_n g_n: worst offset of 50, at n and 2n firings, for steps of changing length."""
    worst = []
    for refine in (4, 8):
        n = 59 * refine
        where = (np.arange(n) + 0.5) / n
        dense = np.interp(where, np.linspace(0, 1, 59), p) / 4
        lengths, terms = (1 + where) / n, np.cos(3 * where)
        errors = []
        for offset in np.linspace(0.01, 0.99, 50):
            fires = fire("cells", dense, np.full(n, offset))
            weights = weigh("cells", fires, dense, lengths)
            errors.append(abs((weights * lengths * terms).sum() - (lengths * terms).sum()))
        worst.append(max(errors))
    assert worst[1] < 0.35 * worst[0]


def test_steps_that_are_certain_weigh_one_between_steps_that_are_not():
    p = np.concatenate([np.full(20, 0.3), np.ones(10), np.full(20, 0.3)])
    for draws in ("systematic", "cells"):
        weights = weigh(draws, fire(draws, p, np.full(50, 0.7)), p, np.linspace(0.02, 0.3, 50))
        assert np.array_equal(weights[21:29], np.ones(8))


def test_weights_of_the_papers_draw_are_one_over_p():
    fires = fire("independent", P_VARYING, np.random.default_rng(0).random(59))
    np.testing.assert_array_equal(weigh("independent", fires, P_VARYING, np.linspace(1, 2, 59)), fires / P_VARYING)


def test_plan_weights_cover_the_whole_run(ladder, ddpm):
    weights = dataclasses.replace(METHOD, draws="cells").plan(ladder).weights[0, :, 1]
    lengths = md.Diffusion(ddpm).relative_steps(md.grid_times(ddpm, 40))
    assert (weights * lengths).sum() == pytest.approx(lengths.sum(), rel=1e-12)


def test_all_steps_firing_weigh_exactly_one():
    for draws in DRAWS:
        fires = fire(draws, np.ones(59), np.random.default_rng(0).random(59))
        assert np.array_equal(weigh(draws, fires, np.ones(59), np.linspace(0.02, 0.3, 59)), np.ones(59))


@pytest.mark.parametrize("draws", ["independent", "systematic", "cells"])
def test_expected_calls_are_what_plans_make(draws):
    """Three levels with time-varying p; for the papers' draw also two levels of equal p, whose firings may cancel."""
    tables = [np.stack([np.ones(59), P_VARYING, P_CONSTANT], axis=1)]
    if draws == "independent":
        tables.append(given((1.0, 0.4, 0.4), 59, ("a", "b", "c")))
    rng = np.random.default_rng(1)
    for table in tables:
        counts, lengths = [], np.linspace(1, 2, 59)
        factors = [unbiasing(p, lengths) for p in table.T]
        for _ in range(4000):
            fires = np.stack([fire(draws, p, rng.random(59)) for p in table.T], axis=1)
            columns = [weigh(draws, fires[:, k], table[:, k], lengths, factors[k]) for k in range(3)]
            weights = np.stack(columns, axis=1)
            counts.append(counted_calls(weights[None]))
        spread = np.std(counts, axis=0) / np.sqrt(len(counts))
        wanted = expected_calls(table, 1, draws)
        assert np.all(np.abs(np.mean(counts, axis=0) - wanted) < 5 * spread + 1e-9)


def test_probabilities_from_calls():
    np.testing.assert_allclose(from_calls((60, 12), 59, ("a", "b"))[0], [1, 11 / 59])
    np.testing.assert_allclose(from_calls((30, 60), 59, ("a", "b"))[7], [30 / 59, 1])
    assert np.array_equal(coefficients(np.array([1.0, 1.0, 0.0])), [0, 1, 0])


@pytest.fixture
def ladder(mixture, ddpm):
    def level(name, shift):
        exact = mixture.denoiser(ddpm)
        net = lambda x, t: exact.predict(x, t.double().numpy(), "sample", {}) + shift * torch.cos(x)  # noqa: E731
        return md.Denoiser(net, ddpm, predicts="sample", name=name, shape=(2,))

    return md.Ladder([level("a", 0.2), level("b", 0.05), level("c", 0.0)])


METHOD = md.Multilevel(40, levels=("a", "c"), calls=(40, 10))


def test_saved_plan_is_replayed_bit_for_bit(ladder, tmp_path):
    plan = METHOD.plan(ladder, seed=5)
    plan.save(tmp_path / "plan.json")
    loaded = md.Plan.load(tmp_path / "plan.json")
    wanted = md.sample(ladder, METHOD, count=3, plan_seed=5)
    replayed = md.sample(ladder, loaded, count=3)
    assert torch.equal(replayed.samples, wanted.samples)
    assert replayed.plan.calls == wanted.plan.calls == wanted.calls == plan.calls
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_plan_of_draws_per_sample_is_kept_too(ladder, tmp_path):
    method = md.Multilevel(20, levels=("a", "c"), calls=(20, 5), draws="independent", shared=False)
    method.plan(ladder, count=4, first=2).save(tmp_path / "plan.json")
    replayed = md.sample(ladder, md.Plan.load(tmp_path / "plan.json"), count=4, first=2)
    assert torch.equal(replayed.samples, md.sample(ladder, method, count=4, first=2).samples)
    each = "plan: made for samples 2 to 5, with a draw each; not for"
    with pytest.raises(md.MultidriftError, match=f"{each} 0 to 2"):
        md.sample(ladder, md.Plan.load(tmp_path / "plan.json"), count=3)
    with pytest.raises(md.MultidriftError, match=f"{each} 50 to 53"):
        md.sample(ladder, md.Plan.load(tmp_path / "plan.json"), count=4, first=50)
    with pytest.raises(md.MultidriftError, match="plan: made for samples 0 to 0"):
        md.sample(ladder, method.plan(ladder), count=16)


def test_every_method_has_a_plan(ladder):
    plan = md.Euler(9).plan(ladder)
    assert plan.calls == {"c": 9}
    assert torch.equal(md.sample(ladder, plan, count=2).samples, md.sample(ladder, md.Euler(9), count=2).samples)


def test_a_plan_for_something_else_is_refused(ladder, mixture, ddpm):
    plan = METHOD.plan(ladder)
    with pytest.raises(md.MultidriftError, match="plan: made for a process with eta = 1.0, not 0"):
        md.sample(ladder, plan, md.Diffusion(ddpm, 0))
    other = md.Ladder([ladder["a"], md.Denoiser(Small(), ddpm, name="c")])
    with pytest.raises(md.MultidriftError, match=r"plan: made for another level c \(its network or schedule differs\)"):
        md.sample(other, plan, shape=(2,))
    every = md.Multilevel(20, calls=(20, 9, 5)).plan(ladder)
    for names in (("a", "b"), ("b", "a", "c")):
        with pytest.raises(md.MultidriftError, match=f"plan: made for levels a, b, c, not {', '.join(names)}"):
            md.sample(md.Ladder([ladder[name] for name in names]), every)
    with pytest.raises(md.MultidriftError, match="levels: got .*'c'.*; it takes levels out of a, b"):
        md.sample(md.Ladder([ladder["a"], ladder["b"]]), plan)
    moved = json.loads(json.dumps(plan.times))
    moved[3] += 0.5
    changed = md.Plan(**{**vars(plan), "times": tuple(moved)})
    with pytest.raises(md.MultidriftError, match="plan: made for another grid: its time 3 is"):
        md.sample(ladder, changed)


def test_training_a_network_on_makes_its_plans_stale(ddpm):
    levels = [md.Denoiser(Small(seed=s), ddpm, name=n, shape=(1, 8, 8)) for s, n in enumerate("ab")]
    ladder = md.Ladder(levels)
    plan = md.Multilevel(9, calls=(9, 4)).plan(ladder)
    md.sample(ladder, plan)
    with torch.no_grad():
        levels[1].net.conv.weight += 0.1
    with pytest.raises(md.MultidriftError, match="another level b"):
        md.sample(ladder, plan)


def test_every_weight_counts(ddpm):
    """Also one that is far from the first of its tensor, changed behind autograd's back."""
    levels = [md.Denoiser(Small(seed=s), ddpm, name=n, shape=(1, 8, 8)) for s, n in enumerate("ab")]
    ladder = md.Ladder(levels)
    plan = md.Multilevel(9, calls=(9, 4)).plan(ladder)
    levels[1].net.conv.weight.data.flatten()[-1] += 1e-6
    with pytest.raises(md.MultidriftError, match="another level b"):
        md.sample(ladder, plan)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "is damaged, no valid JSON"),
        (lambda text: "[1, 2]", "is damaged, no JSON object"),
        (lambda text: json.dumps({"format": 1}), "is not a plan of multidrift"),
        (lambda text: json.dumps(json.loads(text) | {"format": 3}), "has format 3; this version reads 2"),
        (
            lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "times"}),
            "is damaged .plan: 'times' is missing",
        ),
        (lambda text: json.dumps(json.loads(text) | {"firings": [[[0], [99]]]}), "is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"weights": [[[], []]]}), "is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"firings": [[[-1], []]]}), "is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"method": "Euler"}), "is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"process": []}), "is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"ladder": {}}), "is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"calls": 5}), "is damaged"),
        (lambda text: json.dumps(json.loads(text) | {"method": {"method": "Magic"}}), "its hash differs"),
        (lambda text: json.dumps(json.loads(text) | {"method": {"method": "Euler", "a": 1}}), "its hash differs"),
    ],
)
def test_damaged_plan_files(ladder, tmp_path, damage, message):
    file = tmp_path / "plan.json"
    METHOD.plan(ladder).save(file)
    file.write_text(damage(file.read_text()))
    with pytest.raises(md.MultidriftError, match=message):
        md.sample(ladder, md.Plan.load(file))


def test_missing_and_unwritable_plan_files(ladder, tmp_path):
    with pytest.raises(md.MultidriftError, match="path: .*none.json. is not there"):
        md.Plan.load(tmp_path / "none.json")
    with pytest.raises(md.MultidriftError, match="path: could not write"):
        METHOD.plan(ladder).save(tmp_path / "missing" / "plan.json")


def test_the_last_digits_of_a_grid_may_differ(ladder):
    plan = METHOD.plan(ladder)
    moved = md.Plan(**{**vars(plan), "times": tuple(np.nextafter(plan.times, 0))})
    assert torch.equal(md.sample(ladder, moved).samples, md.sample(ladder, METHOD).samples)


def test_a_plan_survives_a_dict(ladder):
    plan = METHOD.plan(ladder, seed=2)
    again = md.Plan.from_dict(plan.to_dict())
    assert np.array_equal(again.weights, plan.weights)
    assert again.to_dict() == plan.to_dict()


def test_processes_and_methods_survive_a_dict(ddpm):
    process = md.Diffusion(ddpm, 0.5, "score", 0.7)
    assert md.Diffusion.from_dict(process.to_dict()) == process
    assert md.method_from_dict(METHOD.to_dict()) == METHOD
    scaled = md.Diffusion(ddpm, noise_scale=lambda t: t / 999)
    with pytest.raises(md.MultidriftError, match="noise_scale: got 'the values of a function'"):
        md.Diffusion.from_dict(scaled.to_dict())
    with pytest.raises(md.MultidriftError, match="process: got"):
        md.Diffusion.from_dict({"eta": 1})


def test_functions_of_noise_are_told_apart(ladder, ddpm):
    plan = METHOD.plan(ladder, md.Diffusion(ddpm, noise_scale=lambda t: 1.0 + t / 999))
    with pytest.raises(md.MultidriftError, match="plan: made for a process with noise_scale"):
        md.sample(ladder, plan, md.Diffusion(ddpm, noise_scale=lambda t: 1.0))


def test_a_level_that_never_fires_is_warned_of(ladder):
    with pytest.warns(md.PlanWarning, match="silent: the difference of level c never fires"):
        md.Multilevel(80, levels=("a", "c"), calls=(80, 1.4), draws="midpoint").plan(ladder)


def test_overshoot_is_warned_of(ladder):
    with pytest.warns(md.PlanWarning, match="overshoot: level c fires with weight .* at step"):
        md.Multilevel(12, levels=("a", "c"), calls=(12, 3)).plan(ladder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        md.Multilevel(200, "blend", levels=("a", "c"), calls=(200, 60)).plan(ladder)


def test_resonance_is_warned_of(ladder, ddpm):
    """Steps of λ that alternate long and short, and a level that fires at every other one."""
    lengths = np.tile([3.0, 1.0], 100)
    lam = ddpm.log_snr(999.0) + np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum() * 9.6
    times = tuple(ddpm.time(lam).tolist())
    method = md.Multilevel(times=times, levels=("a", "c"), probabilities=(1.0, 0.5))
    with pytest.warns(md.PlanWarning, match="resonance: level c fires where steps are (14|15|5)[0-9]% of the average"):
        method.plan(ladder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        md.Multilevel(times=times, levels=("a", "c"), probabilities=(1.0, 0.47)).plan(ladder)


@pytest.mark.parametrize("method", [md.Euler(4), md.Multistep(4), md.Picard(4)], ids=repr)
def test_a_method_that_draws_nothing_makes_no_plan_in_its_runs(denoiser, method, monkeypatch):
    plan = method.plan(denoiser)
    monkeypatch.setattr(type(denoiser), "fingerprint", property(lambda _: pytest.fail("was not asked for")))
    assert md.sample(denoiser, method).plan is None
    assert plan.weights.shape == (1, 3, 1)


@pytest.mark.parametrize("method", [md.Euler(5), METHOD, md.PoissonMidpoint(5, substeps=3)], ids=repr)
def test_the_grid_of_a_run_is_computed_once(ladder, method, monkeypatch):
    asked = []
    whole = md.Diffusion.nodes
    monkeypatch.setattr(md.Diffusion, "nodes", lambda *a, **k: asked.append(a) or whole(*a, **k))
    md.sample(ladder, method)
    assert len(asked) == 1


@pytest.mark.parametrize("process", [md.Overdamped(2.0), md.Underdamped(2.0, friction=2.0)])
@pytest.mark.parametrize("order", [1, 2])
def test_midpoint_calls_of_langevin_dynamics_are_known_without_its_process(process, order):
    ladder = md.SyntheticLadder(3.0, levels=3).ladder()
    method = md.Multilevel(16, calls=(16, 5.3, 2), draws="midpoint", order=order)
    run = md.sample(ladder, method, process, count=2, progress=False)
    assert method.expected_calls(ladder) == dict(run.calls) == dict(method.plan(ladder, process).calls)
    assert method.cost(ladder).calls == method.expected_calls(ladder)
