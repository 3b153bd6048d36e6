"""Shared fixtures: one mixture in two dimensions, in closed form at every noise level."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from tests.fakes import Small

import multidrift as md

torch.set_num_threads(1)

# The tier of `pytest -m fast`: under a minute on two cores, at least one file of every room that a run needs.
FAST = (
    *("test_architecture.py", "test_errors.py", "noise/", "schedules/", "processes/test_clocks.py"),
    *("processes/test_own_process.py", "drifts/test_drifts.py", "drifts/test_conditioning.py"),
    *("methods/multilevel/test_plans.py", "methods/picard/test_points.py", "methods/test_parity.py"),
)


def pytest_collection_modifyitems(items):
    tests = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(tests) and item.path.relative_to(tests).as_posix().startswith(FAST):
            item.add_marker("fast")


@pytest.fixture(scope="session")
def mixture():
    """Two well-overlapping components: a smooth target, so that strong orders show at moderate steps."""
    return md.GaussianMixture(
        weights=[0.4, 0.6],
        means=[[0.6, 0.0], [-0.5, 0.3]],
        covariances=[[[0.30, 0.10], [0.10, 0.40]], [[0.50, 0.00], [0.00, 0.20]]],
    )


@pytest.fixture(scope="session")
def ddpm():
    return md.schedules.ddpm()


@pytest.fixture
def denoiser(mixture, ddpm):
    return mixture.denoiser(ddpm)


@pytest.fixture
def small():
    return Small()
