"""Nodes of LadderMultistep: how they lie, and a search for those that suit a ladder."""

import numpy as np
import pytest
import torch
from tests.methods.test_ladder_multistep import ladder_of

import multidrift as md

LOPSIDED = md.CellNodes(first=-4.5, last=4.0, straight=1.0)


@pytest.fixture
def ladder():
    mixture = md.GaussianMixture([0.3, 0.7], [[-1.5, 0.5], [1.0, -0.5]], [0.05 * np.eye(2)] * 2)
    return ladder_of(mixture, md.schedules.ddpm())


def test_a_share_of_lambda_is_equal_steps_of_it():
    places = md.CellNodes(-3.0, 2.0, straight=1.0).places(6)
    assert np.allclose(places, np.linspace(-3.0, 2.0, 6), atol=1e-9)
    bent = md.CellNodes(-3.0, 2.0, straight=0.0).places(6)
    times = md.schedules.vp().time(bent)  # the clock that the rest is equal steps of
    assert np.allclose(np.diff(times), np.diff(times)[0], rtol=1e-3)


def test_the_nodes_are_those_of_a_run(ladder):
    process, nodes = md.Diffusion(ladder.schedule, 0.0), md.CellNodes(-3.0, 2.0, straight=0.5)
    method = md.LadderMultistep(6, levels=("a", "b"), nodes=nodes, start="b")
    times = method.for_model(ladder, process).grid_for(process)
    assert len(times) == 7
    assert np.allclose(ladder.schedule.log_snr(times[1:-1]), nodes.places(5), atol=1e-6)


def test_a_search_beats_poor_nodes_on_noise_it_has_not_seen(ladder, tmp_path):
    """From nodes that waste the early ones; interval over 48 samples of other noise. What is found is replayed."""
    process = md.Diffusion(ladder.schedule, 0.0)
    poor = md.LadderMultistep(7, levels=("a", "b"), nodes=LOPSIDED)
    found = md.search_nodes(ladder, poor, process, paths=32, evaluations=25, validation=48, reference_steps=60)
    assert found.evaluations <= 28
    assert found.ratio[0] <= found.ratio[2] < 0.8
    found.method.plan(ladder, process).save(tmp_path / "plan.json")
    again = md.sample(ladder, md.Plan.load(tmp_path / "plan.json"), process, count=2).samples
    assert torch.equal(again, md.sample(ladder, found.method, process, count=2).samples)


def test_a_search_that_finds_nothing_better_keeps_what_was_there(ladder):
    method = md.LadderMultistep(5, levels=("a", "b"))
    found = md.search_nodes(ladder, method, paths=2, evaluations=1, validation=2, reference_steps=20)
    assert found.ratio == (1.0, 1.0, 1.0)
    assert not found.converged


WRONG = {
    "nodes: got .*first < last": lambda _: md.CellNodes(1.0, 1.0),
    "straight: got 2.0; it takes a number from -1 to 1": lambda _: md.CellNodes(-1.0, 1.0, 2.0),
    "straight: got -1.0; it takes a number nearer to 0": lambda _: md.CellNodes(-5.0, 4.0, -1.0),
    "first: got nan": lambda _: md.CellNodes(float("nan"), 1.0),
    "nodes: got .*None where there is a grid": lambda _: md.LadderMultistep(5, "karras", nodes=LOPSIDED),
    "nodes: got .*first, last, straight": lambda _: md.LadderMultistep(5, nodes={"end": 1.0}),
    "method: got 'karras'": lambda ladder: md.search_nodes(ladder, md.LadderMultistep(5, "karras")),
    "method: .*a LadderMultistep": lambda ladder: md.search_nodes(ladder, md.Euler(5)),
    "process: got Overdamped": lambda ladder: md.search_nodes(ladder, md.LadderMultistep(5), md.Overdamped(1.0)),
    "paths: got 1": lambda ladder: md.search_nodes(ladder, md.LadderMultistep(5), paths=1),
    "nodes: .*None for Overdamped": lambda _: md.LadderMultistep(5, nodes=LOPSIDED).grid_for(md.Overdamped(1.0)),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_nodes_are_refused(ladder, message):
    with pytest.raises(md.MultidriftError, match=message):
        WRONG[message](ladder)
