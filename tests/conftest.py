"""Shared fixtures: one mixture in two dimensions, in closed form at every noise level."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

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


class Small(torch.nn.Module):
    """A convolution that stands for a network: cheap, with parameters, sensitive to every input."""

    def __init__(self, channels=1, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.seen = []

    def forward(self, x, t, scale=None):
        self.seen.append((tuple(x.shape), t.clone()))
        out = torch.tanh(self.conv(x)) * torch.cos(t / 1000).view(-1, 1, 1, 1).to(x.dtype)
        return out if scale is None else out * scale.view(-1, 1, 1, 1).to(x.dtype)


@pytest.fixture
def small():
    return Small()
