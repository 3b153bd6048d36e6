"""Chains of drafted points: a leaf drafts step by step, a chain above it verifies what the one below has drafted.

Every chain has a drift of its own, D^own, to which the difference to the chain above may be added: D. Its states follow
x_{n+1} ~ N(enter(x_n) + Δτ D(x_n), C Cᵀ) exactly; `noise` is ΔW about that mean. For a leaf that is the run's own path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.methods.picard.front import Indices
from multidrift.methods.picard.points import Points
from multidrift.methods.speculative.block import Renewal, verify_blocks
from multidrift.methods.speculative.difference import Differences
from multidrift.methods.speculative.drafters import Source
from multidrift.methods.speculative.verify import Verdict, verify
from multidrift.runs.transitions import StepNoise

_DEPTH = 1 << 57  # between the draws of one chain and the next: more than a run has steps and attempts
Follow = Callable[[Tensor, NDArray[np.bool_]], Differences]  # from D^own and where it is known


class Chain(Protocol):
    """Drafts points: `drift` [N, count, …] is its D at every step drafted so far, `noise` ΔW about that mean."""

    drift: Tensor
    noise: Tensor

    def extend(self, starts: Indices, ends: Indices) -> None:
        """Draft each sample's points after `starts`, which is final, up to `ends`."""


class Leaf:
    """Drafts step by step, with D of its source at every `every`-th step and held between."""

    def __init__(self, points: Points, source: Source, every: int = 1, follow: Follow | None = None) -> None:
        assert points.noise is not None
        self.points, self.source, self.every, self.noise = points, source, every, points.noise
        self.own = points.like_drift()
        self.known: NDArray[np.bool_] = np.zeros((points.increments, points.count), dtype=np.bool_)
        self.difference = None if follow is None else follow(self.own, self.known)
        self.drift = self.own if follow is None else torch.zeros_like(self.own)

    def extend(self, starts: Indices, ends: Indices) -> None:
        points = self.points
        if self.difference is not None:
            self.difference.fix(starts)
        for offset in range(int((ends - starts).max())):
            rows = np.flatnonzero(starts + offset < ends)
            steps = starts[rows] + offset
            place = points.at(steps, rows)
            called = offset % self.every == 0
            self.known[steps, rows] = called
            found = self.source.drift(points, steps, rows) if called else self.own[points.at(steps - 1, rows)]
            self.own[place] = found
            if self.difference is not None:
                found = found + self.difference.at(steps, rows, found)
                self.drift[place] = found
            points.x[points.at(steps + 1, rows)] = points.step(steps, rows, found, self.noise[place])


class Verified:
    """Drafts with the chain below and verifies with its own source, all drafted points in one call.

    - `depth`: 0 for the chain of the run, 1 for the one below it that verifies too, and so on
    - `window` [count]: at most so many points a round; `renewal`: where all steps of a round are verified together
    """

    def __init__(
        self,
        points: Points,
        source: Source,
        law: StepNoise,
        depth: int,
        below: Callable[[Tensor], Chain],
        follow: Follow | None = None,
        renewal: Renewal | None = None,
    ) -> None:
        self.points, self.source, self.law, self.renewal = points, source, law, renewal
        self._draws = depth * _DEPTH
        self.own = points.like_drift()
        self.known: NDArray[np.bool_] = np.zeros((points.increments, points.count), dtype=np.bool_)
        self.difference = None if follow is None else follow(self.own, self.known)
        self.drift = self.own if follow is None else torch.zeros_like(self.own)
        self.noise = torch.zeros_like(points.x[1:])
        self.accepted: NDArray[np.bool_] = np.zeros((points.increments, points.count), dtype=np.bool_)
        self.probability: Floats = np.zeros((points.increments, points.count))
        self.window = np.full(points.count, points.increments)
        self.below = below(self.drift)

    def extend(self, starts: Indices, ends: Indices) -> None:
        if self.difference is not None:
            self.difference.fix(starts)
        heads = starts.copy()
        while np.any(heads < ends):
            heads = self.round(heads, np.minimum(ends, heads + self.window))

    def round(self, starts: Indices, ends: Indices) -> Indices:
        """Draft from `starts` to `ends`, verify in one call; returns the points up to which each sample is done."""
        self.below.extend(starts, ends)
        numbers = np.arange(self.points.increments)[:, None]
        steps, rows = np.nonzero((numbers >= starts) & (numbers < ends))
        found = self._drift(steps, rows)
        verdict = self._verdict(steps, rows, starts, found)
        accepted = np.ones((self.points.increments, self.points.count), dtype=np.bool_)
        accepted[steps, rows] = verdict.accepted.cpu().numpy()
        rejected = ~accepted
        heads = np.where(rejected.any(axis=0), rejected.argmax(axis=0) + 1, ends)
        heads = np.where(starts < ends, heads, starts)
        self._keep(verdict, steps, rows, found, heads)
        return heads

    def _drift(self, steps: Indices, rows: Indices) -> Tensor:
        """D at the drafted points, from one call."""
        place = self.points.at(steps, rows)
        found = self.source.drift(self.points, steps, rows)
        self.own[place] = found
        self.known[steps, rows] = True
        if self.difference is not None:
            found = found + self.difference.at(steps, rows, found)
            self.drift[place] = found
        return found

    def _verdict(self, steps: Indices, rows: Indices, starts: Indices, found: Tensor) -> Verdict:
        """On every drafted step, as if those before it had been accepted; or on all of a sample's together."""
        place = self.points.at(steps, rows)
        draws = self.points.index((steps if self.renewal is None else self.renewal.draws(steps, rows)) + self._draws)
        uniforms = self.points.run.verification_keys[self.points.index(rows)].uniforms_each(draws)
        dtau = self.points.own.take(steps).together(self.points.x[0].double()).dtau
        shift = (dtau * (self.below.drift[place] - found).double()).expand(self.below.noise[place].shape)
        noise = self.below.noise[place]
        if self.renewal is not None:
            return verify_blocks(self.renewal, steps, rows, starts, shift, noise, uniforms)
        return verify(self.law, steps, shift, noise, uniforms)

    def _keep(self, verdict: Verdict, steps: Indices, rows: Indices, found: Tensor, heads: Indices) -> None:
        """Take what was accepted as it is, and the corrected state of the first step of each sample that was not."""
        self.noise[self.points.at(steps, rows)] = verdict.noise
        self.accepted[steps, rows] = verdict.accepted.cpu().numpy()
        self.probability[steps, rows] = verdict.probability.cpu().numpy()
        wrong = np.flatnonzero((steps == heads[rows] - 1) & ~self.accepted[steps, rows])
        if len(wrong):
            at, of = steps[wrong], rows[wrong]
            chosen = self.points.index(wrong)
            moved = self.points.step(at, of, found[chosen], verdict.noise[chosen])
            self.points.x[self.points.at(at + 1, of)] = moved
