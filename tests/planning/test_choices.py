"""What a choice claims, and choices for an error, of Langevin dynamics, and of searched nodes."""

from dataclasses import replace

import pytest
import torch

import multidrift as md
from multidrift.evaluation.coupled import squared_distances
from multidrift.methods.ladder_multistep.nodes import default_nodes
from multidrift.planning.auto import _preferred, _reaching, _Search
from multidrift.planning.candidates import Candidate
from multidrift.planning.nodes import LeastNodes
from multidrift.planning.reason import reason
from multidrift.planning.trial import Judge, Measured, halving

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")


@pytest.fixture(scope="module")
def smooth():
    schedule = md.schedules.ddpm()
    ladder = md.SyntheticLadder(3.0, levels=2, size=1.0, unit=1.0).ladder(schedule)
    process = md.Diffusion(schedule, 0.0)
    return ladder, process, md.calibrate(ladder, process, costs=ladder.costs, paths=16)


def test_an_error_that_two_calls_of_the_cheapest_level_reach_costs_no_more_than_they_do(smooth):
    ladder, process, calibration = smooth
    choice = md.auto(ladder, process, error=100.0, calibration=calibration, samples=4, reference_steps=16)
    assert list(choice.method.levels_of(ladder)) == ["f1"]
    assert choice.seconds == pytest.approx(2 * calibration.cost("f1"))


@pytest.mark.parametrize("process", [md.Overdamped(2.0), md.Underdamped(2.0, friction=2.0)])
def test_langevin_dynamics_has_a_best_method_too(process):
    ladder = md.SyntheticLadder(3.0, levels=2).ladder()
    calibration = md.calibrate(ladder, process, costs=ladder.costs, paths=4)
    choice = md.auto(ladder, process, calls=6, calibration=calibration, samples=8, reference_steps=64)
    assert choice.seconds <= 6 * calibration.cost("f2") * 1.02
    assert all(m.error < float("inf") for m in choice.tried)
    assert {m.candidate.kind for m in choice.tried} == {"top", "level", "ladder"}
    fine = md.Euler(64) if process.has_velocity else md.Multistep(64)
    found, reference = (md.sample(ladder, m, process, count=64, seed=77).samples for m in (choice.method, fine))
    assert 0.5 < choice.distance / float(squared_distances(found, reference).sqrt().mean()) < 2.0


def test_a_choice_that_is_as_good_and_simpler_is_not_called_better(smooth):
    """Within 3% the top level alone is taken, and the reason says that it is as good."""
    top, several = (
        Measured(Candidate(kind, kind, md.Euler(4), 1.0), 0.0, 0.0, away, 0.0, 8, torch.full((8,), away**2))
        for kind, away in (("top", 1.02), ("ladder", 1.0))
    )
    ranked = [several, top]
    assert _preferred(ranked) is top
    told = reason(top, ranked, top, "f2", "calls=4")
    assert "as good as the best plan" in told
    assert "better than any plan" not in told
    assert "better than any plan" in reason(top, [top, several], top, "f2", "calls=4")


def test_of_what_reaches_an_error_the_cheapest_is_taken():
    """It need not be the nearest; what was dropped on fewer samples is not taken."""
    ranked = [
        Measured(Candidate("", "top", md.Euler(4), seconds), error, 0.0, error**0.5, 0.0, samples)
        for seconds, error, samples in ((3.0, 0.1, 8), (2.0, 0.2, 8), (1.0, 0.4, 8), (0.5, 0.1, 4))
    ]
    assert [_reaching(ranked, error) for error in (0.05, 0.1, 0.3, 1.0)] == [None, *ranked[:3]]


def test_a_law_reaches_what_it_surely_reaches():
    """Its distance is unbiased, and luck may put it below anything: a standard error on top has to reach it, too."""
    features = torch.zeros(8, 1)
    ranked = [
        Measured(Candidate("", "top", md.Euler(4), seconds), *law, *law, 8, features=features)
        for seconds, law in ((1.0, (-300.0, 310.0)), (2.0, (0.01, 0.05)), (3.0, (0.02, 0.01)))
    ]
    assert [_reaching(ranked, error) for error in (0.01, 0.04, 0.07, 11.0)] == [None, ranked[2], ranked[1], ranked[0]]


def test_an_error_is_looked_for_where_the_cheapest_level_costs_nothing(smooth):
    ladder, process, calibration = smooth
    free = replace(calibration, seconds={"f1": 0.0, "f2": 1.0})
    choice = md.auto(ladder, process, error=100.0, calibration=free, samples=4, reference_steps=16)
    assert (list(choice.method.levels_of(ladder)), choice.seconds) == (["f1"], 0.0)
    with pytest.raises(md.MultidriftError, match="calibration: got 0.0; it takes a cost of f2 above 0"):
        md.auto(ladder, process, calls=4, calibration=replace(calibration, seconds={"f1": 0.0, "f2": 0.0}))


