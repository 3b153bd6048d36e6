"""What speculative sampling is measured on: the bundled digits, and two closed forms with a cheaper level each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import multidrift as md
from benchmarks.parallel.measure import InParts
from benchmarks.tables import results
from multidrift.drifts.costs import Costs


@dataclass(frozen=True)
class Problem:
    """A ladder with costs, and how many samples are drawn of it at so many steps."""

    name: str
    ladder: Callable[[], md.Ladder]
    samples: dict[int, int]


def digits() -> md.Ladder:
    """The bundled networks, at the costs that the benchmark of parallel methods has recorded."""
    ladder = md.Ladder.bundled("digits")
    for level in ladder:
        level.net = InParts(level.net)
    ladder.costs = Costs(results("parallel")["seconds_per_call"], 16, "as recorded")
    return ladder


def closed_form(dimensions: int, modes: int) -> md.Ladder:
    """A mixture of `modes` narrow Gaussians; below it one of half as many wider ones, and its own Gaussian.

    A call of the level below is counted as a tenth of one of the top: no time is measured here.
    """
    rng = np.random.default_rng(dimensions)
    means = rng.normal(size=(modes, dimensions)) * 0.7
    top = md.GaussianMixture([1.0 / modes] * modes, means, [0.02 * np.eye(dimensions)] * modes)
    pairs = means.reshape(-1, 2, dimensions)
    spread = [0.02 * np.eye(dimensions) + np.outer(a - b, a - b) / 4 for a, b in pairs]
    low = md.GaussianMixture([2.0 / modes] * (modes // 2), pairs.mean(axis=1), spread)
    schedule = md.schedules.ddpm()
    gaussian = md.GaussianDenoiser.fit(top.sample(20_000, seed=0), schedule)
    levels = [low.denoiser(schedule, "low"), top.denoiser(schedule, "top")]
    return md.Ladder(levels, costs=Costs({"low": 0.1, "top": 1.0}, 16, "assumed"), gaussian=gaussian)


PROBLEMS = (
    Problem("digits", digits, {400: 16, 100: 16, 1000: 8}),
    Problem("2 dimensions", lambda: closed_form(2, 8), {100: 64, 400: 64, 1000: 64}),
    Problem("16 dimensions", lambda: closed_form(16, 16), {100: 64, 400: 64, 1000: 64}),
)
