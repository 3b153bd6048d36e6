"""One Brownian motion that moves a position and a velocity: the pair (∫dB, ∫e^{γ(r − b)} dB) over [a, b].

With q = γ(b − a) and f(r) = e^{γ(r − b)}, whose mean over the interval is m and whose variance is V, the pair is
√(b − a)·(ξ₁, m ξ₁ + √V ξ₂) with two standard normals: ξ₁ belongs to the constant function, ξ₂ to f made orthogonal to
it. No Cholesky factor of the pair's covariance is taken, which fails in float32 at γh ≤ 1e-2, and nothing overflows at
large q.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from multidrift.basics.numbers import Floats
from multidrift.noise.lattice import Places

# Variance of e^{qU}, U uniform on (0, 1): Σ c_n qⁿ with c_n = (2ⁿ(n − 2) + 2)/(n + 2)!, all of them positive.
_SERIES = np.array([(2.0**n * (n - 2) + 2.0) / math.factorial(n + 2) for n in range(26)])


def _mean(q: Floats) -> Floats:
    """Mean of e^{−qU}."""
    return -np.expm1(-q) / q


def _variance(q: Floats) -> Floats:
    """Variance of e^{−qU}: a series where the closed form would cancel."""
    small = np.minimum(q, 1.0)
    series = np.polynomial.polynomial.polyval(small, _SERIES) * np.exp(-2.0 * small)
    return np.asarray(np.where(q < 1.0, series, -np.expm1(-2.0 * q) / (2.0 * q) - _mean(q) ** 2))


def drift_pair(friction: float, h: Floats, ahead: Floats) -> Floats:
    """[n, 2]: Δτ = (h/γ, ∫e^{γ(r − anchor)} dr) over steps h, with `ahead` = e^{γ(end of the step − anchor)}."""
    return np.stack((h / friction, -np.expm1(-friction * h) / friction * ahead), axis=-1)


def pair_reach(friction: float, low: Places, high: Places, last: Places) -> Floats:
    """[…, 2, 2]: the pair over [low, high], weighted with e^{γ(r − last)}, from its two normals."""
    width = np.asarray(high, dtype=np.float64) - low
    q, root = _alike(friction * width), np.sqrt(width)
    later = np.exp(friction * (np.asarray(high) - last)) * root
    return _matrix([[root, np.zeros_like(root)], [_mean(q) * later, np.sqrt(_variance(q)) * later]])


def pair_rotation(friction: float, low: Places, middle: Places, high: Places) -> Floats:
    """[…, 4, 4]: the normals of [low, middle] and of [middle, high] from those of the whole and two fresh ones.

    Inner products of the whole's two functions with the halves' give the first two columns; any orthonormal completion
    will do for the others, and this one is in closed form.
    """
    left, right = (_alike(friction * (np.asarray(b, np.float64) - a)) for a, b in ((low, middle), (middle, high)))
    if left.ndim == right.ndim == 0:
        return _one_rotation(float(left), float(right))
    return _rotation(left, right)


@lru_cache(maxsize=256)  # a tree asks for the same few again and again, one for each depth
def _one_rotation(left: float, right: float) -> Floats:
    return _rotation(np.asarray(left), np.asarray(right))


def _rotation(left: Floats, right: Floats) -> Floats:
    """The rotation for halves of these lengths times γ."""
    whole = left + right
    near, far = np.sqrt(left / whole), np.sqrt(right / whole)
    root = np.sqrt(_variance(whole))
    behind = np.exp(-right)  # f on the left half is its own f times this
    a_left = (behind * _mean(left) - _mean(whole)) * near / root
    b_left = behind * np.sqrt(_variance(left)) * near / root
    b_right = np.sqrt(_variance(right)) * far / root
    t = np.hypot(b_left, b_right)
    # Two ways to the same number: the first cancels at small q, the second at large q.
    s = np.where(whole > 1.0, a_left / far, -np.sqrt(np.maximum(1.0 - t**2, 0.0)))
    size = np.hypot(s, t)
    s, t = s / size, t / size
    u, v = b_left / np.hypot(b_left, b_right), b_right / np.hypot(b_left, b_right)  # along the halves' second functions
    zero = np.zeros_like(near)
    return _matrix(
        [
            [near, s * far, t * far, zero],
            [zero, t * u, -s * u, v],
            [far, -s * near, -t * near, zero],
            [zero, t * v, -s * v, -u],
        ]
    )


def _alike(values: Floats) -> Floats:
    """One number for an array of equal ones: the halves of equal cells are alike."""
    return np.asarray(values.flat[0]) if values.ndim and np.all(values == values.flat[0]) else values


def _matrix(rows: list[list[Floats]]) -> Floats:
    """Entries that broadcast against each other as matrices on the last two axes."""
    shape = np.broadcast_shapes(*(entry.shape for row in rows for entry in row))
    matrix = np.empty((*shape, len(rows), len(rows[0])))
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            matrix[..., i, j] = entry
    return matrix
