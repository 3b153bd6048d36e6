"""Intervals by bootstrap: of errors [plan seeds, images], resampling both, and of what is taken to reach an error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic: TypeAlias = Literal["mean", "median", "share"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
THRESHOLD = 0.02  # squared distance per coordinate above which a sample has become another picture
RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors [plan seeds, images] of one setting; images are resampled alike in all settings, seeds in each anew."""

    values: Floats

    def of(self, statistic: Statistic) -> float:
        """Mean, median or share above the threshold, over all images and plan seeds."""
        return float(_statistic(self.values[None], statistic)[0])

    def resampled(self, statistic: Statistic) -> Floats:
        """The statistic of each resample, float64 [resamples]."""
        return self._all[statistic]

    def interval(self, statistic: Statistic) -> tuple[float, float]:
        """The 95% percentile interval of the statistic."""
        low, high = np.percentile(self.resampled(statistic), [2.5, 97.5])
        return float(low), float(high)

    @cached_property
    def _all(self) -> dict[Statistic, Floats]:
        seeds, images = self.values.shape
        of_images = np.random.default_rng(0).integers(images, size=(RESAMPLES, 1, images))
        of_seeds = np.random.default_rng(1).integers(seeds, size=(RESAMPLES, seeds, 1))
        drawn = self.values[of_seeds, of_images]
        return {statistic: _statistic(drawn, statistic) for statistic in STATISTICS}


def first_below(errors: Floats, taken: Floats, threshold: float) -> tuple[float, float]:
    """The 95% interval of what is taken until the mean error is at most `threshold`; infinite where it never is.

    `errors` and `taken` [tries, images]: those of each image at each try, in the order of the tries. Images are
    resampled, the first try that is near enough is found for each resample, and what it took is averaged over the same
    images.
    """
    images = errors.shape[1]
    drawn = np.random.default_rng(0).integers(images, size=(RESAMPLES, images))
    near = errors[:, drawn].mean(axis=2) <= threshold
    found = np.where(near.any(axis=0), taken[:, drawn].mean(axis=2)[near.argmax(axis=0), np.arange(RESAMPLES)], np.inf)
    low, high = np.quantile(found, 0.025, method="lower"), np.quantile(found, 0.975, method="higher")
    return float(low), float(high)


def ratio(above: Errors, below: Errors, statistic: Statistic) -> tuple[float, float, float]:
    """(above/below, 95% interval) of a statistic, both of the same resampled images."""
    drawn = above.resampled(statistic) / np.maximum(below.resampled(statistic), 1e-300)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return above.of(statistic) / max(below.of(statistic), 1e-300), float(low), float(high)


def _statistic(values: Floats, statistic: Statistic) -> Floats:
    """One number for each of [n, plan seeds, images]."""
    if statistic == "median":
        return np.asarray(np.median(values, axis=(1, 2)))
    return np.asarray((values if statistic == "mean" else values > THRESHOLD).mean(axis=(1, 2)))
