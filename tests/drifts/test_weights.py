"""A network's fingerprint is that of its weights as they are, and read once while they stay so."""

import copy

import pytest
import torch

import multidrift as md
from multidrift.drifts import weights as module
from multidrift.drifts.weights import Weights


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 1, 1))


@pytest.fixture
def reads(monkeypatch):
    """How many tensors were read as a whole."""
    seen = []
    bit_sum = module.bit_sum
    monkeypatch.setattr(module, "bit_sum", lambda value: seen.append(1) or bit_sum(value))
    return seen


def in_place(net):
    with torch.no_grad():
        net[0].weight[1, 0, 2, 2] += 1e-3


def by_data(net):
    net[0].weight.data += 1e-3  # no version is counted


def replaced(net):
    net[2].weight = torch.nn.Parameter(net[2].weight.detach() + 1e-3)


def a_buffer(net):
    net[1].running_mean.add_(1e-3)


def loaded(net):
    net.load_state_dict({key: value + 1 for key, value in net.state_dict().items()})


def pointed_elsewhere(net):
    other = net[0].weight.data.clone()
    other.view(-1)[1] += 1e-3  # none of the 16 values that are looked at
    net[0].weight.data = other


@pytest.mark.parametrize("change", [in_place, by_data, replaced, a_buffer, loaded, pointed_elsewhere])
def test_weights_are_read_again_where_they_changed_and_only_there(net, reads, ddpm, change):
    denoiser = md.Denoiser(net, ddpm, shape=(1, 4, 4))
    first = denoiser.fingerprint
    once = len(reads)
    assert denoiser.fingerprint == first == denoiser.for_a_run().fingerprint
    assert len(reads) == once == len(net.state_dict())
    change(net)
    assert denoiser.fingerprint != first
    assert denoiser.fingerprint == md.Denoiser(copy.deepcopy(net), ddpm, shape=(1, 4, 4)).fingerprint


def test_weights_of_inference_mode_are_read_every_time(reads):
    """They count no versions."""
    with torch.inference_mode():
        value = torch.ones(100)
    weights = Weights()
    before = weights.sums([value])
    with torch.inference_mode():
        value[50] = 2.0
    assert weights.sums([value]) != before
    assert len(reads) == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.bool, torch.int8])
def test_every_kind_of_tensor_is_looked_at(dtype):
    one, none, turned = torch.ones((), dtype=dtype), torch.ones(0, dtype=dtype), torch.ones(3, 5, dtype=dtype).T
    weights = Weights()
    assert weights.sums([one, none, turned]) == weights.sums([one, none, turned])
    turned.data[...] = 0
    assert weights.sums([one, none, turned]) != Weights().sums([one, none, torch.ones(5, 3, dtype=dtype)])


def test_a_ladder_without_a_covariance_is_not_read_for_one(net, reads, ddpm):
    denoisers = [md.Denoiser(lambda x, t: net(x), ddpm, shape=(1, 4, 4), name=name) for name in ("small", "big")]
    md.sample(md.Ladder(denoisers), md.LadderMultistep(3, levels=("small", "big")), count=1)
    assert not reads
