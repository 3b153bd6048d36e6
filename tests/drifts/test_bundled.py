"""The digits ladder that comes with the package, and the pages that speak of it."""

import warnings
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.drifts.folder import BUNDLED
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.denoising import denoising_errors
from multidrift.training.images import load_images, split

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ladder():
    return md.Ladder.bundled("digits")


def test_it_is_small_enough_to_ship():
    files = [path for path in (BUNDLED / "digits").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 17 * 2**20
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_it_is_a_ladder_of_digits(ladder):
    assert ladder.names == ("f1", "f2", "f3", "f4", "f5")
    assert ladder.shape == (1, 28, 28)
    assert ladder.schedule == md.schedules.ddpm()
    assert ladder.costs.seconds["f5"] >= 12 * ladder.costs.seconds["f1"]
    ladder.check()
    with pytest.raises(md.MultidriftError, match="name: got 'faces'; it takes digits"):
        md.Ladder.bundled("faces")


def test_each_level_denoises_better_than_the_one_below(ladder):
    """On 64 of the held-out images, paired: neighbours are apart by more than two standard errors."""
    held_out = split(load_images(BUNDLED / "digits.npz"), 0.1, seed=0).held_out[:64]
    errors = denoising_errors(ladder, held_out, (20.0, 150.0))
    for worse, better in zip(ladder.names, ladder.names[1:], strict=False):
        gap, spread = errors.gap(worse, better)
        assert gap > 2 * spread, (worse, better)
    assert errors.mean("f1") > 1.15 * errors.mean("f5")


def test_levels_are_diffusers_pipelines(ladder):
    pipeline = diffusers.DDPMPipeline.from_pretrained(BUNDLED / "digits" / "f1")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = pipeline.unet.float()(x, torch.tensor(300.0)).sample
    assert torch.allclose(theirs, ladder["f1"].predict(x, np.full(2, 300.0), "epsilon", {}), atol=1e-5)


def test_evenly_spread_draws_err_less_on_real_networks(ladder):
    """f1+f3, 40 steps, 12 calls of f3, against f3 at every step: means over 8 digits, each with a draw of its own."""
    process = md.Diffusion(ladder.schedule, 0)
    reference = md.sample(ladder["f3"], md.Euler(40), process, count=8).samples
    mean = {}
    for draws in ("independent", "systematic"):
        method = md.Multilevel(40, levels=("f1", "f3"), calls=(40, 12), draws=draws, shared=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", md.PlanWarning)
            found = md.sample(ladder, method, process, count=8).samples
        mean[draws] = float(squared_distances(found, reference).mean())
    assert mean["systematic"] < mean["independent"]
