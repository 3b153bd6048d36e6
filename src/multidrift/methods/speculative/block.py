"""Verify all drafted steps of a sample together: more of them are accepted, and what comes out has the same law.

With r_i = q/p of the i-th drafted step, w_0 = 1 and w_i = min(w_{i−1} r_i, 1), the first τ steps are accepted, τ the
last i with U_i ≤ h_i, where

    h_L = w_L,      h_i = m_i / (m_i + 1 − w_i),      m_i = ∫ max(w_i q_{i+1} − p_{i+1}, 0)

and the step after them is drawn anew from max(w_τ q − p, 0)/m_τ. A step that was unlikely to be accepted on its own may
be carried by a likely one beside it. Along Δ the two Gaussians of a step are N(0, 1) and N(−‖Δ‖, 1), so that m is in
closed form. Which steps are accepted depends on the noise of later ones here, so all noise that a refused draft has
shown is drawn anew. Source: block verification of tokens, Sun et al. 2024, arXiv 2403.10444, Algorithm 2.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.numbers import Floats, aligned
from multidrift.methods.picard.front import Indices, Mask
from multidrift.methods.picard.points import Points
from multidrift.methods.speculative.verify import Verdict
from multidrift.runs.transitions import StepNoise

_ATTEMPT, _RENEWED = 1 << 24, 1 << 56  # between the draws of one attempt at a step and the next; of what is drawn anew
_HALVINGS, _FURTHEST = 90, 40.0  # of an interval this many standard deviations long


class Renewal:
    """Noise that was drawn anew, and how often it was: `attempts` [count] of each sample."""

    def __init__(self, points: Points, law: StepNoise) -> None:
        self.points, self.law = points, law
        self.attempts = np.zeros(points.count, dtype=np.int64)

    def draws(self, steps: Indices, rows: Indices) -> NDArray[np.int64]:
        """The number of each step's draw in the present attempt."""
        return np.asarray(steps + self.attempts[rows] * _ATTEMPT)

    def noise(self, steps: Indices, rows: Indices) -> tuple[Tensor, Tensor]:
        """ΔW [m, …] of steps of samples that no draft has shown, and a uniform [m] for each."""
        keys = self.points.run.verification_keys[self.points.index(rows)]
        draws = self.points.index(self.draws(steps, rows) + _RENEWED)
        k, start = self.law.process.components, self.points.run.start
        shape = start.shape[1:] if k == 1 else start.shape[1:-1]
        normals = keys.normals_each(draws, (k, *shape), start.dtype).movedim(1, -1)
        return self.law.coloured(normals, steps), keys.uniforms_each(draws)


def verify_blocks(
    renewal: Renewal, steps: Indices, rows: Indices, starts: Indices, shift: Tensor, noise: Tensor, uniforms: Tensor
) -> Verdict:
    """The verdict on drafted steps of samples, `starts` [count] being the first of each; see `verify`.

    Renews the noise of all steps behind those that it accepts.
    """
    law, points = renewal.law, renewal.points
    delta, z = law.whitened(shift, steps), law.whitened(noise, steps)
    along, size = (z * delta).sum(1), delta.square().sum(1)
    sure, alike = ~law.noisy[steps], (shift == 0).flatten(1).all(1).cpu().numpy()
    distance = np.where(sure & ~alike, np.inf, size.sqrt().cpu().numpy())
    gain = np.where(sure & ~alike, -np.inf, (-along - 0.5 * size).cpu().numpy())

    offsets = steps - starts[rows]
    place = (offsets, rows)
    drafted: Mask = np.zeros((int(offsets.max()) + 1, points.count), dtype=np.bool_)
    drafted[place] = True
    gains, distances, chances = np.zeros(drafted.shape), np.zeros(drafted.shape), np.ones(drafted.shape)
    gains[place], distances[place], chances[place] = gain, distance, uniforms.cpu().numpy()
    kept, weights = accepted_lengths(gains, distances, drafted, chances)
    accepted = offsets < kept[rows]

    found = noise + shift.to(noise)
    wrong = np.flatnonzero(~accepted)
    if len(wrong):
        at, of = steps[wrong], rows[wrong]
        renewal.attempts[np.unique(of)] += 1
        fresh, uniform = renewal.noise(at, of)
        assert points.noise is not None
        points.noise[points.at(at, of)] = fresh
        first = np.flatnonzero(offsets[wrong] == kept[of])
        chosen, pick = points.index(wrong[first]), points.index(first)
        residual = _residual(distance[wrong[first]], weights[of[first]], uniform[pick].cpu().numpy())
        corrected = fresh[pick] + _turn(law, at[first], fresh[pick], shift[chosen], residual)
        found = found.index_copy(0, chosen, corrected)
    flags = torch.from_numpy(accepted).to(noise.device)
    probability = torch.special.erfc(torch.from_numpy(distance / np.sqrt(8.0)).to(noise.device))
    return Verdict(flags, probability, found)


