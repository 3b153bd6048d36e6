"""What a round of Picard iteration does below its top level: integrate a cheap drift plus a stale difference.

With D^c the cheap drift and B_n a difference known at every step, a sweep makes new states from

    z_{n+1} = z_n + Δτ_n (D^c(x_n) + B_n) + ΔW_n

and remembers the D^c that it used. D^c = 0 leaves a prefix sum, which is plain Picard iteration.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from multidrift.methods.picard.difference import Difference, Held, Plus
from multidrift.methods.picard.front import Indices, Mask
from multidrift.methods.picard.points import Points

# Of a middle level within one round of the level above: a fixed number, so that no sample depends on the others.
INNER_ROUNDS = 2


class Sweep(Protocol):
    """One way to integrate a cheap drift plus a difference."""

    used: Tensor  # [N, count, …]: the cheap drift as it was when the present states were made

    def begin(self, starts: Indices) -> None:
        """First states of the points after each sample's point `starts`."""

    def adopt(self, starts: Indices) -> None:
        """Take the states from each sample's point `starts` on as they are: only `used` has to be found."""

    def run(self, difference: Difference, starts: Indices) -> None:
        """New states after each sample's point `starts`, with `difference` added to the cheap drift."""


class Zero:
    """D^c = 0: a sweep is a prefix sum of the difference alone."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self.used = points.like_drift()

    def begin(self, starts: Indices) -> None:
        self.points.fill(starts)

    def adopt(self, starts: Indices) -> None:
        """Nothing is known of D yet, and nothing is needed."""

    def run(self, difference: Difference, starts: Indices) -> None:
        for first, last in self.points.pieces(starts, difference.stops):
            self.points.scan(first, last, difference.at(first, last), starts)


class Level:
    """D^c of one level, integrated step by step; called once every `every` steps and held between the calls.

    Steps between two calls hold the value of the call before them, whichever sweep that was in, so that what a step
    holds settles when the states do. A call whose state has not changed since is not repeated.
    """

    def __init__(self, points: Points, level: str, every: int = 1) -> None:
        self.points, self.level, self.every = points, level, every
        self.used = points.like_drift()
        self._known: Mask = np.zeros((points.increments, points.count), dtype=np.bool_)
        self._heads = range(0, points.increments, every)

    def begin(self, starts: Indices) -> None:
        self.run(Held(self.points), starts)

    def adopt(self, starts: Indices) -> None:
        opened = self.points.front.open(starts)
        calls = opened & (np.arange(self.points.increments) % self.every == 0)[:, None]
        if calls.any():
            found = self.points.drift(self.level, calls)
            self.used = found.where(self.points.mask(calls, found), self.used)
        for step in range(self.points.increments):
            self._hold(step, opened[step])

    def run(self, difference: Difference, starts: Indices) -> None:
        for first, last in self.points.pieces(starts, (*self._heads, *difference.stops)):
            self._call(first, starts)
            for step in range(first, last):
                self._hold(step, (step >= starts) & (step < self.points.front.ends))
            self.points.scan(first, last, self.used[first:last] + difference.at(first, last), starts)

    def _call(self, step: int, starts: Indices) -> None:
        """D^c at a step for the samples whose state there is new."""
        new = (step < self.points.front.ends) & ((step > starts) | ((step == starts) & ~self._known[step]))
        if step % self.every == 0 and new.any():
            found = self.points.drift(self.level, new[None], step)
            self.used[step] = found.where(self.points.mask(new[None], found), self.used[step : step + 1])[0]

    def _hold(self, step: int, which: Mask) -> None:
        """Between two calls, the value of the step before."""
        if step % self.every:
            chosen = self.points.mask(which[None], self.used)[0]
            self.used[step] = self.used[step - 1].where(chosen, self.used[step])
        self._known[step] |= which


class Nested:
    """D^c of a middle level, by Picard iteration of its own on the difference to what lies below it."""

    def __init__(self, points: Points, level: str, below: Sweep) -> None:
        self.points, self.level, self.below = points, level, below
        self.used = points.like_drift()

    def begin(self, starts: Indices) -> None:
        self.below.begin(starts)
        self.run(Held(self.points), starts)

    def adopt(self, starts: Indices) -> None:
        self.below.adopt(starts)
        opened = self.points.front.open(starts)
        if opened.any():
            found = self.points.drift(self.level, opened)
            self.used = found.where(self.points.mask(opened, found), self.used)

    def run(self, difference: Difference, starts: Indices) -> None:
        opened = self.points.front.open(starts)
        if not opened.any():
            return
        chosen = self.points.mask(opened, self.used)
        for _ in range(INNER_ROUNDS):
            stale = self.points.drift(self.level, opened) - self.below.used
            self.below.run(Plus(difference, stale), starts)
            self.used = (self.below.used + stale).where(chosen, self.used)
