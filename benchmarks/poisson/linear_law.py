"""The exact law of a Poisson midpoint step where the gradient is linear: means and second moments, no sampling.

With D = −c·(position) a step is linear in the state and the noise, with random coefficients that are independent of
both; so first and second moments propagate in closed form, through the draws of the substeps too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import multidrift as md
from multidrift.methods.poisson.substeps import SubstepDraws, probabilities
from multidrift.processes.process import Process

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One step of moments: mean → `mean`·mean, and E[xxᵀ] as a flat vector P → `second`·P + `noise`."""

    mean: Floats
    second: Floats
    noise: Floats

    def after(self, steps: int, mean: Floats, second: Floats) -> tuple[Floats, Floats]:
        """Mean [d] and second moments [d, d] after so many steps."""
        flat = second.ravel()
        for _ in range(steps):
            mean, flat = self.mean @ mean, self.second @ flat + self.noise
        return mean, flat.reshape(second.shape)

    def stationary(self) -> Floats:
        """The second moments that a step leaves as they are."""
        d = round(len(self.noise) ** 0.5)
        return np.linalg.solve(np.eye(d * d) - self.second, self.noise).reshape(d, d)


def step_law(
    process: Process, h: float, draws: SubstepDraws | None, substeps: int = 1, curvature: float = 1.0,
    *, random: bool = True,
) -> Step:  # fmt: skip
    """The law of a step of length h with D = −curvature·position; `draws` None: Euler's.

    `random=False` puts every draw's expectation in its place: what is missing then is the variance of the draws alone.
    """
    number = substeps if draws in ("independent", "single") else 2
    fine = np.linspace(0.0, h, number + 1)
    parts = process.intervals(fine[:-1], fine[1:], anchor=np.full(number, h))
    d = 2 if process.has_velocity else 1
    position = np.eye(d)[:1]  # [1, d]
    dtau = parts.dtau.reshape(number, d, 1)
    enter = _coordinates(process, fine, h)
    leave = np.linalg.inv(enter)
    std = parts.std.reshape(number, d)
    noises = np.stack([_covariance(process, a, b, s) for a, b, s in zip(fine[:-1], fine[1:], std, strict=True)])
    before = np.concatenate([np.zeros((1, d, d)), np.cumsum(noises, axis=0)])  # of W at each fine node
    reached = np.concatenate([np.zeros((1, d, 1)), np.cumsum(dtau, axis=0)])
    held = enter[0] - curvature * reached[-1] @ position  # z at the end, while D is held

    places, kicks, ratio = _draws(draws, dtau, number)
    a = np.stack([position @ leave[i] @ (enter[0] - curvature * reached[i] @ position) - position for i in places])
    b = np.stack([position @ leave[i] for i in places])  # [m, 1, d]: how noise and start change the position seen
    u = -curvature * kicks  # [m, d, 1]
    weights = ratio if random else np.ones_like(ratio)
    kicked = held + (u @ a).sum(axis=0)
    second = np.kron(kicked, kicked)
    ua, ub = u @ a, u @ b
    second = second + np.einsum("ij,iab,jcd->acbd", weights - 1.0, ua, ua).reshape(d * d, d * d)
    seen = before[np.minimum.outer(places, places)]  # Cov(W_i, W_j)
    noise = before[-1] + np.einsum("ij,iab,ijbc,jdc->ad", weights, ub, seen, ub)
    cross = np.einsum("iab,ibc->ac", ub, before[places])
    out = leave[-1]
    return Step(out @ kicked, np.kron(out, out) @ second, (out @ (noise + cross + cross.T) @ out.T).ravel())


def _draws(draws: SubstepDraws | None, dtau: Floats, number: int) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Where kicks look, their expected sizes [m, d, 1], and E[η_i η_j] of their weights η of mean 1."""
    if draws is None:
        return np.array([0]), 0.0 * dtau[:1], np.ones((1, 1))
    if draws == "midpoint":
        return np.array([1]), dtau.sum(axis=0, keepdims=True), np.ones((1, 1))
    q = probabilities(draws, "clock", dtau[:, 0, 0])[1:]
    together = np.ones((number - 1,) * 2) if draws == "independent" else np.zeros((number - 1,) * 2)
    return np.arange(1, number), dtau[1:], together - np.diag(np.diag(together)) + np.diag(1.0 / q)


def _coordinates(process: Process, times: Floats, end: float) -> Floats:
    """The matrices [n, d, d] that take states at these times to z."""
    if not isinstance(process, md.Underdamped):
        return np.ones((len(times), 1, 1))
    rows = [[[1.0, 1.0 / process.friction], [0.0, np.exp(process.friction * (t - end))]] for t in times]
    return np.array(rows)


def _covariance(process: Process, low: float, high: float, std: Floats) -> Floats:
    """Of the noise of an interval, in z."""
    mixing = std[:, None] * np.atleast_2d(process.reach(low, high, low, high))
    return np.asarray(mixing @ mixing.T)
