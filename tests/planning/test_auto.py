"""The choice for a budget: what it says, that it is the best of what was tried, and its error on new noise."""

import pytest
import torch

import multidrift as md
from multidrift.drifts.costs import Costs
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.laws import kernel_distance
from multidrift.planning.auto import auto_each
from multidrift.planning.candidates import Candidate, Prices, candidates, parallel
from multidrift.planning.trial import Judge, Measured, halving

SDE = 1.0
pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")


def problem(gamma, eta, **settings):
    schedule = md.schedules.ddpm()
    ladder = md.SyntheticLadder(gamma, **({"levels": 3, "size": 1.0, "unit": 1.0} | settings)).ladder(schedule)
    process = md.Diffusion(schedule, eta)
    return ladder, process, md.calibrate(ladder, process, costs=ladder.costs, paths=16)


@pytest.fixture(scope="module")
def smooth():
    return problem(3.0, 0.0, levels=2)


@pytest.fixture(scope="module")
def chosen():
    ladder, process, calibration = problem(3.0, SDE, levels=4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("multidrift.planning.candidates._MOST_STEPS", 64)
        return md.auto(ladder, process, calls=6, calibration=calibration, samples=8, reference_steps=128)


def test_several_levels_where_gamma_is_above_two_and_there_is_noise(chosen):
    assert "Several levels are better than fewer steps of f4 alone: Multilevel" in chosen.reason
    assert isinstance(chosen.method, md.Multilevel)
    assert len({measured.candidate.kind for measured in chosen.tried}) == 3


def test_fewer_steps_of_the_top_level_where_that_wins():
    ladder, process, calibration = problem(1.0, 0.0)
    choice = md.auto(ladder, process, calls=8, calibration=calibration, samples=8)
    assert "Fewer steps of f3 alone are better than any plan over the ladder" in choice.reason
    assert choice.method.levels_of(ladder).keys() == {"f3"}
    assert choice.seconds == pytest.approx(8 * ladder.costs.seconds["f3"])


def test_the_lower_level_where_the_top_one_says_the_same(ddpm):
    exact = md.SyntheticLadder(2.0).exact(ddpm)
    ladder = md.Ladder([exact.renamed("small"), exact.renamed("big")], costs=Costs({"small": 1.0, "big": 9.0}, 1, "?"))
    calibration = md.calibrate(ladder, costs=ladder.costs, paths=4)
    choice = md.auto(ladder, calls=6, calibration=calibration, samples=8)
    assert "A lower level alone is better than any use of big" in choice.reason
    assert list(md.sample(ladder, choice.method, count=2).calls) == ["small"]
    assert choice.seconds <= 54.0


def test_the_choice_is_no_worse_than_any_that_was_tried_to_the_end(chosen):
    final = [measured for measured in chosen.tried if measured.samples == 8]
    assert chosen.tried[0].score == min(measured.score for measured in final)
    assert all(measured.candidate.seconds <= 6 * 512 * 1.02 for measured in chosen.tried)


@pytest.mark.parametrize("eta", [0.0, SDE])
def test_the_predicted_error_is_that_on_new_noise(eta):
    """64 unseen samples predict the mean of 256 others within 30%: squared distances scatter by about their mean."""
    ladder, process, calibration = problem(3.0, eta, levels=2)
    choice = md.auto(ladder, process, calls=6, calibration=calibration, samples=64, reference_steps=48)
    found, reference = (
        [md.sample(ladder, m, process, count=64, seed=77, first=64 * n, plan_seed=n).samples for n in range(4)]
        for m in (choice.method, md.Multistep(48))
    )
    errors = squared_distances(torch.cat(found), torch.cat(reference))
    assert 0.7 < choice.error / float(errors.mean()) < 1.3
    assert 0.8 < choice.distance / float(errors.sqrt().mean()) < 1.25
    assert choice.distance_standard_error < choice.distance / 4
    assert f"mean distance {choice.distance:.3g}" in choice.reason


def test_every_candidate_is_paid_for_and_runs(smooth):
    ladder, process, calibration = smooth
    found = candidates(ladder, process, calibration, 6 * 8.0, "law")
    prices = Prices(ladder, process, calibration)
    labels = [candidate.label for candidate in found]
    for part in (
        "Euler f2",
        "Multistep f2",
        "Multistep f1",
        "LadderMultistep f2",
        "LadderMultistep f1+f2, 1 substep",
        "LadderMultistep f1+f2, 3 substeps",
        "PoissonMidpoint",
        "Multilevel f",
    ):
        assert any(label.startswith(part) for label in labels), part
    judge = Judge(ladder, process, "path", 40, 0)
    for candidate in found:
        assert prices.of(candidate.method) == candidate.seconds <= 6 * 8.0 * 1.02
        assert judge.measure(candidate, 2).error < float("inf"), candidate.label


def test_halving_keeps_the_best_and_one_of_each_kind(smooth):
    ladder, process, calibration = smooth
    found = candidates(ladder, process, calibration, 6 * 8.0, "path")
    ranked = halving(Judge(ladder, process, "path", 24, 0), found, 16)
    assert len(ranked) == len(found)
    assert {m.candidate.kind for m in ranked if m.samples == 16} == {"top", "level", "ladder"}
    assert sum(m.samples == 8 for m in ranked) >= len(found) // 3


@pytest.mark.parametrize("quality", ["path", "law"])
@pytest.mark.parametrize("draws", ["midpoint", "systematic"])
def test_what_is_measured_on_more_samples_goes_on_from_fewer(smooth, quality, draws):
    ladder, process, _ = smooth
    one = Candidate("", "ladder", md.Multilevel(6, calls=(6, 3), draws=draws), 1.0)
    judge = Judge(ladder, process, quality, 12, 0)
    further = judge.measure(one, 24, judge.measure(one, 8))
    whole = Judge(ladder, process, quality, 12, 0).measure(one, 24)
    assert further.error == pytest.approx(whole.error, rel=1e-5)
    assert further.samples == whole.samples == 24
    kept = (further.errors, whole.errors) if quality == "path" else (further.features, whole.features)
    assert torch.equal(*kept)


def test_samples_that_share_draws_are_drawn_several_times(smooth):
    """Of 32 samples 6 groups: 4 seeds' worth in the first 16, and two more."""
    ladder, process, _ = smooth
    seeds = []

    class Counting(Judge):
        def run(self, method, count, plan_seed=0, first=0):
            if isinstance(method, md.Multilevel):
                seeds.append((plan_seed, first, count))
            return super().run(method, count, plan_seed, first)

    one = Candidate("", "ladder", md.Multilevel(4, calls=(4, 2), draws="systematic"), 1.0)
    Counting(ladder, process, "path", 8, 0).measure(one, 32)
    assert seeds == [(0, 0, 4), (1, 4, 4), (2, 8, 4), (3, 12, 4), (4, 16, 8), (5, 24, 8)]


@pytest.mark.parametrize("quality", ["path", "law"])
def test_the_best_nodes_are_searched_where_evaluations_are_paid_for(ddpm, quality):
    """On a problem whose default nodes can be bettered: by three numbers from eight samples, on as many unseen ones."""
    ladder, process, calibration = problem(3.0, 0.0, levels=2, size=0.2)
    settings = {"calls": 8, "calibration": calibration, "samples": 16, "reference_steps": 96, "quality": quality}
    plain, found = (md.auto(ladder, process, evaluations=n, **settings) for n in (0, 24))
    final = [m for m in found.tried if m.samples == 16]
    assert [m.score for m in final] == sorted(m.score for m in final)
    assert len(found.tried) == len(plain.tried) + 1
    searched = [m for m in found.tried if m.candidate.label.endswith(", nodes searched")]
    assert len(searched) == 1
    kept = next(m for m in found.tried if m.candidate.label + ", nodes searched" == searched[0].candidate.label)
    assert searched[0].candidate.seconds == kept.candidate.seconds
    assert searched[0].score < 0.7 * kept.score


def test_one_sample_far_off_does_not_decide(smooth):
    """Mean squares say the second, mean distances the first: 31 of its 32 samples are ten times nearer."""
    ladder, process, _ = smooth
    near = torch.full((32,), 1e-4)
    near[0] = 1.0
    errors = {"near": near, "even": torch.full((32,), 1e-2)}

    class Known(Judge):
        def measure(self, candidate, count, before=None):
            found = errors[candidate.label][:count]
            return Measured(candidate, float(found.mean()), 0.0, float(found.sqrt().mean()), 0.0, count, found)

    both = [Candidate(name, "top", md.Euler(4), 1.0) for name in errors]
    ranked = halving(Known(ladder, process, "path", 8, 0), both, 32)
    assert [m.candidate.label for m in ranked] == ["near", "even"]
    assert ranked[0].error > ranked[1].error


def test_several_budgets_share_one_reference(smooth, monkeypatch):
    """Each choice is that of md.auto, and no sample of the reference (77 steps, as no candidate has) is run twice."""
    ladder, process, calibration = smooth
    settings = {"samples": 4, "reference_steps": 77}
    alone = [md.auto(ladder, process, calls=n, calibration=calibration, **settings) for n in (2, 4)]
    run, fine = Judge.run, []

    def counted(judge, method, count, plan_seed=0, first=0):
        if method.number_of_evaluations == 77:
            fine.append((judge.seed, first, count))
        return run(judge, method, count, plan_seed, first)

    monkeypatch.setattr(Judge, "run", counted)
    both = list(auto_each(ladder, process, calibration, (2.0, 4.0), **settings))
    assert [c.reason for c in both] == [c.reason for c in alone]
    assert len(fine) == 2  # one to choose with, one to validate on
    for calls, other in (((0.5, 2.0), process), ((2.0,), md.Diffusion(process.schedule, SDE))):
        with pytest.raises(md.MultidriftError, match="calls: got 0.5|eta = 0.0, not 1.0"):
            list(auto_each(ladder, other, calibration, calls, **settings))


def test_a_law_is_ranked_by_what_it_is_off_by_at_most(smooth):
    """A distance of -0.01 ± 0.05 is luck, 0.01 ± 0.001 is near; of paths the distance itself counts."""
    ladder, process, _ = smooth
    known = {"lucky": (-0.01, 0.05), "sure": (0.01, 0.001)}

    class Known(Judge):
        def measure(self, candidate, count, before=None):
            law = known[candidate.label]
            return Measured(candidate, *law, *law, count, features=torch.zeros(count, 1))

    both = [Candidate(name, "top", md.Euler(4), 1.0) for name in known]
    ranked = halving(Known(ladder, process, "law", 8, 0), both, 32)
    assert [m.candidate.label for m in ranked] == ["sure", "lucky"]
    assert ranked[0].distance > ranked[1].distance


@pytest.mark.parametrize("eta", [0.0, SDE])
def test_speculative_sampling_competes_where_there_is_noise(eta):
    schedule = md.schedules.ddpm()
    ladder, process = md.SyntheticLadder(3.0, levels=2).ladder(schedule), md.Diffusion(schedule, eta)
    found = parallel(ladder, process, 6)
    assert any("Speculative" in c.label for c in found) == (eta > 0)
    judge = Judge(ladder, process, "path", 12, 0)
    assert all(judge.measure(c, 2).error < float("inf") for c in found)


def test_a_latency_below_two_calls_of_the_top_level_takes_a_lower_one(smooth):
    ladder, process, calibration = smooth
    choice = md.auto(ladder, process, latency=1.5 * 8, calibration=calibration, samples=4, reference_steps=16)
    assert list(choice.method.levels_of(ladder)) == ["f1"]


def test_a_target_error_is_reached_at_the_least_price(monkeypatch):
    monkeypatch.setattr("multidrift.planning.auto._MOST_CALLS", 8)
    ladder, process, calibration = problem(3.0, 0.0, levels=2)
    choice = md.auto(ladder, process, error=0.01, calibration=calibration, samples=4, reference_steps=64)
    reached = [m for m in choice.tried if m.samples == 4 and m.error <= 0.01]
    assert choice.seconds == min(m.candidate.seconds for m in reached)
    assert "The cheapest of all that reach it" in choice.reason
    assert ("more than was asked for" in choice.reason) == (choice.error > 0.01)
    finer = md.auto(ladder, process, error=0.005, calibration=calibration, samples=4, reference_steps=64)
    assert choice.seconds < finer.seconds < 40  # of 64, where the budget that reaches it was doubled to
    cheaper = md.auto(ladder, process, seconds=0.8 * choice.seconds, calibration=calibration, samples=4)
    assert all(m.error > 0.01 for m in cheaper.tried)
    with pytest.raises(md.MultidriftError, match="error: got 1e-30; nothing reaches it within 8 calls"):
        md.auto(ladder, process, error=1e-30, calibration=calibration, samples=4, reference_steps=63)


def test_latency_lets_picard_compete_on_an_ideal_device():
    """Costs that are given count every invocation as one call, so that all steps at once take as long as one."""
    ladder, process, calibration = problem(4.0, 0.0, size=0.05, levels=2)
    choice = md.auto(ladder, process, latency=20 * 16.0, calibration=calibration, samples=4, reference_steps=64)
    assert any(m.candidate.label.startswith("Picard f2") and m.candidate.seconds <= 320 for m in choice.tried)


def test_the_law_is_judged_beside_a_reference_of_the_same_noise(smooth):
    ladder, process, calibration = smooth
    choice = md.auto(ladder, process, calls=4, calibration=calibration, quality="law", samples=32, reference_steps=32)
    assert choice.error < 0.1 * min(m.error for m in choice.tried if m.candidate.kind == "level")
    assert choice.reason.count("this at") == 1
    assert "times as far off" not in choice.reason
    assert any("PoissonMidpoint" in measured.candidate.label for measured in choice.tried)


def test_the_law_of_a_plan_is_judged_run_by_run(smooth):
    """All samples of a run follow one plan: pooled samples of several plans would be nearer than what a user gets."""
    ladder, process, _ = smooth
    method = md.Multilevel(8, calls=(4, 2), draws="independent")
    found = Judge(ladder, process, "law", 64, seed=5).measure(Candidate("shared", "ladder", method, 1.0), 8)
    reference = md.sample(ladder, md.Multistep(64), process, count=8, seed=5).samples.flatten(1)
    runs = [
        md.sample(ladder, method, process, count=4, seed=5, first=4 * plan, plan_seed=plan).samples.flatten(1)
        for plan in (0, 1)
    ]
    each = [
        kernel_distance(run, reference[4 * plan : 4 * plan + 4], coupled=True).value for plan, run in enumerate(runs)
    ]
    assert found.error == pytest.approx(sum(each) / 2)
    pooled = kernel_distance(torch.cat(runs), reference, coupled=True).value
    assert abs(found.error - pooled) > 0.1 * abs(pooled)
    still = md.Multilevel(8, calls=(4, 2), draws="midpoint")
    one = Judge(ladder, process, "law", 64, seed=5).measure(Candidate("still", "ladder", still, 1.0), 8)
    drawn = md.sample(ladder, still, process, count=8, seed=5).samples.flatten(1)
    assert one.error == pytest.approx(kernel_distance(drawn, reference, coupled=True).value)


def test_the_standard_error_of_a_path_covers_the_plans(smooth):
    """Within a run errors of the same luck agree: 16 samples of 4 plans are not 16 independent ones."""
    ladder, process, _ = smooth
    method = md.Multilevel(8, calls=(8, 2), draws="independent")
    judge = Judge(ladder, process, "path", 64, seed=5)
    found = judge.measure(Candidate("shared", "ladder", method, 1.0), 16)
    means = found.errors.reshape(4, 4).mean(dim=1)
    assert found.standard_error == pytest.approx(float(means.std()) / 2)
    own = judge.measure(Candidate("own", "ladder", md.Multilevel(8, calls=(8, 2), shared=False), 1.0), 16)
    assert own.standard_error == pytest.approx(float(own.errors.std()) / 4)
    assert own.distance == pytest.approx(float(own.errors.sqrt().mean()))
    assert own.distance_standard_error == pytest.approx(float(own.errors.sqrt().std()) / 4)


def test_bad_input_is_refused(smooth):
    ladder, process, calibration = smooth
    for settings, message in (
        ({}, "calls, seconds, error, latency: got ..; it takes one of them"),
        ({"calls": 5, "seconds": 1.0}, "got .'calls', 'seconds'."),
        ({"calls": 0.5}, "calls: got 0.5; it takes at least one call of f2"),
        ({"seconds": 7.0}, "seconds: got 7; it takes at least one call of f2, 8"),
        ({"latency": 1.0}, "latency: got 1; it takes at least one call of f2, 8"),
        ({"calls": float("nan")}, "calls: got nan"),
        ({"calls": 5, "quality": "taste"}, "quality: got 'taste'"),
        ({"calls": 5, "samples": 1}, "samples: got 1"),
        ({"calls": 5, "batch": 16}, "batches of 1, not 16"),
    ):
        with pytest.raises(md.MultidriftError, match=message):
            md.auto(ladder, process, calibration=calibration, **settings)
    with pytest.raises(md.MultidriftError, match="at least two levels"):
        md.auto(md.SyntheticLadder(2.5, levels=1).ladder(md.schedules.ddpm()), calls=5)
