"""What the Langevin samplers are measured on: four laws whose second moments are known.

Times of runs and numbers of steps are powers of two where nothing else is said: our noise is a binary tree over time,
and is read fastest there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import multidrift as md

Floats = NDArray[np.float64]
Score = Callable[[Tensor], Tensor]
# Weights, means and covariances of the mixture.
MIXTURE = (
    [0.4, 0.6],
    [[1.2, 0.0], [-1.0, 0.5]],
    [[[0.5, 0.2], [0.2, 0.6]], [[0.8, 0.0], [0.0, 0.3]]],
)


@dataclass(frozen=True)
class Problem:
    """A law to sample, and how.

    - `score`: gradient of the log-density at y [n, d]; samplers work on y
    - `start`: n points y [n, d] and a seed, from the law itself or from close by
    - `observe`: from y [.., d] to the coordinates x whose second moments are known
    - `mean`, `variance` [d] of x; `relative_error`: how well the variances are known, relative to themselves
    - `horizon` and the numbers of gradient `calls`, for each process
    """

    label: str
    chains: int
    dimension: int
    score: Score
    start: Callable[[int, int], Tensor]
    observe: Callable[[Floats], Floats]
    mean: Floats
    variance: Floats
    relative_error: float
    horizon: Mapping[str, float]
    calls: Mapping[str, tuple[int, ...]]
    substeps: int = 64  # of a Poisson midpoint step; more cost no more gradient calls
    saves: int = 8  # states kept of a run, evenly spread; all numbers of steps are multiples of it
    settled: float = 0.25  # share of them left out
    friction: float = 2.0

    def bias(self, trajectory: Floats) -> tuple[float, float]:
        """Relative error of the second moments of y [saved, n, d], and its standard error.

        The mean over coordinates, chains and saved states of (x − mean)²/variance − 1. Standard errors are over chains,
        with that of the known variances added.
        """
        kept = trajectory[round(self.settled * len(trajectory)) :]
        ratios = ((self.observe(kept) - self.mean) ** 2 / self.variance).mean(axis=(0, 2)) - 1.0
        own = float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
        return float(ratios.mean()), float(np.hypot(own, self.relative_error))


def _of_mixture(
    label: str,
    target: md.GaussianMixture,
    chains: int,
    horizon: float,
    overdamped: tuple[int, ...],
    underdamped: tuple[int, ...],
) -> Problem:
    """A problem whose law can be drawn from and whose moments are closed forms."""
    return Problem(
        label=label,
        chains=chains,
        dimension=target.shape[0],
        score=target.score,
        start=lambda n, seed: target.sample(n, seed, torch.float32),
        observe=lambda y: y,
        mean=target.mean.numpy(),
        variance=np.diag(target.covariance.numpy()),
        relative_error=0.0,
        horizon={"overdamped": horizon, "underdamped": horizon},
        calls={"overdamped": overdamped, "underdamped": underdamped},
    )


def unit_gaussian() -> Problem:
    """Two independent standard normals; what is measured does not depend on their number."""
    target = md.GaussianMixture.gaussian(np.zeros(2), np.eye(2))
    problem = _of_mixture("unit Gaussian", target, 100_000, 16.0, (32, 64, 128, 256), (32, 48, 64, 128, 256))
    return replace(problem, score=lambda y: -y)  # the mixture's formulas would cost more than the sampler


def claims() -> Problem:
    """The same law at two settings, those of the claims in docs/langevin.md: 200,000 chains over a time of 12."""
    problem = _of_mixture("claims", md.GaussianMixture.gaussian([0.0], [[1.0]]), 200_000, 12.0, (120,), (60,))
    return replace(problem, score=lambda y: -y, substeps=8, saves=6, settled=1 / 3)


def ill_conditioned() -> Problem:
    """Ten coordinates with variances from 1 to 0.01: steps are bounded by the stiffest of them."""
    target = md.GaussianMixture.ill_conditioned(10, 100.0)
    precision = 1.0 / torch.diagonal(target.covariance)
    problem = _of_mixture("ill-conditioned Gaussian", target, 4_000, 16.0, (512, 1024, 2048), (256, 512, 1024))
    # Overdamped steps are below 0.02, and a time of 4 lets even the widest coordinate forget its start.
    return replace(problem, score=lambda y: -y * precision.to(y), horizon=problem.horizon | {"overdamped": 4.0})


def mixture() -> Problem:
    """Two overlapping modes in the plane, with different widths: the score is not linear."""
    target = md.GaussianMixture(*MIXTURE)
    return _of_mixture("mixture", target, 50_000, 16.0, (64, 128, 256, 512), (32, 64, 128, 256))


def regression() -> Problem:
    """Logistic regression on the breast cancer data, d = 31, in the coordinates of its Laplace approximation.

    x = mode + C·y, with C·Cᵀ the Laplace covariance: the same change of variables for every sampler, without which the
    condition number, 85 at the mode, would decide alone. Its law is known from long exact sampling.
    """
    target, reference = md.LogisticRegression.breast_cancer(), md.breast_cancer_posterior()
    mode, covariance = target.laplace()
    factor = torch.linalg.cholesky(covariance)
    variance = np.diag(reference.covariance)

    def score(y: Tensor) -> Tensor:
        return target.score(mode.to(y) + y @ factor.T.to(y)) @ factor.to(y)

    def start(n: int, seed: int) -> Tensor:
        return torch.randn((n, len(mode)), generator=torch.Generator().manual_seed(seed))

    return Problem(
        label="logistic regression",
        chains=4096,
        dimension=len(mode),
        score=score,
        start=start,
        observe=lambda y: mode.numpy() + y @ factor.numpy().T,
        mean=reference.mean,
        variance=variance,
        relative_error=reference.total_error,
        horizon={"overdamped": 16.0, "underdamped": 16.0},
        calls={"overdamped": (32, 64, 128, 256), "underdamped": (32, 64, 128, 256)},
        settled=0.5,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "claims": claims,
    "gaussian": unit_gaussian,
    "ill-conditioned": ill_conditioned,
    "mixture": mixture,
    "regression": regression,
}
