"""What the rounds add to the cheap drift of a sweep: the difference to the top level, held or followed along a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.numbers import aligned
from multidrift.methods.picard.front import Mask
from multidrift.methods.picard.points import Points


class Difference(Protocol):
    """B of every step; `stops`: where a sweep has to have its states ready before it may go on asking."""

    @property
    def stops(self) -> Sequence[int]: ...

    def at(self, first: int, last: int) -> Tensor:
        """B at steps first … last − 1, [last − first, count, …], once the states at step `first` are known."""


class Held:
    """B as it was found at the states before the sweep."""

    stops: Sequence[int] = ()

    def __init__(self, points: Points) -> None:
        self.points = points
        self.values = points.like_drift()

    def found(self, values: Tensor, opened: Mask) -> None:
        """New values [N, count, …] where points are open."""
        self.values = values.where(self.points.mask(opened, values), self.values)

    def at(self, first: int, last: int) -> Tensor:
        return self.values[first:last]


class Secant(Held):
    """B followed along the line through the two states x' and x_n at which it was found last.

        B(x) ≈ B_n + γ (B_n − B'),      γ = ⟨x − x_n, x_n − x'⟩ / ‖x_n − x'‖²

    for every time point and sample on its own, at no call of a network. Where the states stand still it adds nothing,
    so that the limit is the same and the first n points are exact after n rounds. A sweep has to go step by step.
    Source: parareal's enhancement by earlier iterates (Gander and Petcu 2008), with one of them, on the drift.
    """

    def __init__(self, points: Points) -> None:
        super().__init__(points)
        self.stops = range(points.increments)
        self._states = self._positions().clone()
        self._moved = torch.zeros_like(self._states)  # x_n − x'
        self._turned = torch.zeros_like(self.values)  # B_n − B'
        self._known: NDArray[np.bool_] = np.zeros((points.increments, points.count), dtype=np.bool_)

    def _positions(self, first: int = 0, last: int | None = None) -> Tensor:
        """The states as they are now; of a process with velocities, on which B does not depend, their positions."""
        return self.points.run.process.position(self.points.x[:-1][first:last])

    def found(self, values: Tensor, opened: Mask) -> None:
        states = self._positions()
        new, twice = (self.points.mask(chosen, states) for chosen in (opened, opened & self._known))
        self._moved = torch.where(twice, states - self._states, self._moved)
        self._turned = torch.where(self.points.mask(opened & self._known, values), values - self.values, self._turned)
        self._states = torch.where(new, states, self._states)
        self._known |= opened
        super().found(values, opened)

    def at(self, first: int, last: int) -> Tensor:
        now, moved = self._positions(first, last) - self._states[first:last], self._moved[first:last]
        along = (now * moved).flatten(2).sum(2, dtype=torch.float64)
        length = moved.square().flatten(2).sum(2, dtype=torch.float64)
        # The length is 0 in the first round; the quotient must be finite there, too, for gradients.
        share = torch.where(length > 0, along / torch.where(length > 0, length, 1.0), 0.0).to(now)
        turned = self._turned[first:last]
        return super().at(first, last) + aligned(share, turned) * turned


class Plus:
    """A difference with known values [N, count, …] on top."""

    def __init__(self, difference: Difference, more: Tensor) -> None:
        self.difference, self.more = difference, more

    @property
    def stops(self) -> Sequence[int]:
        return self.difference.stops

    def at(self, first: int, last: int) -> Tensor:
        return self.difference.at(first, last) + self.more[first:last]
