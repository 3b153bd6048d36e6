"""Intervals: what the coordinate z is, and that many steps taken together are those taken one by one."""

import dataclasses

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.processes.intervals import Interval, Intervals, PhaseInterval

F64 = torch.float64
PLAIN = Interval(t=0.5, s=0.7, low=1.0, high=2.0, enter_factor=4.0, leave_factor=0.25, dtau=3.0, std=5.0)
PHASE = PhaseInterval(**vars(PLAIN), friction=2.0)

COLUMNS = np.arange(8.0 * 3).reshape(8, 3) + 2.0  # a different number for each field of each of three intervals


def test_the_coordinate_of_a_state_is_its_multiple():
    x = torch.tensor([[1.0, -3.0]], dtype=F64)
    assert PLAIN.enter(x).tolist() == [[4.0, -12.0]]
    assert PLAIN.leave(x).tolist() == [[0.25, -0.75]]


def test_the_coordinates_of_position_and_velocity():
    """z = (u + w/γ, 4w) for x = (u, w), and back: w = z₂/4, u = z₁ − w/γ."""
    x = torch.tensor([[[1.0, 6.0], [-2.0, 3.0]]], dtype=F64)
    assert PHASE.enter(x).tolist() == [[[4.0, 24.0], [-0.5, 12.0]]]
    assert PHASE.leave(x).tolist() == [[[0.25, 1.5], [-2.375, 0.75]]]


def test_chosen_intervals_are_whole():
    """Every field follows, in the order asked for."""
    names = [field.name for field in dataclasses.fields(Intervals) if field.name != "friction"]
    every = Intervals(**dict(zip(names, COLUMNS, strict=True)))
    taken = every.take(np.array([2, 0]))
    for name, column in zip(names, COLUMNS, strict=True):
        assert getattr(taken, name).tolist() == [column[2], column[0]], name


@pytest.mark.parametrize("state", [(), (2,), (2, 5)], ids=str)
def test_intervals_together_are_each_of_them(state):
    plain = Intervals(*COLUMNS)
    like = torch.zeros(3, *state, dtype=F64)
    together, each = plain.together(like), list(plain.each(like))
    assert len(plain) == len(each) == 3
    assert [list(dataclasses.astuple(one)) for one in each] == COLUMNS.T.tolist()
    assert (together.t, together.s, together.low, together.high) == tuple(COLUMNS[:4, 0])
    for field in ("enter_factor", "leave_factor", "dtau", "std"):
        found = getattr(together, field)
        assert found.dtype == F64
        assert found.shape == (3,) + (1,) * len(state)  # multiplies states row by row
        assert found.flatten().tolist() == [getattr(one, field) for one in each]


@pytest.mark.parametrize("state", [(2,), (5, 2)], ids=str)
def test_intervals_of_pairs_together_are_each_of_them(state):
    pairs = np.arange(12.0).reshape(2, 3, 2)
    phase = Intervals(*COLUMNS[:6], *pairs, friction=2.0)
    like = torch.zeros(3, *state, dtype=torch.float32)
    together, each = phase.together(like), list(phase.each(like))
    assert (together.t, together.s, together.low, together.high) == tuple(COLUMNS[:4, 0])
    assert [(e.t, e.s, e.low, e.high, e.enter_factor, e.leave_factor) for e in each] == [*map(tuple, COLUMNS[:6].T)]
    for field, values in zip(("dtau", "std"), pairs, strict=True):
        assert [getattr(one, field).tolist() for one in each] == values.tolist()
        found = getattr(together, field)
        assert found.dtype == torch.float32
        assert found.shape == (3, *(1,) * (len(state) - 1), 2)
        assert found.flatten().tolist() == values.flatten().tolist()
    x = torch.randn(3, *state, generator=torch.Generator().manual_seed(0))
    for whole, one in ((together.enter(x), "enter"), (together.leave(x), "leave")):
        assert torch.equal(whole, torch.stack([getattr(e, one)(row) for e, row in zip(each, x, strict=True)]))


def test_a_step_taken_in_steps_of_one_anchor(ddpm):
    """Values from a whole process: z(s) of a step in z is the next step's z(t), so that x need not be left between."""
    process, times = md.Diffusion(ddpm), np.array([700.0, 500.0, 200.0])
    x = torch.tensor([[0.3, -1.2]], dtype=F64)
    first, second = process.intervals(times[:-1], times[1:], anchor=np.full(2, 200.0)).each(x)
    assert torch.allclose(second.enter(first.leave(x)), x, rtol=1e-12)
