"""Ladders in closed form whose levels differ by as much as the noise of a step, so that drafts are often refused."""

import numpy as np

import multidrift as md

DIMENSIONS = 10


def mixtures():
    """(a wrong and wider mixture, the right one) in ten dimensions."""
    rng = np.random.default_rng(0)
    means, away = rng.normal(size=(2, 3, DIMENSIONS))
    shapes = rng.normal(size=(3, DIMENSIONS, DIMENSIONS)) * 0.15
    covariances = [0.2 * np.eye(DIMENSIONS) + a @ a.T for a in shapes]
    top = md.GaussianMixture([0.2, 0.3, 0.5], means, covariances)
    low = md.GaussianMixture([0.4, 0.6], means[:2] + 0.25 * away[:2], [0.4 * np.eye(DIMENSIONS)] * 2)
    return low, top


def between():
    """A third one, nearer to the right one."""
    _, top = mixtures()
    weights = [0.2, 0.3, 0.5]
    return md.GaussianMixture(weights, top.means + 0.1, [0.3 * np.eye(DIMENSIONS)] * 3)


def ladder_for(process):
    """Levels "low", "middle" and "top", and the closed-form Gaussian of a diffusion."""
    (low, top), middle = mixtures(), between()
    if process.model_schedule is None:
        named = (("low", low), ("middle", middle), ("top", top))
        return md.Ladder([md.LangevinDrift(m.score, name, shape=(DIMENSIONS,)) for name, m in named])
    schedule = process.model_schedule
    named = (("low", low), ("middle", middle), ("top", top))
    gaussian = md.GaussianDenoiser.fit(top.sample(2000, seed=0), schedule)
    return md.Ladder([m.denoiser(schedule, name) for name, m in named], gaussian=gaussian)
