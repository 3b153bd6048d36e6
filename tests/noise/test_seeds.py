"""Seeds and numbers of samples: different ones give different samples, and what would repeat is refused."""

import numpy as np
import pytest
import torch

import multidrift as md

pytestmark = pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")


@pytest.fixture
def ladder(denoiser):
    return md.Ladder([denoiser, denoiser], names=("f1", "f5"))


@pytest.mark.parametrize("seed", [2**64, 2**64 + 3, -(2**63) - 1])
def test_seeds_out_of_range_are_refused(denoiser, seed):
    takes = "it takes an integer from −2⁶³ to 2⁶⁴ − 1"
    with pytest.raises(md.MultidriftError, match=f"^seed: got .*{takes}"):
        md.sample(denoiser, md.Euler(4), seed=seed)
    with pytest.raises(md.MultidriftError, match=f"^seed.1.: got .*{takes}"):
        md.sample(denoiser, md.Euler(4), seed=[1, seed])
    with pytest.raises(md.MultidriftError, match=f"plan_seed: got .*{takes}"):
        md.sample(denoiser, md.PoissonMidpoint(4), plan_seed=seed)
    with pytest.raises(md.MultidriftError, match=f"^seed: got .*{takes}"):
        md.PoissonMidpoint(4).plan(denoiser, seed=seed)


def test_seeds_in_range_all_differ(denoiser, ladder):
    seeds = (-(2**63), -1, 0, 2**63 - 1, 2**63, 2**64 - 1)
    samples = torch.cat([md.sample(denoiser, md.Euler(4), seed=seed).samples for seed in seeds])
    assert len({tuple(row) for row in samples.tolist()}) == len(seeds)
    together = md.sample(denoiser, md.Euler(4), seed=seeds).samples
    assert torch.allclose(together, samples, atol=1e-5)
    plans = [md.Multilevel(40, calls=(40, 20), draws="independent").plan(ladder, seed=s).weights for s in seeds]
    assert len({weights.tobytes() for weights in plans}) == len(seeds)
    assert md.sample(denoiser, md.Euler(4), seed=np.uint64(2**64 - 1)).samples.equal(samples[-1:])


def test_numbers_of_samples_end_where_they_would_repeat(denoiser):
    md.sample(denoiser, md.Euler(4), first=2**63 - 2, count=2)
    with pytest.raises(md.MultidriftError, match=r"first: got 9\d+; it takes at most 2⁶³ − count"):
        md.sample(denoiser, md.Euler(4), first=2**63 - 2, count=3)


@pytest.mark.parametrize("given", [{"shape": ()}, {"start": torch.zeros(3)}])
def test_a_sample_has_a_dimension(given):
    with pytest.raises(
        md.MultidriftError, match="shape: got .* it takes one sample's shape, of at least one dimension"
    ):
        md.sample(lambda x: -x, md.Euler(4), md.Overdamped(1.0), **given)
