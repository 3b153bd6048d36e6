"""The fixed lattice a Brownian path is built on: independent of the grid a run happens to use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


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
    """What a path must know of a process: its lattice, and how much variance lies between two points of it."""

    @property
    def lattice(self) -> Lattice:
        """The lattice the path is built on."""

    def log_variance(self, low: float, high: float) -> float:
        """log(v(high) − v(low)) for lattice coordinates low < high; −inf where no noise lies between them."""
