"""Bayesian logistic regression: a log-density of daily use, with a closed-form gradient and a long reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import logsigmoid

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, finite
from multidrift.basics.types import Positive

REFERENCE = Path(__file__).parent.parent / "bundled" / "breast_cancer_posterior.npz"
_NEWTON_STEPS = 100


class LogisticRegression:
    """The posterior of a logistic regression with prior N(0, prior_std²) on the intercept and on every coefficient.

    - `features` [m, d − 1], best standardised; `labels` [m], 0 or 1
    - coordinate 0 is the intercept, coordinate j the coefficient of feature j − 1

    Log-densities are up to a constant; the posterior is strongly log-concave, with curvature at least 1/prior_std².
    All results are in the dtype and on the device of their argument. Raises MultidriftError on shapes that do not fit.
    """

    @checked
    def __init__(self, features: ArrayLike, labels: ArrayLike, prior_std: Positive = 1.0) -> None:
        rows, answers = finite(features, "features"), finite(labels, "labels")
        require(rows.ndim == 2 and bool(np.isfinite(rows).all()), "features", rows.shape, "finite numbers [m, d − 1]")
        require(answers.shape == (len(rows),), "labels", answers.shape, f"({len(rows)},), as many as features")
        require(bool(np.isin(answers, (0.0, 1.0)).all()), "labels", np.unique(answers).tolist(), "zeros and ones")
        design = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
        # Rows times ±1, so that a row's log-likelihood is log sigmoid(row · x) whatever its label.
        self._signed = torch.from_numpy((2 * answers - 1)[:, None] * design)
        self.prior_std = float(prior_std)

    @staticmethod
    def breast_cancer() -> LogisticRegression:
        """scikit-learn's breast cancer data (569 cases, 30 standardised features, so d = 31) with prior_std 1.

        `breast_cancer_posterior()` is what exact sampling gives. Raises MultidriftError without scikit-learn.
        """
        try:
            from sklearn.datasets import load_breast_cancer
        except ImportError as error:
            raise MultidriftError("breast_cancer: got no scikit-learn; pip install 'multidrift[eval]'") from error
        data = load_breast_cancer()
        standardised = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
        return LogisticRegression(standardised, data.target)

    @property
    def shape(self) -> tuple[int, ...]:
        """One sample's shape, (d,)."""
        return (self._signed.shape[1],)

    @checked
    def log_density(self, x: Tensor) -> Tensor:
        """The log-posterior at x [n, d], up to a constant, [n]."""
        return logsigmoid(self._margins(x)).sum(dim=1) - 0.5 * (x / self.prior_std).square().sum(dim=1)

    @checked
    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-posterior at x [n, d]."""
        return torch.sigmoid(-self._margins(x)) @ self._signed.to(x) - x / self.prior_std**2

    def laplace(self) -> tuple[Tensor, Tensor]:
        """The mode [d] and the inverse [d, d] of the curvature there: the Laplace approximation, in float64.

        Its covariance is a good preconditioner, and N(mode, covariance) a good place to start chains.
        """
        x = torch.zeros(self.shape, dtype=torch.float64)
        for _ in range(_NEWTON_STEPS):
            curvature = self._curvature(x)
            direction = torch.linalg.solve(curvature, self.score(x[None])[0])
            # Far from the mode a full Newton step can overshoot; near it the damping is 1 and it converges to rounding.
            move = direction / (1 + direction.norm())
            x = x + (direction if direction.norm() < 0.1 else move)
            if direction.norm() < 1e-12:
                break
        return x, torch.linalg.inv(self._curvature(x))

    def _curvature(self, x: Tensor) -> Tensor:
        """Minus the Hessian of the log-posterior at x [d]."""
        share = torch.sigmoid(self._signed @ x)
        prior = torch.eye(len(x), dtype=x.dtype) / self.prior_std**2
        return self._signed.T @ ((share * (1 - share))[:, None] * self._signed) + prior

    def _margins(self, x: Tensor) -> Tensor:
        require(x.ndim == 2 and x.shape[1:] == self.shape, "x", tuple(x.shape), f"a tensor [n, {self.shape[0]}]")
        return x @ self._signed.to(x).T


@dataclass(frozen=True)
class PosteriorReference:
    """What long exact sampling of a posterior in d dimensions gave, each figure with its Monte-Carlo standard error.

    - `mean`, `mean_error` [d]; `covariance`, `covariance_error` [d, d]
    - `total_error`: standard error of the variances' common scale, the mean over coordinates of their relative errors
    - `quantiles`, `quantiles_error` [levels, d] at `levels`, of each coordinate
    - `method`, `draws` (over all `chains`), `r_hat` (the largest), `effective` (the least effective sample size)
    """

    mean: Floats
    mean_error: Floats
    covariance: Floats
    covariance_error: Floats
    total_error: float
    levels: Floats
    quantiles: Floats
    quantiles_error: Floats
    method: str
    draws: int
    chains: int
    r_hat: float
    effective: float


def breast_cancer_posterior() -> PosteriorReference:
    """The reference for `LogisticRegression.breast_cancer()`, made by `python -m benchmarks.langevin.reference`."""
    with np.load(REFERENCE, allow_pickle=False) as kept:
        arrays = {name: np.asarray(kept[name], dtype=np.float64) for name in kept.files if kept[name].ndim > 0}
        return PosteriorReference(
            **arrays,
            method=str(kept["method"]),
            total_error=float(kept["total_error"]),
            draws=int(kept["draws"]),
            chains=int(kept["chains"]),
            r_hat=float(kept["r_hat"]),
            effective=float(kept["effective"]),
        )
