"""The reference posterior of the logistic regression, by the no-U-turn sampler of blackjax.

    pip install ".[peers,arviz]"
    python -m benchmarks.langevin.reference            # about 10 minutes on two cores

The log-posterior is written in jax here, apart from ours, and every draw is corrected by its acceptance step: nothing
of the figures depends on this package but the preconditioner, which changes the speed alone. Chains start twice as wide
as the posterior, so that R-hat can tell whether they forgot it. Standard errors are over chains.
"""

from __future__ import annotations

import time
from typing import Annotated

import arviz
import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from sklearn.datasets import load_breast_cancer

import multidrift as md
from multidrift.basics.files import write_whole
from multidrift.targets.logistic import REFERENCE

LEVELS = (0.025, 0.25, 0.5, 0.75, 0.975)
# In units of the Laplace approximation's standard deviations. Far from the mode the curvature is up to 230 times that
# at the mode: with steps of 0.5 one chain of 64 was rejected 1251 times in a row there. `longest_stay` tells.
STEP_SIZE = 0.25
WARM_UP = 500


def log_density(x: jax.Array) -> jax.Array:
    """The log-posterior at one point [31], from the data themselves."""
    data = load_breast_cancer()
    features = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    logits = x[0] + features @ x[1:]
    return jnp.sum(data.target * logits - jnp.logaddexp(0.0, logits)) - 0.5 * jnp.sum(x**2)


def run_chains(chains: int, draws: int, seed: int) -> tuple[NDArray[np.float64], float]:
    """Draws [chains, draws, 31] after a warm-up, and the mean acceptance rate."""
    mode, covariance = (value.numpy() for value in md.LogisticRegression.breast_cancer().laplace())
    sampler = blackjax.nuts(log_density, STEP_SIZE, covariance)
    start_key, key = jax.random.split(jax.random.key(seed))
    wide = 2 * np.linalg.cholesky(covariance)
    starts = mode + jax.random.normal(start_key, (chains, len(mode))) @ wide.T
    states = jax.vmap(sampler.init)(starts)

    def one(states: object, key: jax.Array) -> tuple[object, tuple[jax.Array, jax.Array]]:
        states, info = jax.vmap(sampler.step)(jax.random.split(key, chains), states)
        return states, (states.position, info.acceptance_rate.mean())

    _, (positions, acceptance) = jax.jit(lambda s, k: jax.lax.scan(one, s, jax.random.split(k, draws + WARM_UP)))(
        states, key
    )
    return np.asarray(positions[WARM_UP:]).swapaxes(0, 1), float(acceptance.mean())


def over_chains(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard error of one estimate a chain, [chains, …]."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def longest_stay(samples: NDArray[np.float64]) -> int:
    """The most draws in a row that any chain [chains, draws, d] stayed at one point."""
    moved = np.diff(samples[..., 0], axis=1) != 0
    return max(int(np.diff(np.flatnonzero(np.concatenate([[True], row, [True]]))).max()) for row in moved)


def main(
    chains: Annotated[int, typer.Option(help="Chains, run side by side.")] = 64,
    draws: Annotated[int, typer.Option(help="Draws of each chain after its warm-up.")] = 15_000,
    seed: Annotated[int, typer.Option(help="Seed of starts and chains.")] = 0,
) -> None:
    """Sample, report R-hat, and write the package's reference."""
    jax.config.update("jax_enable_x64", True)  # noqa: FBT003 (jax's own signature)
    began = time.perf_counter()
    samples, acceptance = run_chains(chains, draws, seed)
    kept = arviz.from_dict(posterior={"x": samples})
    r_hat = float(arviz.rhat(kept)["x"].max())
    effective = min(float(arviz.ess(kept, method=kind)["x"].min()) for kind in ("bulk", "tail"))
    mean, mean_error = over_chains(samples.mean(axis=1))
    # Second moments about the common mean: a chain's own mean would make each of them too small.
    centred = samples - mean
    covariance, covariance_error = over_chains(np.einsum("cnd,cne->cde", centred, centred) / draws)
    quantiles, quantiles_error = over_chains(np.quantile(samples, LEVELS, axis=1).swapaxes(0, 1))
    _, total_error = over_chains((centred**2 / np.diag(covariance)).mean(axis=(1, 2)))
    method = f"blackjax {blackjax.__version__} NUTS, dense metric, step {STEP_SIZE}, acceptance {acceptance:.3f}"
    arrays = {
        "mean": mean,
        "mean_error": mean_error,
        "covariance": covariance,
        "covariance_error": covariance_error,
        "total_error": total_error,
        "levels": np.asarray(LEVELS),
        "quantiles": quantiles,
        "quantiles_error": quantiles_error,
        "method": np.asarray(method),
        "draws": np.asarray(chains * draws),
        "chains": np.asarray(chains),
        "r_hat": np.asarray(r_hat),
        "effective": np.asarray(effective),
    }
    write_whole(REFERENCE, lambda partial: np.savez_compressed(partial, **arrays))
    relative = np.diag(covariance_error) / np.diag(covariance)
    console = Console(stderr=True)
    console.print(f"the longest stay of a chain: {longest_stay(samples)} draws")
    console.print(f"{method}: {chains * draws:,} draws in {time.perf_counter() - began:.0f} s, R-hat {r_hat:.5f}")
    console.print(f"effective {effective:,.0f}; variances to {relative.max():.2%} at the worst; written to {REFERENCE}")


if __name__ == "__main__":
    typer.run(main)
