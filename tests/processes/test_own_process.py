"""A process that the package does not know: an Ornstein-Uhlenbeck process with a rotation, run by every method."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.fakes import F64

import multidrift as md
from multidrift.noise.lattice import Lattice, VarianceClock
from multidrift.processes.intervals import Interval, Intervals
from multidrift.processes.process import Process

TURN = 3.0  # ω
PULL = 0.5  # θ
RATE = 0.75  # the drift of most tests is −RATE·x


def turned(x, angle):
    """Points x [n, 2] turned by an angle, or one a row."""
    angle = torch.as_tensor(angle, dtype=x.dtype)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack((cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]), dim=-1)


@dataclasses.dataclass(frozen=True)
class TurningInterval(Interval):
    """z = e^{θ(t − anchor)} R(−ωt) x; `starts` and `stops` are t and s of each row."""

    starts: torch.Tensor
    stops: torch.Tensor

    def enter(self, x):
        return self.enter_factor * turned(x, -TURN * self.starts)

    def leave(self, z):
        return self.leave_factor * turned(z, TURN * self.stops)


class TurningIntervals(Intervals):
    """Intervals in the frame that turns along."""

    def _turning(self, plain, t, s):
        values = [getattr(plain, field.name) for field in dataclasses.fields(Interval)]
        return TurningInterval(*values, torch.as_tensor(t), torch.as_tensor(s))

    def each(self, like) -> Iterator[Interval]:
        for plain in super().each(like):
            yield self._turning(plain, plain.t, plain.s)

    def together(self, like):
        rows = (-1, *(1,) * (like.ndim - 2))  # the last axis turns
        return self._turning(super().together(like), self.t.reshape(rows), self.s.reshape(rows))


@dataclasses.dataclass(frozen=True)
class Turning(VarianceClock, Process):
    """dx = (−θx + ωJx + D) dt + √2 dB in the plane; in the frame that turns along, its noise is a Brownian motion."""

    horizon: float
    noise: float = 1.0

    drift_is = "score"
    model_schedule = None
    own_grid = "linspace"

    @property
    def noisy(self):
        return self.noise > 0

    @property
    def lattice(self):
        return Lattice(0.0, 2.0 ** math.ceil(math.log2(self.horizon)), 14)

    def log_variance(self, low, high):
        # v(t) = (e^{2θt} − 1)/θ
        return np.log(self.noise / PULL * np.expm1(2 * PULL * (np.asarray(high) - low))) + 2 * PULL * np.asarray(low)

    def nodes(self, steps, grid, *, integer):
        return np.linspace(0.0, self.horizon, steps + 1)

    def nodes_through(self, times, *, integer):
        return np.append(np.asarray(times, dtype=np.float64), self.horizon)

    def refined(self, nodes, grid, substeps):
        return np.interp(np.arange((len(nodes) - 1) * substeps + 1) / substeps, np.arange(len(nodes)), nodes)

    def relative_steps(self, nodes):
        return np.diff(nodes) / (nodes[-1] - nodes[0])

    def place(self, t):
        return np.array(t, dtype=np.float64)

    def time(self, place):
        return np.asarray(place, dtype=np.float64)

    def intervals(self, start, stop, anchor=None):
        t, s = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, np.float64)) for v in (start, stop)))
        unit = np.broadcast_to(s if anchor is None else np.asarray(anchor, np.float64), s.shape)
        with np.errstate(divide="ignore"):
            std = np.exp(0.5 * self.log_variance(t, s) - PULL * unit)
        return TurningIntervals(
            t=t, s=s, low=t, high=s, enter_factor=np.exp(PULL * (t - unit)), leave_factor=np.exp(PULL * (unit - s)),
            dtau=np.exp(PULL * (t - unit)) * np.expm1(PULL * (s - t)) / PULL, std=std,
        )  # fmt: skip

    def lift(self, drift, t):
        return turned(drift, -TURN * torch.as_tensor(t))

    def noise_size(self, times):
        steps = np.diff(times)
        return np.sqrt(2.0 * np.append(steps[0], steps))

    def start_std(self, t):
        return 1.0

    def to_dict(self):
        return {"process": "Turning", "horizon": self.horizon, "noise": self.noise}


def near(x):
    """The gradient of a log-density that turns nothing."""
    return -RATE * x


def other(x):
    return -RATE * x + 0.1 * torch.tanh(x)


PROCESS = Turning(2.0)
LADDER = md.Ladder([other, near], names=("other", "near"))
EULER = {"count": 5, "shape": (2,), **F64}


@pytest.fixture(scope="module")
def euler():
    return md.sample(near, md.Euler(16), PROCESS, **EULER).samples


@pytest.mark.parametrize(
    "method",
    [
        md.Multistep(16, order=1),
        md.Multilevel(16, levels=("other", "near"), probabilities=1.0),
        md.Multilevel(16, levels=("near",), calls=(16,), shared=False, draws="independent"),
        md.PoissonMidpoint(16, substeps=1),
        md.Picard(16, window=1),
        md.Picard(16, tolerance=1e-11),
        md.Picard(16, tolerance=1e-11, coarse="other"),
        md.Picard(16, tolerance=1e-11, coarse="other", accelerate="secant", blocks=2),
        md.Picard(16, tolerance=1e-11, accelerate="anderson", window=6),
    ],
    ids=repr,
)
def test_what_equals_eulers_path_elsewhere_equals_it_here(method, euler):
    found = md.sample(LADDER, method, PROCESS, **EULER)
    assert torch.allclose(found.samples, euler, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("method_of", "least"),
    [
        (md.Euler, 0.9),
        (md.Multistep, 1.8),
        (lambda n: md.PoissonMidpoint(n, draws="midpoint"), 1.8),
        (lambda n: md.Picard(n, tolerance=1e-12), 0.9),
        (lambda n: md.Multilevel(n, levels=("near",), calls=(n,), order=2), 1.8),
    ],
)
def test_the_paths_without_noise_are_those_of_the_equation(method_of, least):
    """x(T) = e^{−(θ + rate) T} R(ωT) x(0)."""
    start = torch.tensor([[1.0, 0.5], [-0.3, 2.0]], dtype=torch.float64)
    process = Turning(2.0, noise=0.0)
    wanted = turned(start, TURN * 2.0) * math.exp(-(PULL + RATE) * 2.0)
    errors = [
        float((md.sample(LADDER, method_of(n), process, start=start, **F64).samples - wanted).norm()) for n in (64, 256)
    ]
    assert math.log(errors[0] / errors[1]) / math.log(4) > least


@pytest.mark.parametrize(
    "method",
    [
        md.Euler(120),
        md.PoissonMidpoint(60, substeps=6),
        md.PoissonMidpoint(60, substeps=6, draws="single", reduce_noise=True),
        md.Multilevel(120, levels=("other", "near"), calls=(120, 60), shared=False),
    ],
    ids=repr,
)
def test_the_law_is_the_stationary_one(method):
    """Variance 1/(θ + rate) in both coordinates, uncorrelated; within 4.5 standard errors and a bias of the steps."""
    process, count = Turning(6.0), 4000
    x = md.sample(LADDER, method, process, count=count, shape=(2,), **F64).samples
    wanted = 1.0 / (PULL + RATE)
    bound = 4.5 * wanted * math.sqrt(2.0 / count) + 0.03
    assert float((x.square().mean(0) / 1.0 - wanted).abs().max()) < bound
    assert abs(float((x[:, 0] * x[:, 1]).mean())) < bound


def test_runs_of_any_number_of_steps_share_the_path():
    fine, coarse = (md.sample(lambda x: 0 * x, md.Euler(n), PROCESS, **EULER).samples for n in (64, 4))
    assert torch.allclose(fine, coarse, atol=1e-12)
