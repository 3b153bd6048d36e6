"""Verification of all of a window together: the same law, in fewer rounds."""

import math

import numpy as np
import pytest
import torch
from tests.fakes import F64
from tests.methods.speculative.targets import ladder_for
from tests.methods.speculative.test_law import statistic

import multidrift as md
from multidrift.methods.speculative import block

COUNT = 20_000
PROCESS = md.Overdamped(2.0)
AWAY = 1.6  # of the drafter's D: ‖Δ‖ is 0.57 at each of 8 steps


def ladder():
    """Two linear drifts whose difference is the same everywhere."""
    levels = [md.LangevinDrift(lambda x: AWAY - x, "low"), md.LangevinDrift(lambda x: -x, "top")]
    return md.Ladder(levels)


def drawn(verification="block", window=8, count=COUNT):
    """The standard normals [steps, count] of each step about the top level's mean, and the result."""
    method = md.Speculative(8, window=window, drafter="low", verification=verification)
    result = md.sample(ladder(), method, PROCESS, count, shape=(1,), save_transitions=True, **F64)
    made = result.transitions
    return ((made.states[1:] - made.means) / made.stds[0])[..., 0], result


def worst(normals):
    """The kernel test's χ² of all steps together, and the largest deviation of a moment, against fresh normals."""
    fresh = torch.randn(normals.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return statistic(normals.T, fresh.T)


def kolmogorov(normals):
    """√n·D of each step from N(0, 1), the largest."""
    found = torch.special.ndtr(normals.sort(dim=1).values)
    place = torch.arange(normals.shape[1], dtype=torch.float64) / normals.shape[1]
    return float((found - place).abs().max()) * math.sqrt(normals.shape[1])


@pytest.mark.parametrize("verification", ["step", "block"])
@pytest.mark.parametrize("window", [2, 3, 8])
def test_all_steps_have_independent_normal_noise_about_the_top_levels_means(verification, window):
    normals, _ = drawn(verification, window)
    kernel, sigmas = worst(normals)
    assert kernel < 98.6  # the 1 − 1e-6 quantile of χ² with 40 degrees of freedom
    assert sigmas < 4.9  # of 44 moments: 4e-5 of honest seeds fail
    assert kolmogorov(normals) < 2.5  # 8 steps: 6e-5


def without_renewal(self, steps, rows):
    """The noise that the refused draft has shown."""
    uniforms = torch.rand(len(steps), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return self.points.noise[self.points.at(steps, rows)], uniforms


def by_weight_alone(gains, distances, drafted, uniforms):
    """U ≤ w_i in place of U ≤ h_i."""
    weights = np.exp(np.minimum.accumulate(np.minimum(np.cumsum(gains, axis=0), 0.0), axis=0))
    passed = drafted & (uniforms <= weights)
    kept = np.where(passed.any(axis=0), len(gains) - passed[::-1].argmax(axis=0), 0)
    return kept, np.where(kept > 0, weights[np.maximum(kept - 1, 0), np.arange(len(kept))], 1.0)


def as_if_certain(distance, weight, uniforms):
    """The residual of w = 1 in place of w."""
    return _residual(distance, np.ones_like(weight), uniforms)


_residual = block._residual  # what the mutant calls


@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [
        (block.Renewal, "noise", without_renewal),
        (block, "accepted_lengths", by_weight_alone),
        (block, "_residual", as_if_certain),
    ],
    ids=["noise is used again", "U <= w", "the residual of w = 1"],
)
def test_mutants_are_caught(where, name, mutant, monkeypatch):
    monkeypatch.setattr(where, name, mutant)
    normals, _ = drawn(count=5 * COUNT)
    kernel, sigmas = worst(normals)
    assert kernel > 98.6 or sigmas > 6.0 or kolmogorov(normals) > 4.0


def test_it_accepts_more():
    _, by_step = drawn("step")
    _, together = drawn("block")
    assert together.speculation.rounds.mean() < 0.9 * by_step.speculation.rounds.mean()
    ten = ladder_for(md.Diffusion(md.schedules.ddpm()))
    rounds = [
        md.sample(ten, md.Speculative(60, window=20, drafter="low+held", verification=v), count=60).speculation.rounds
        for v in ("step", "block")
    ]
    assert rounds[1].mean() < 0.97 * rounds[0].mean()


def test_a_sample_depends_on_its_seed_and_number_alone():
    ten = ladder_for(md.Diffusion(md.schedules.ddpm()))
    method = md.Speculative(16, window=6, drafter="low+held", verification="block")
    together = md.sample(ten, method, count=4, seed=3, **F64)
    apart = [md.sample(ten, method, count=2, first=first, seed=3, **F64).samples for first in (0, 2)]
    assert torch.allclose(torch.cat(apart), together.samples, atol=1e-10, rtol=0)


def test_the_mass_left_is_the_integral():
    x = np.linspace(-12, 12, 200_001)

    def density(centre):
        return np.exp(-0.5 * (x - centre) ** 2) / math.sqrt(2 * math.pi)

    for weight in (1.0, 0.7, 0.01):
        for distance in (0.05, 0.8, 3.0):
            wanted = np.maximum(weight * density(-distance) - density(0.0), 0).sum() * (x[1] - x[0])
            found = block.missing_mass(np.array([weight]), np.array([distance]))
            assert found[0] == pytest.approx(wanted, abs=1e-8)


def test_an_unknown_verification_is_refused():
    with pytest.raises(md.MultidriftError, match="verification: got 'tree'; it takes step or block"):
        md.Speculative(9, verification="tree")
