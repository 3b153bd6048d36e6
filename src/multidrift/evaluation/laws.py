"""How far the law of samples is from that of real data, by their features.

These are distances between two sets of independent draws: they say nothing of single samples or of paths, for which
`multidrift.evaluation.coupled` is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import weighted_mean

_NORMAL_95 = 1.959964  # the normal's 97.5% quantile
_ROWS = 250  # rows of the kernel matrix held at a time, to bound the memory


@dataclass(frozen=True)
class KernelDistance:
    """An unbiased estimate of a squared kernel distance; it may come out negative where the laws are close.

    - `standard_error`: of the estimate, by the jackknife over the draws of both sets
    """

    value: float
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval, value ± 1.96 standard errors."""
        half = _NORMAL_95 * self.standard_error
        return self.value - half, self.value + half


def kernel_distance(samples: Tensor, real: Tensor, *, coupled: bool = False) -> KernelDistance:
    """The squared maximum mean discrepancy of two sets of features, with its error: the kernel distance "KID".

    - `samples` [n, d], `real` [m, d]: features of independent draws, at least three of each; n and m may differ
    - `coupled`: row i of both is made from the same noise. Such pairs are left out, so that the estimate stays
      unbiased, and what the two laws share cancels in it: its error is far smaller where paths are close

    The kernel is ((x·y)/d + 1)³ (Binkowski et al. 2018, "Demystifying MMD GANs", section 4; torchmetrics' function).
    The estimate is the U-statistic over all pairs (Gretton et al. 2012, equation 3; of coupled ones equation 4):
    unbiased, and without the random subsets of the common implementation. Its standard error is the jackknife's,
    √(Σ_i (θ₋ᵢ − θ̄)² (n−1)/n) summed over both sets, of coupled ones over pairs (Efron and Stein 1981): exact in the
    limit where the laws differ, and up to √2 too large where they are equal, so that the interval then covers zero more
    often than 95%. Draws shared by two estimates (the same `real`, samples from the same noise) make their errors agree
    in part; the interval is that of one estimate. Raises MultidriftError on other shapes or values that are not finite.
    """
    samples, real = _checked(samples, real, at_least=3)
    within_samples, within_real = _row_sums(samples, samples), _row_sums(real, real)
    within_samples = within_samples - _diagonal(samples, samples)
    within_real = within_real - _diagonal(real, real)
    to_real, to_samples = _row_sums(samples, real), _row_sums(real, samples)
    n, m = len(samples), len(real)
    if coupled:
        require(n == m, "real", m, f"as many as samples, {n}")
        own = within_samples + within_real - to_real - to_samples + 2 * _diagonal(samples, real)
        value, variance = own.sum() / (n * (n - 1)), _jackknife(own, torch.zeros_like(own), 1)
        return KernelDistance(float(value), math.sqrt(float(variance)))
    cross = to_real.sum()
    value = within_samples.sum() / (n * (n - 1)) + within_real.sum() / (m * (m - 1)) - 2 * cross / (n * m)
    variance = _jackknife(within_samples, to_real, m) + _jackknife(within_real, to_samples, n)
    return KernelDistance(float(value), math.sqrt(float(variance)))


def average_distance(distances: Sequence[KernelDistance], sizes: Sequence[int]) -> KernelDistance:
    """The mean kernel distance of runs of `sizes` samples, each by a plan of its own; its error covers the plans.

    All samples of a run follow one plan, so that what a user gets is the law under one. Pooled samples of many plans
    follow the mixture of their laws, which is nearer to the target than each of them. Runs are weighted by their pairs
    of samples, n(n−1), as which the variance of each falls where laws are close.
    Raises MultidriftError on fewer than two runs or runs of one sample.
    """
    good = len(sizes) == len(distances) >= 2 and min(sizes) >= 2
    require(good, "sizes", list(sizes), f"at least two samples for each of {len(distances)} runs, which are at least 2")
    return KernelDistance(*weighted_mean([d.value for d in distances], [n * (n - 1) for n in sizes]))


def _jackknife(within: Tensor, across: Tensor, others: int) -> Tensor:
    """The part of the variance that one set's draws make, from each draw's sums of kernels.

    - `within` [n]: over the other draws of its own set; `across` [n]: over the `others` draws of the other set
    """
    n = len(within)
    without = (within.sum() - 2 * within) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / ((n - 1) * others)
    return (without - without.mean()).square().sum() * (n - 1) / n


def _row_sums(x: Tensor, y: Tensor) -> Tensor:
    """Σ_j k(x_i, y_j), [n]."""
    try:
        from torchmetrics.image.kid import poly_kernel  # an optional extra
    except ImportError as error:
        raise MultidriftError("the kernel distance needs torchmetrics: pip install 'multidrift[eval]'") from error
    firsts = range(0, len(x), _ROWS)
    return torch.cat([poly_kernel(x[first : first + _ROWS], y).sum(dim=1) for first in firsts])


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_i), [n]."""
    return ((x * y).sum(dim=1) / x.shape[1] + 1).pow(3)


def frechet_distance(samples: Tensor, real: Tensor) -> float:
    """The Fréchet distance of two sets of features [n, d] and [m, d], as of two Gaussians (Heusel et al. 2017).

    torchmetrics' computation. It is biased upwards for finite sets, the more so the smaller they are: compare only
    figures of equal n and m, beside that of two sets of real data.
    Raises MultidriftError on other shapes or values that are not finite.
    """
    samples, real = _checked(samples, real, at_least=2)
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance  # an optional extra
    except ImportError as error:
        raise MultidriftError("the Fréchet distance needs torchmetrics: pip install 'multidrift[eval]'") from error
    metric = FrechetInceptionDistance(feature=_Given(samples.shape[1]))
    metric.update(samples, real=False)
    metric.update(real, real=True)
    return float(metric.compute())


class _Given(nn.Identity):
    """Stands where torchmetrics expects a network: the features are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def _checked(samples: Tensor, real: Tensor, at_least: int) -> tuple[Tensor, Tensor]:
    for name, features in (("samples", samples), ("real", real)):
        good = features.ndim == 2 and len(features) >= at_least and features.shape[1] >= 1
        require(good, name, tuple(features.shape), f"features of shape [n, d] with n of at least {at_least}")
        require(bool(torch.isfinite(features).all()), name, "values that are not finite", "finite features")
    takes = f"features of as many dimensions as samples, {samples.shape[1]}"
    require(samples.shape[1] == real.shape[1], "real", tuple(real.shape), takes)
    return samples.double(), real.double()