def accepted_lengths(gains: Floats, distances: Floats, drafted: Mask, uniforms: Floats) -> tuple[Indices, Floats]:
    """How many steps of each sample are accepted, τ [count], and w_τ, from log r and ‖Δ‖ of each [L, count]."""
    logs, levels = np.zeros(gains.shape[1]), []
    for gain in gains:
        logs = np.minimum(logs + gain, 0.0)
        levels.append(logs)
    weights = np.exp(np.stack(levels))
    last = drafted.sum(axis=0) - 1
    heights = weights.copy()
    mass = missing_mass(weights[:-1], distances[1:])
    whole = mass + 1.0 - weights[:-1]
    inner = np.divide(mass, whole, out=np.ones_like(mass), where=whole > 0)
    heights[:-1] = np.where(np.arange(len(gains) - 1)[:, None] < last, inner, heights[:-1])
    passed = drafted & (uniforms <= heights)
    kept = np.where(passed.any(axis=0), len(gains) - passed[::-1].argmax(axis=0), 0)
    return kept, np.where(kept > 0, weights[np.maximum(kept - 1, 0), np.arange(len(kept))], 1.0)


def missing_mass(weight: Floats, distance: Floats) -> Floats:
    """∫ max(w N(x; −d, 1) − N(x; 0, 1), 0) dx, elementwise."""
    edge = _edge(weight, distance)
    found = weight * _normal_cdf(edge + distance) - _normal_cdf(edge)
    return np.asarray(np.where(np.isinf(distance), weight, np.where(distance > 0, np.maximum(found, 0.0), 0.0)))


def _edge(weight: Floats, distance: Floats) -> Floats:
    """Where w N(x; −d, 1) = N(x; 0, 1): ln(w)/d − d/2."""
    usable = (distance > 0) & np.isfinite(distance)
    d = np.where(usable, distance, 1.0)
    return np.asarray(np.log(np.maximum(weight, 1e-300)) / d - 0.5 * d)


def _normal_cdf(x: Floats) -> Floats:
    return np.asarray(torch.special.ndtr(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy())


def _residual(distance: Floats, weight: Floats, uniforms: Floats) -> Floats:
    """Draws of max(w N(x; −d, 1) − N(x; 0, 1), 0), relative to −d, by bisection of its distribution function."""
    d = np.where(np.isfinite(distance), distance, 0.0)
    edge = _edge(weight, d)
    wanted = uniforms * missing_mass(weight, d)
    low, high = edge - d - _FURTHEST, edge
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = weight * _normal_cdf(middle + d) - _normal_cdf(middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(low + d)


def _turn(law: StepNoise, steps: Indices, noise: Tensor, shift: Tensor, along: Floats) -> Tensor:
    """What gives ΔW this component `along` e = Δ/‖Δ‖, in place of its own."""
    delta, z = law.whitened(shift, steps), law.whitened(noise, steps)
    size = delta.square().sum(1)
    wanted = torch.from_numpy(along).to(size)
    safe = torch.where(size > 0, size, 1.0)
    factor = torch.where(size > 0, wanted / safe.sqrt() - (z * delta).sum(1) / safe, 0.0)
    return (aligned(factor, shift) * shift).to(noise)
