"""The laws of `benchmarks.langevin.problems`, written in jax for the peers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer

import multidrift as md
from benchmarks.langevin.peers import JaxTarget
from benchmarks.langevin.problems import MIXTURE


def jax_target(name: str) -> JaxTarget:
    """The problem of that name in jax, at y [n, d]."""
    return {
        "claims": lambda: _normal(np.ones(1)),
        "gaussian": lambda: _normal(np.ones(2)),
        "ill-conditioned": lambda: _normal(np.geomspace(1.0, 100.0, 10)),
        "mixture": _mixture,
        "regression": _regression,
    }[name]()


def _normal(precision: np.ndarray) -> JaxTarget:
    p = jnp.asarray(precision, dtype=jnp.float32)
    return JaxTarget(lambda y: -0.5 * (p * y**2).sum(axis=1), lambda y: -p * y)


def _mixture() -> JaxTarget:
    weights, means, covariances = (np.asarray(value) for value in MIXTURE)
    inverses = jnp.asarray(np.linalg.inv(covariances), dtype=jnp.float32)
    logs = jnp.asarray(np.log(weights) - 0.5 * np.log(np.linalg.det(covariances)), dtype=jnp.float32)
    centres = jnp.asarray(means, dtype=jnp.float32)

    def each(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        apart = y[:, None] - centres
        pulled = jnp.einsum("nkd,kde->nke", apart, inverses)
        return logs - 0.5 * (apart * pulled).sum(axis=2), pulled

    def log_density(y: jax.Array) -> jax.Array:
        return jax.scipy.special.logsumexp(each(y)[0], axis=1)

    def score(y: jax.Array) -> jax.Array:
        exponents, pulled = each(y)
        return -(jax.nn.softmax(exponents, axis=1)[..., None] * pulled).sum(axis=1)

    return JaxTarget(log_density, score)


def _regression() -> JaxTarget:
    data = load_breast_cancer()
    features = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    signed = (2 * data.target - 1)[:, None] * np.concatenate([np.ones((len(features), 1)), features], axis=1)
    mode, covariance = (value.numpy() for value in md.LogisticRegression.breast_cancer().laplace())
    rows, centre, factor = (
        jnp.asarray(value, dtype=jnp.float32) for value in (signed, mode, np.linalg.cholesky(covariance))
    )

    def log_density(y: jax.Array) -> jax.Array:
        x = centre + y @ factor.T
        return jax.nn.log_sigmoid(x @ rows.T).sum(axis=1) - 0.5 * (x**2).sum(axis=1)

    def score(y: jax.Array) -> jax.Array:
        x = centre + y @ factor.T
        return (jax.nn.sigmoid(-(x @ rows.T)) @ rows - x) @ factor

    return JaxTarget(log_density, score)
