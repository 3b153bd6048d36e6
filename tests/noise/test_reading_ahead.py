"""Reading ahead: what a path gives does not depend on the points it was told of, bit for bit."""

import itertools
import math

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.noise import path as paths
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath

CLOCKS = {
    "diffusion": md.Diffusion(md.schedules.ddpm(), 1.0),
    "scaled": md.Diffusion(md.schedules.cosine(), 0.5, "noise", noise_scale=lambda t: 1 + t / 1000),
    "overdamped": md.Overdamped(8.0),
    "underdamped": md.Underdamped(8.0, friction=3.0),
}
# On the lattice and off it, far apart, and several within one cell (of both lattices).
POINTS = np.array([0.25, 1.0, 1.0001, 1.00012, 1.5, 2.7, 2.70001, 2.70002, 2.70004, 3.0, 4.5, 5.123, 6.0, 7.99])

# Sums of the increments of `path(clock, dtype=float64)` between these points, as version 0.1 read them.
WANTED = {
    "diffusion": [
        1.67034856762,
        -2.39558326929,
        0.16325236668,
        5.88222607096,
        7.6306835903,
        0.43546724352,
        0.43124506202,
        0.60008906097,
        0.5315531249,
        5.69412488439,
        4.3241099686,
        1.02807203337,
        6.40616787559,
    ],
    "underdamped": [
        -5.66828559522,
        -0.06806599984,
        0.02246919069,
        -8.40707563847,
        4.26810924931,
        0.00190708967,
        0.00404862791,
        0.01278800889,
        -7.12742826432,
        6.460584635,
        -0.77724606508,
        8.21393046502,
        0.58660768506,
    ],
}


class Counted(Keys):
    """Keys that remember how many draws each call took."""

    def normals(self, draws, shape, dtype):
        object.__setattr__(self, "calls", [*getattr(self, "calls", []), len(draws)])
        return super().normals(draws, shape, dtype)


def path(clock, coming=None, dtype=torch.float32, count=3, shape=(2, 5)):
    keys = Keys.of((4,) * count, range(count), Stream.NOISE, torch.device("cpu"))
    return BrownianPath(clock, Counted(keys.values), shape, dtype, coming)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CLOCKS)
def test_bit_equal(name, dtype):
    known, unknown = path(CLOCKS[name], POINTS, dtype), path(CLOCKS[name], None, dtype)
    for low, high in itertools.pairwise(POINTS.tolist()):
        assert torch.equal(known.increment(low, high), unknown.increment(low, high))
    assert len(known.keys.calls) == 3 < len(unknown.keys.calls)  # the whole, the way to the first point, all others
    assert known.draws == unknown.draws


@pytest.mark.parametrize("name", CLOCKS)
def test_bit_equal_where_the_points_are_left(name):
    """Queries between the coming points, over several of them, back to earlier ones, of rows at their own places."""
    known = path(CLOCKS[name], POINTS)
    rows, places = torch.tensor([0, 1, 2, 1]), np.array([1.2, 2.0, 2.700011, 6.5])
    for low, high in [(0.25, 1.0), (1.0, 1.3), (1.3, 2.7), (2.7, 3.0), (4.5, 6.0), (1.0, 1.0001), (1.0001, 1.00012)]:
        assert torch.equal(known.increment(low, high), path(CLOCKS[name]).increment(low, high))
        near = places + high
        found = known.increments(high, np.minimum(near, 7.9), rows)
        alone = path(CLOCKS[name]).increments(high, np.minimum(near, 7.9), rows)
        assert torch.allclose(found, alone, atol=1e-5)


def test_bit_equal_from_pure_noise_and_whatever_is_drawn_at_once(monkeypatch):
    clock = md.Diffusion(md.schedules.flow(), 1.0)
    points = np.concatenate([[-math.inf], np.linspace(-5.0, 4.0, 40)])
    wanted = [path(clock).increment(low, high) for low, high in itertools.pairwise(points.tolist())]
    for most in (1, 60, 1 << 20):
        monkeypatch.setattr(paths, "_DRAWN_AT_ONCE", most * 3 * 10)
        read = path(clock, points)
        found = [read.increment(low, high) for low, high in itertools.pairwise(points.tolist())]
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert max(read.keys.calls) <= max(most, 2)


@pytest.mark.parametrize("clock", ["diffusion", "underdamped"])
def test_an_old_path(clock):
    """What a seed draws does not change with a version."""
    wanted = WANTED[clock]
    read = path(CLOCKS[clock], POINTS, torch.float64)
    found = [float(read.increment(low, high).sum()) for low, high in itertools.pairwise(POINTS.tolist())]
    assert found == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize(
    "method",
    [
        md.Euler(12),
        md.LadderMultistep(6, levels=("f1", "f2"), substeps=3),
        md.Picard(12),
        md.PoissonMidpoint(6, substeps=4),
    ],
)
def test_methods_tell_where_they_read(method, monkeypatch):
    """Where a method reads from one known point to the next the noise of a short run is drawn in one go."""
    calls = []
    real = Keys.normals
    monkeypatch.setattr(Keys, "normals", lambda self, d, *rest: calls.append(len(d)) or real(self, d, *rest))
    schedule = md.schedules.ddpm()
    levels = [md.Denoiser(lambda x, t: 0.1 * x, schedule, name=name, shape=(2,)) for name in ("f1", "f2")]
    md.sample(md.Ladder(levels), method, md.Diffusion(schedule, 1.0), count=2)
    ahead = not isinstance(method, md.PoissonMidpoint)
    assert (len([n for n in calls if n > 1]) <= 2) == ahead  # on the way to the first point, and for all others
