"""Shared fixtures: one mixture in two dimensions, in closed form at every noise level."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from tests.fakes import Small

import multidrift as md

torch.set_num_threads(1)


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
