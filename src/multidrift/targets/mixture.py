"""Targets in closed form, so that tests and examples need no weights."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import require
from multidrift.basics.memory import check_size
from multidrift.basics.numbers import finite
from multidrift.basics.types import Count, Positive, Seed, Steps
from multidrift.drifts.denoiser import Denoiser
from multidrift.schedules.schedule import Schedule

_LARGEST_MATRIX = 4096  # coordinates: eigenvectors of larger covariances take minutes and gigabytes


class GaussianMixture:
    """A mixture of k Gaussians in d dimensions with any covariances.

    - `weights` [k], normalised here; `means` [k, d]; `covariances` [k, d, d], symmetric positive semi-definite (the
      score and the log-density of the data itself need definite ones)

    All results are in the dtype and on the device of their argument. Raises MultidriftError on shapes that do not fit.
    """

    @checked
    def __init__(self, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> None:
        share, centre, spread = (
            finite(values, name)
            for name, values in (("weights", weights), ("means", means), ("covariances", covariances))
        )
        require(share.ndim == 1 and bool(np.all(share > 0)), "weights", weights, "k positive numbers")
        require(centre.ndim == 2 and len(centre) == len(share), "means", centre.shape, f"({len(share)}, d)")
        k, d = centre.shape
        require(spread.shape == (k, d, d), "covariances", spread.shape, f"({k}, {d}, {d})")
        require(bool(np.allclose(spread, spread.swapaxes(1, 2))), "covariances", covariances, "symmetric matrices")
        values, vectors = np.linalg.eigh(spread)
        require(bool(np.all(values > -1e-12)), "covariances", values.min(), "positive semi-definite matrices")
        self.weights = torch.from_numpy(share / share.sum())
        self.means = torch.from_numpy(centre)
        self._variances = torch.from_numpy(np.clip(values, 0.0, None))  # along the axes of each component
        self._axes = torch.from_numpy(vectors)

    @staticmethod
    @checked
    def gaussian(mean: ArrayLike, covariance: ArrayLike) -> GaussianMixture:
        """One Gaussian, with `mean` [d] and `covariance` [d, d]."""
        centre, spread = finite(mean, "mean"), finite(covariance, "covariance")
        require(centre.ndim == 1, "mean", centre.shape, "(d,)")
        require(spread.shape == (len(centre),) * 2, "covariance", spread.shape, f"({len(centre)}, {len(centre)})")
        return GaussianMixture([1.0], centre[None], spread[None])

    @staticmethod
    @checked
    def ill_conditioned(dimension: Steps, condition: Positive) -> GaussianMixture:
        """A centred Gaussian with variances from 1 down to 1/condition, evenly spread in their logarithm.

        Explicit Langevin steps must stay below 2/condition, while the widest coordinate takes time 1 to forget its
        start: the condition number is what an unpreconditioned sampler pays.
        """
        require(dimension <= _LARGEST_MATRIX, "dimension", dimension, f"at most {_LARGEST_MATRIX}")
        require(condition >= 1, "condition", condition, "a number of at least 1")
        return GaussianMixture.gaussian(np.zeros(dimension), np.diag(np.geomspace(1.0, 1.0 / condition, dimension)))

    @property
    def shape(self) -> tuple[int, ...]:
        """One sample's shape, (d,)."""
        return (self.means.shape[1],)

    @checked
    def denoiser(self, schedule: Schedule, name: str = "mixture") -> Denoiser:
        """The exact E[x_0 | x_t] as a Denoiser, at every noise level of `schedule`."""

        def posterior_mean(x: Tensor, t: Tensor) -> Tensor:
            times = t.double().cpu().numpy()
            alpha, sigma = schedule.alpha(times), schedule.sigma(times)
            return self.posterior_mean(x, torch.from_numpy(alpha), torch.from_numpy(sigma))

        return Denoiser(posterior_mean, schedule, predicts="sample", name=name, shape=self.shape)

    def posterior_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | α x_0 + σ ε = x] for x [n, d] and α, σ [n]."""
        alpha, sigma = (v.to(x)[:, None, None] for v in (alpha, sigma))
        means, variances, axes = self.means.to(x), self._variances.to(x), self._axes.to(x)
        noisy = alpha**2 * variances + sigma**2  # [n, k, d]
        along = torch.einsum("nkd,kde->nke", x[:, None] - alpha * means, axes)
        share = torch.softmax(self._log_weighted(along, noisy), dim=1)
        shift = torch.einsum("nke,kde->nkd", alpha * variances / noisy * along, axes)
        return (share[..., None] * (means + shift)).sum(dim=1)

    @checked
    def log_density(self, x: Tensor) -> Tensor:
        """The log-density at x [n, d], [n]."""
        return torch.logsumexp(self._log_weighted(*self._at_data(x)), dim=1)

    @checked
    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density at x [n, d]."""
        along, variances = self._at_data(x)
        share = torch.softmax(self._log_weighted(along, variances), dim=1)
        pull = torch.einsum("nke,kde->nkd", -along / variances, self._axes.to(x))
        return (share[..., None] * pull).sum(dim=1)

    @checked
    def sample(self, n: Count, seed: Seed = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """N independent samples [n, d]."""
        check_size(n * self.means.shape[1], "n", n)
        generator = torch.Generator().manual_seed(seed)
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        normal = torch.randn((n, *self.shape), generator=generator, dtype=torch.float64)
        spread = torch.einsum("nde,ne->nd", self._axes[component], self._variances[component].sqrt() * normal)
        return (self.means[component] + spread).to(dtype)

    @property
    def mean(self) -> Tensor:
        """The mean, [d]."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """The covariance, [d, d]."""
        within = torch.einsum("k,kde,ke,kfe->df", self.weights, self._axes, self._variances, self._axes)
        centred = self.means - self.mean
        return within + torch.einsum("k,kd,ke->de", self.weights, centred, centred)

    def _at_data(self, x: Tensor) -> tuple[Tensor, Tensor]:
        least = float(self._variances.min())
        require(x.ndim == 2 and x.shape[1:] == self.shape, "x", tuple(x.shape), f"a tensor [n, {self.shape[0]}]")
        require(least > 0, "covariances", f"a smallest variance of {least:g}", "positive definite matrices here")
        along = torch.einsum("nkd,kde->nke", x[:, None] - self.means.to(x), self._axes.to(x))
        return along, self._variances.to(x).expand_as(along)

    def _log_weighted(self, along: Tensor, variances: Tensor) -> Tensor:
        """log(weight · density) of each component, [n, k]."""
        exponent = (along**2 / variances + torch.log(variances) + math.log(2 * math.pi)).sum(dim=-1)
        return torch.log(self.weights.to(along)) - 0.5 * exponent
