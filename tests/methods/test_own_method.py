"""The method that CONTRIBUTING writes as its example does what it says: order, calls, process by process."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fakes import F64

import multidrift as md
from multidrift.methods.method import Method

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def heun():
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    names = {"__name__": "contributed"}
    exec(compile("from __future__ import annotations\n" + block, str(PAGE), "exec"), names)  # noqa: S102 (our own page)
    return names["Heun"]


def test_it_has_order_two_without_noise(heun, mixture, ddpm):
    process, errors, numbers = md.Diffusion(ddpm, 0), [], (50, 100, 200, 400)
    fine = md.sample(mixture.denoiser(ddpm), md.Multistep(3000, "logsnr", order=3), process, count=64, **F64).samples
    for steps in numbers:
        found = md.sample(mixture.denoiser(ddpm), heun(steps, "logsnr"), process, count=64, **F64)
        errors.append(float((found.samples - fine).square().mean().sqrt()))
        assert found.calls == {"mixture": 2 * steps - 1} == heun(steps).cost(mixture.denoiser(ddpm)).calls
    assert -np.polyfit(np.log(numbers), np.log(errors), 1)[0] == pytest.approx(heun(2).order, abs=0.2)


@pytest.mark.parametrize("friction", [None, 2.0])
def test_it_runs_langevin_dynamics(heun, friction):
    process = md.Overdamped(horizon=4.0) if friction is None else md.Underdamped(horizon=4.0, friction=friction)
    found = md.sample(md.LangevinDrift(lambda x: -x), heun(400), process, count=4000, shape=(1,), **F64)
    # Of a standard normal started at one, within four standard errors (false alarm 6e-5).
    assert float(found.samples.square().mean()) == pytest.approx(1.0, abs=4 * (2 / 4000) ** 0.5)


def test_without_its_second_call_it_is_euler(heun, mixture, ddpm, monkeypatch):
    euler = md.sample(mixture.denoiser(ddpm), md.Euler(20), count=3, **F64).samples
    constant = mixture.denoiser(ddpm)
    monkeypatch.setattr(type(constant), "predict", lambda self, x, t, target, conditioning: torch.ones_like(x))
    pair = [md.sample(constant, kind(20), count=3, **F64).samples for kind in (heun, md.Euler)]
    torch.testing.assert_close(*pair, rtol=0, atol=1e-12)
    assert not torch.equal(pair[0], euler)
    assert issubclass(heun, Method)
