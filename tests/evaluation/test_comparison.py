"""Methods side by side: equal costs, paired errors, and the pictures of them."""

import dataclasses

import pytest
import torch
from PIL import Image

import multidrift as md
from multidrift.drifts.costs import Costs
from multidrift.evaluation.coupled import Contender, affordable, compare, equal_cost, squared_distances
from multidrift.evaluation.demonstration import contenders
from multidrift.report.comparison import error_plot, picture, table

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
SECONDS = {"f1": 0.1, "f5": 1.0}
LEVELS = ("f1", "f5")


@pytest.fixture
def ladder(ddpm):
    levels = [
        md.Denoiser(lambda x, t, s=s: torch.tanh(x) * s, ddpm, "sample", name=n, shape=(1, 8, 8))
        for n, s in (("f1", 0.9), ("f5", 1.0))
    ]
    return md.Ladder(levels, costs=Costs(SECONDS, 4, "test"))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_contenders_of_equal_cost_cost_the_same(ladder, ddpm, eta):
    process = md.Diffusion(ddpm, eta)
    *contenders, corrected = equal_cost(ladder, process, 30, 80, LEVELS, LEVELS)
    costs = [c.method.cost(ladder).seconds for c in contenders]
    # A multilevel run calls f1 at every step but the last; midpoint draws round to whole calls.
    assert costs == pytest.approx([30 / 4] * len(costs), abs=1 / 4)
    with pytest.raises(md.MultidriftError, match="budget: got 5.*for 80 steps of f1"):
        equal_cost(ladder, process, 5, 80, LEVELS, LEVELS)
    # The last one takes as many calls as the budget pays: one more would be above it. More cheap steps with noise.
    assert corrected.label == "LadderMultistep, f1+f5"
    assert corrected.method.cost(ladder).seconds <= 30 / 4
    one_more = dataclasses.replace(corrected.method, steps=corrected.method.steps + 1)
    assert one_more.cost(ladder).seconds > 30 / 4
    assert corrected.method.substeps == {0.0: 1, 1.0: 3}[eta]
    result = md.sample(ladder, corrected.method, process, count=2)
    assert result.calls == dict(corrected.method.cost(ladder).calls)


def test_a_budget_of_too_few_calls_is_refused(ladder, ddpm):
    process = md.Diffusion(ddpm)
    assert affordable(ladder, process, 4.5, LEVELS).steps == 3
    with pytest.raises(md.MultidriftError, match="budget: got 3; it takes more calls, for 3 of f5"):
        affordable(ladder, process, 3, LEVELS)
    with pytest.raises(md.MultidriftError, match="ladder: got .*measured"):
        affordable(md.Ladder(list(ladder)), process, 30, LEVELS)


def test_the_demonstration_bears_costs_of_a_busy_machine(ddpm):
    """Where a small network costs nearly what the big one does, fewer steps of it are taken; nothing is refused."""
    ladder = md.Ladder.bundled("digits")
    for f1, f2 in ((0.02, 0.1), (0.3, 0.5), (0.6, 0.6)):
        costs = Costs({"f1": f1, "f2": f2, "f3": 1.0, "f4": 1.0, "f5": 1.0, "gaussian": 0.01}, 2, "test")
        process = md.Diffusion(ddpm)
        for budget, group in contenders(md.Ladder(list(ladder), costs=costs), process).items():
            assert len(group) == 5
            assert all(c.method.cost(ladder).calls["f5"] <= budget for c in group)


def test_a_bar_counts_the_states_that_a_run_yields(ladder, ddpm):
    """What the demonstration's progress is out of: a time of the grid each."""
    process = md.Diffusion(ddpm)
    for contender in equal_cost(ladder, process, 20, 30, LEVELS, LEVELS):
        ticks = []
        md.sample(ladder, contender.method, process, count=1, callback=ticks.append)
        assert len(ticks) == len(contender.method.grid_for(process)), contender.label


def test_outcomes_are_errors_to_the_reference(ladder, ddpm):
    process = md.Diffusion(ddpm)
    reference = md.sample(ladder, md.Euler(50), process, count=3).samples
    contenders = [
        Contender("itself", md.Euler(50)),
        Contender("coarse", md.Euler(8)),
        Contender("drawn", md.Multilevel(20, calls=(20, 6)), (0, 1, 2)),
    ]
    ticks = []
    outcomes = {o.label: o for o in compare(ladder, reference, contenders, process, tick=ticks.append)}
    assert outcomes["itself"].mean == 0
    assert outcomes["coarse"].errors.shape == (1, 3)
    assert outcomes["drawn"].errors.shape == (3, 3)
    assert outcomes["drawn"].spread > 0
    assert outcomes["coarse"].spread == 0
    again = md.sample(ladder, md.Multilevel(20, calls=(20, 6)), process, count=3, plan_seed=2).samples
    assert torch.allclose(outcomes["drawn"].errors[2], squared_distances(again, reference))
    assert len(ticks) == 50 + 8 + 3 * 20


def test_distances_are_per_coordinate():
    assert squared_distances(torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)).tolist() == [1, 1]
    with pytest.raises(md.MultidriftError, match="samples: got"):
        squared_distances(torch.ones(2, 3), torch.zeros(3, 3))


def test_pictures_appear_whole(ladder, ddpm, tmp_path):
    reference = md.sample(ladder, md.Euler(9), count=4).samples
    outcomes = compare(ladder, reference, [Contender("Euler", md.Euler(5))], md.Diffusion(ddpm))
    picture(reference, "Reference", outcomes, tmp_path / "new" / "picture.png")
    later = [dataclasses.replace(o, seconds=2 * o.seconds) for o in outcomes]
    error_plot({"Euler": [*outcomes, *later]}, "title", tmp_path / "new" / "plot.png")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["picture.png", "plot.png"]
    assert all(Image.open(p).size[0] > 300 for p in (tmp_path / "new").iterdir())
    with pytest.raises(md.MultidriftError, match="path: could not write"):
        picture(reference, "Reference", outcomes, tmp_path / "picture.unknown")


def test_table_has_a_row_a_method(ladder, ddpm):
    process = md.Diffusion(ddpm)
    reference = md.sample(ladder, md.Euler(9), count=2).samples
    outcomes = compare(ladder, reference, equal_cost(ladder, process, 14, 30, LEVELS, LEVELS), process)
    assert table(outcomes, "title").row_count == len(outcomes)


def test_the_table_says_where_seconds_are_not_the_planned_ones(ladder, ddpm):
    """A fifth off is let pass; more is shown beside the plan, with a note."""
    reference = md.sample(ladder, md.Euler(9), count=3).samples
    (found,) = compare(ladder, reference, [Contender("Euler", md.Euler(8))], md.Diffusion(ddpm))
    assert found.planned == pytest.approx(8 * 1.0 * 3 / 4)  # 8 calls of f5, a second for 4 samples, 3 samples
    for seconds, told in ((6.0, False), (7.1, False), (4.9, False), (7.3, True), (4.7, True)):
        shown = table([dataclasses.replace(found, seconds=seconds)], "title")
        cell = next(iter(shown.columns[1].cells))
        assert cell == (f"{seconds:.2f} (planned 6.00)" if told else f"{seconds:.2f}")
        assert ("not equal seconds" in str(shown.caption)) == told
    assert table([dataclasses.replace(found, planned=None)], "title").caption is None
