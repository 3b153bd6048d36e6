"""The fixed lattice a Brownian path is built on: independent of the grid a run happens to use."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from multidrift.basics.numbers import Floats

Places = Floats | float


@dataclass(frozen=True)
class Lattice:
    """2^depth equal cells from `low` to `high` in a process's own coordinate (λ for diffusion, t for Langevin).

    Where `unbounded_below`, one more cell reaches from −∞ to `low`.
    """

    low: float
    high: float
    depth: int
    unbounded_below: bool = False

    @property
    def cell(self) -> float:
        """The width of one cell."""
        return math.ldexp(self.high - self.low, -self.depth)


class NoiseClock(Protocol):
    """What a path must know of a process. Its noise over an interval is k independent standard normals, mixed.

    k is 1 for most; the noise of a position and a velocity that share one Brownian motion has k = 2. Places are
    lattice coordinates, numbers or arrays; results have the matrices on their last two axes.
    """

    @property
    def lattice(self) -> Lattice:
        """The lattice the path is built on."""

    @property
    def components(self) -> int:
        """K, the number of normals of an interval."""

    def rotation(self, low: Places, middle: Places, high: Places) -> Floats:
        """[…, 2k, 2k], orthogonal: the normals of the two halves from those of the whole and k fresh ones."""

    def reach(self, low: Places, high: Places, first: Places, last: Places) -> Floats:
        """[…, k, k]: what the normals of [low, high] add to the path's increment over a query [first, last]."""


class VarianceClock(ABC):
    """A noise clock with k = 1, given by how much variance lies between two places; increments have unit variance."""

    components = 1

    @abstractmethod
    def log_variance(self, low: Places, high: Places) -> Floats:
        """log(v(high) − v(low)) for lattice coordinates low < high; −inf where no noise lies between them."""

    def rotation(self, low: Places, middle: Places, high: Places) -> Floats:
        """The Brownian bridge: √f and √(1−f), f the share of the variance below `middle` (½ where there is none)."""
        whole = self.log_variance(low, high)
        with np.errstate(invalid="ignore"):
            share = np.minimum(np.exp(self.log_variance(low, middle) - whole), 1.0)
        share = np.where(np.isneginf(whole), 0.5, share)
        return bridge(share)

    def reach(self, low: Places, high: Places, first: Places, last: Places) -> Floats:
        """√(own variance / the query's)."""
        own, whole = self.log_variance(low, high), self.log_variance(first, last)
        with np.errstate(invalid="ignore"):
            return np.where(np.isneginf(own), 0.0, np.exp(0.5 * (own - whole)))[..., None, None]


def bridge(share: Floats) -> Floats:
    """[…, 2, 2]: the rotation of the Brownian bridge where the left half has this share of the variance."""
    near, far = np.sqrt(share), np.sqrt(1.0 - share)
    return np.stack((np.stack((near, far), axis=-1), np.stack((far, -near), axis=-1)), axis=-2)