def test_the_last_budget_tried_is_the_most_that_is_promised(smooth, monkeypatch):
    ladder, process, calibration = smooth
    tried = []
    monkeypatch.setattr("multidrift.planning.auto._MOST_CALLS", 5)

    def rank(self, budget):
        tried.append(budget / self.one)
        return [Measured(Candidate("", "top", md.Euler(4), 1.0), 1.0, 0.0, 1.0, 0.0, 4, torch.ones(4))]

    monkeypatch.setattr(_Search, "rank", rank)
    with pytest.raises(md.MultidriftError, match="nothing reaches it within 5 calls; the best had 1"):
        md.auto(ladder, process, error=0.5, calibration=calibration, samples=4)
    assert tried == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, 5.0])


def test_a_calibration_used_by_force_has_the_same_candidates(smooth):
    """Multilevel among them, whose allocation reads the calibration itself."""
    ladder, process, calibration = smooth
    elsewhere = replace(calibration, spread=dict.fromkeys(ladder.names, 0.0), machine="a phone")
    settings = {"calls": 4, "samples": 4, "reference_steps": 16}
    with pytest.warns(md.CalibrationWarning, match="used by force") as told:
        forced = md.auto(ladder, process, calibration=elsewhere, force=True, **settings)
    assert len(told) == 1
    own = md.auto(ladder, process, calibration=calibration, **settings)
    assert [m.candidate.label for m in forced.tried] == [m.candidate.label for m in own.tried]
    assert any("Multilevel" in m.candidate.label for m in forced.tried)


def test_what_is_dropped_comes_out_in_order(smooth):
    """The last round's first, then what each round before dropped, the best first."""
    ladder, process, _ = smooth

    class Known(Judge):
        def measure(self, candidate, count, before=None):
            errors = torch.full((count,), candidate.seconds**2)
            return Measured(candidate, candidate.seconds**2, 0.0, candidate.seconds, 0.0, count, errors)

    all_of_them = [Candidate("", "top", md.Euler(4), float(away)) for away in (5, 3, 8, 1, 7, 2, 6, 4, 9, 10, 11, 12)]
    ranked = halving(Known(ladder, process, "path", 8, 0), all_of_them, 32)
    assert [m.candidate.seconds for m in ranked] == [float(n) for n in range(1, 13)]
    assert [m.samples for m in ranked] == [32] * 3 + [16] * 3 + [8] * 6


def test_nodes_come_first_only_where_they_are_better_on_samples_not_searched_on(smooth, monkeypatch):
    """Fitted to the first half: 0 there, and as bad again on the second half as what it is compared with."""
    ladder, process, calibration = smooth
    found = {"plain": torch.full((8,), 1.0), "nodes": torch.cat([torch.zeros(4), torch.full((4,), 1.1)])}

    class Known(Judge):
        def measure(self, candidate, count, before=None):
            errors = found["nodes" if "nodes" in candidate.label else "plain"]
            return Measured(candidate, float(errors.mean()), 0.0, float(errors.sqrt().mean()), 0.0, count, errors)

    method = md.LadderMultistep(4, levels=("f1", "f2"))
    monkeypatch.setattr(
        "multidrift.planning.auto.least_nodes", lambda *_: LeastNodes(default_nodes(process, 2), 1, converged=True)
    )
    search = _Search(ladder, process, calibration, "path", None, 8, 16, 5, 0)
    judge = Known(ladder, process, "path", 16, 0)
    plain = judge.measure(Candidate("plain", "ladder", method, 1.0), 8)
    first, second = search.searched(judge, [plain])
    assert first is plain
    assert second.score < first.score
    found["nodes"] = torch.cat([torch.full((4,), 2.0), torch.full((4,), 0.9)])
    assert search.searched(judge, [plain])[0] is plain
    found["nodes"] = torch.full((8,), 0.9)
    assert search.searched(judge, [plain])[1] is plain


def test_plans_are_made_with_a_calibration_of_this_machine(smooth):
    ladder, process, calibration = smooth
    elsewhere = replace(calibration, spread=dict.fromkeys(ladder.names, 0.0), machine="a phone")
    plan = {"levels": ("f1", "f2"), "steps": 8, "calls": 4, "paths": 2, "iterations": 4, "validation": 4}
    for call, settings in ((md.allocate, {"seconds": 20.0}), (md.learn_plan, plan)):
        with pytest.raises(md.MultidriftError, match="was taken on another machine .a phone, not .* threads"):
            call(ladder, elsewhere, process, **settings)
        with pytest.warns(md.CalibrationWarning, match="used by force"):
            call(ladder, elsewhere, process, force=True, **settings)
