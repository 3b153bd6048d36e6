"""Memorised plans: the best of several draws stays better on other noise, and replays as it was measured."""

import pytest

import multidrift as md

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")


def test_the_best_of_fifteen_is_better_on_other_noise_than_a_draw_is(ddpm, tmp_path):
    ladder = md.SyntheticLadder(3.0, levels=2, size=2.0).ladder(ddpm)
    process = md.Diffusion(ddpm, 0.0)
    method = md.Multilevel(12, calls=(12, 4), draws="independent")
    found = md.memorise_plan(ladder, method, process, count=16, reference_steps=48)
    assert len(found.errors) == 15
    assert found.error < 0.7 * found.typical
    found.plan.save(tmp_path / "plan.json")
    again = md.sample(ladder, md.Plan.load(tmp_path / "plan.json"), process, count=4)
    best = min(range(15), key=found.errors.__getitem__)
    assert (again.samples == md.sample(ladder, method, process, count=4, plan_seed=best).samples).all()


def test_bad_input_is_refused(ddpm):
    ladder = md.SyntheticLadder(3.0, levels=2).ladder(ddpm)
    for method in (
        md.Euler(8),
        md.Multilevel(8, calls=(8, 4), shared=False),
        md.Multilevel(8, calls=(8, 4), draws="midpoint"),
    ):
        with pytest.raises(md.MultidriftError, match="method: got .*shared by the batch"):
            md.memorise_plan(ladder, method)
    with pytest.raises(md.MultidriftError, match="draws: got 0"):
        md.memorise_plan(ladder, md.Multilevel(8, calls=(8, 4)), draws=0)
