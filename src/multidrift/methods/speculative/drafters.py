"""What a drafter asks for its D: nothing, a cheaper level, or Multilevel's estimate; and how its name is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats, aligned
from multidrift.methods.picard.front import Indices
from multidrift.methods.picard.points import Points
from multidrift.runs.plan import coefficients

FROZEN = "frozen"
Follows = Literal["held", "extrapolated"]
FOLLOWS: tuple[Follows, ...] = ("held", "extrapolated")


@dataclass(frozen=True)
class Drafter:
    """A drafter by name: its level, None for "frozen", and how it follows the difference to what it drafts for."""

    level: str | None
    follows: Follows | None

    @staticmethod
    def of(name: str) -> Drafter:
        """From "frozen", a level, or a level with "+held" or "+extrapolated"."""
        for follows in FOLLOWS:
            if name.endswith(f"+{follows}"):
                return Drafter(name.removesuffix(f"+{follows}"), follows)
        return Drafter(None, "held") if name == FROZEN else Drafter(name, None)


class Source(Protocol):
    """Where D of points steps[i] of samples rows[i] comes from, [m, …]."""

    def drift(self, points: Points, steps: Indices, rows: Indices) -> Tensor: ...


class Nothing:
    """D = 0, to which the last known prediction is added as a difference."""

    def drift(self, points: Points, steps: Indices, rows: Indices) -> Tensor:
        states = points.run.process.position(points.x[points.at(steps, rows)])
        return torch.zeros_like(points.run.process.lift(states, points.run.times[steps]))


@dataclass(frozen=True)
class Network:
    """D of a level."""

    level: str

    def drift(self, points: Points, steps: Indices, rows: Indices) -> Tensor:
        return points.drift_of(self.level, steps, rows)


@dataclass(frozen=True, eq=False)
class Telescope:
    """Multilevel's estimate Σ_k c_k D^k, each level called on the points where it counts alone.

    `weights` [N, levels]: of one plan for all samples.
    """

    levels: tuple[str, ...]
    weights: Floats

    def drift(self, points: Points, steps: Indices, rows: Indices) -> Tensor:
        factors = coefficients(self.weights)[steps]
        total = Nothing().drift(points, steps, rows)
        for k, level in enumerate(self.levels):
            chosen = np.flatnonzero(factors[:, k])
            if len(chosen):
                found = points.drift_of(level, steps[chosen], rows[chosen])
                weight = aligned(points.index(factors[chosen, k]).to(found), found)
                total = total.index_add(0, points.index(chosen), found * weight)
        return total
