"""Runs as ArviZ InferenceData."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.integrations import arviz as adapter
from multidrift.integrations.arviz import diagnose, to_inference_data


def run(start, steps=200, horizon=40.0, **settings):
    return md.sample(
        lambda x: -x, md.Euler(steps), md.Overdamped(horizon=horizon), start=start, save=2, seed=3, **settings
    )


@pytest.fixture(scope="module")
def result():
    return run(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))


def test_chains_come_first(result):
    pytest.importorskip("arviz")
    data = to_inference_data(result)
    draws = data.posterior["x"]
    assert draws.dims[:2] == ("chain", "draw")
    assert draws.shape == (8, 100, 3)
    expected = result.trajectory[1:].numpy().swapaxes(0, 1)
    np.testing.assert_array_equal(draws.values, expected)
    assert len(data.posterior.attrs["times"]) == 100
    assert data.posterior.attrs["times"][-1] == pytest.approx(40)
    assert [v for k, v in data.posterior.attrs.items() if k.startswith("calls_")] == [200]


def test_names_and_burn_in(result):
    pytest.importorskip("arviz")
    data = to_inference_data(result, names=("a", "b", "c"), burn_in=51)
    assert list(data.posterior.data_vars) == ["a", "b", "c"]
    np.testing.assert_array_equal(data.posterior["b"].values, result.trajectory[51:, :, 1].numpy().T)


def test_samples_of_any_shape():
    pytest.importorskip("arviz")
    data = to_inference_data(run(torch.zeros(4, 2, 3)))
    assert data.posterior["x"].shape == (4, 100, 2, 3)


def test_r_hat_tells_stuck_chains_from_mixed_ones(result):
    pytest.importorskip("arviz")
    mixed = diagnose(result, burn_in=20)
    assert mixed.r_hat.shape == mixed.effective.shape == (3,)
    assert (mixed.r_hat < 1.1).all()
    assert (mixed.effective > 100).all()
    stuck = diagnose(run(torch.linspace(-9, 9, 8)[:, None], horizon=0.5))
    assert stuck.r_hat[0] > 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ("a", "b")}, "names: got"),
        ({"names": ("a", "a", "b")}, "names: got"),
        ({"burn_in": 101}, "burn_in: got 101; it takes an integer from 0 to 100"),
        ({"burn_in": -1}, "burn_in: got -1"),
        ({"burn_in": 0.5}, "burn_in: got 0.5"),
    ],
)
def test_wrong_calls_say_what_they_take(result, settings, message):
    with pytest.raises(md.MultidriftError, match=message):
        to_inference_data(result, **settings)


def test_needs_a_trajectory():
    plain = md.sample(lambda x: -x, md.Euler(2), md.Overdamped(horizon=1.0), start=torch.zeros(2, 1))
    with pytest.raises(md.MultidriftError, match=r"result: got 'a run without a trajectory'; .* save=k"):
        to_inference_data(plain)


def test_says_how_to_install(result, monkeypatch):
    monkeypatch.setattr(adapter, "available", lambda: False)
    with pytest.raises(md.MultidriftError, match=r"pip install 'multidrift\[arviz\]'"):
        to_inference_data(result)


def test_is_not_imported_with_the_package():
    code = "import sys, multidrift, multidrift.integrations.arviz; sys.exit('arviz' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
