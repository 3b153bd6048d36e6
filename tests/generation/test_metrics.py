"""Distances as shards land are those of all samples at the end, whoever drew them and however often it was stopped."""

from itertools import pairwise

import pytest
import torch
from tests.ranks import run_ranks

import multidrift as md
from multidrift.evaluation.laws import frechet_distance, kernel_distance

pytest.importorskip("torchmetrics", reason="the extra `eval`")
METHOD = md.Euler(6)
SETTINGS = {"count": 160, "batch_size": 20, "shard_size": 20}


def features(samples):
    return torch.cat((samples, samples.square()), dim=1)


@pytest.fixture
def metrics(mixture):
    return md.Metrics(features, features(mixture.sample(300, seed=1).float()))


@pytest.mark.parametrize("processes", [1, 2])
def test_estimates_are_those_of_all_samples(denoiser, tmp_path, metrics, processes):
    def draw():
        told = []
        done = md.generate(
            denoiser, METHOD, tmp_path / "out", metrics=metrics, report=lambda news: told.append(news.count), **SETTINGS
        )
        return told, done.metrics

    (told, estimate), *others = run_ranks(processes, draw)
    found = features(md.read_samples(tmp_path / "out"))
    assert estimate.count == 160
    assert estimate.kernel == kernel_distance(found, metrics.real)
    assert estimate.frechet == pytest.approx(frechet_distance(found, metrics.real))
    assert told
    assert all(later >= 2 * earlier for earlier, later in pairwise(told))
    assert others == [([], None)] * (processes - 1)
    assert md.verify_samples(tmp_path / "out") == 160


def test_metrics_asked_for_later_are_the_same(denoiser, tmp_path, metrics):
    at_once = md.generate(denoiser, METHOD, tmp_path / "once", metrics=metrics, **SETTINGS).metrics
    md.generate(denoiser, METHOD, tmp_path / "later", **SETTINGS)
    later = md.generate(denoiser, METHOD, tmp_path / "later", resume=True, metrics=metrics, **SETTINGS).metrics
    assert later == at_once
    assert "160 samples: kernel distance" in str(later)


def test_the_error_of_the_frechet_distance_is_its_scatter(mixture, metrics):
    """Jackknife against the scatter over 40 draws; a ratio beyond 0.6 … 1.7 has a chance below 1e-3."""
    found = [metrics.estimate(features(mixture.sample(200, seed=seed).float() + 0.5)) for seed in range(40)]
    scatter = torch.tensor([estimate.frechet for estimate in found]).std()
    claimed = torch.tensor([estimate.frechet_error for estimate in found]).mean()
    assert 0.6 < claimed / scatter < 1.7


def test_a_module_and_real_samples_of_any_shape():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    metrics = md.Metrics(module, torch.randn(8, 3, 2, 2))
    assert metrics.real.shape == (8, 5)


@pytest.mark.parametrize(
    ("function", "real", "message"),
    [
        (3, torch.zeros(4, 2), "features: got 3"),
        (features, torch.zeros(2, 2), r"real: got \(2, 2\)"),
        (features, [1.0], r"real: got \[1.0\]"),
        (
            lambda x: x,
            torch.zeros(4, 3, 2, 2),
            r"features: got \(4, 3, 2, 2\); it takes a function that gives \[4, d\]",
        ),
    ],
)
def test_bad_metrics(function, real, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.Metrics(function, real)
