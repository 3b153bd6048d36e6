"""Networks that work in place on what they are given reach neither the run nor the caller's tensors."""

import pytest
import torch

import multidrift as md

METHODS = (
    md.Euler(6),
    md.Multistep(6),
    md.PoissonMidpoint(6, substeps=4),
    md.Picard(6, tolerance=1e-12),
    md.Multilevel(6, probabilities=(1.0, 1.0)),
)


def in_place(x, t=None):
    return x.mul_(0.5).tanh_()


def out_of_place(x, t=None):
    return torch.tanh(x * 0.5)


@pytest.mark.parametrize("predicts", ["sample", "epsilon"])  # with and without a conversion that reads x again
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_diffusion(ddpm, method, predicts, batch_size):
    start = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = start.clone()

    def run(net):
        levels = [md.Denoiser(net, ddpm, predicts, name=name, shape=(4,)) for name in ("f1", "f2")]
        model = md.Ladder(levels)
        return md.sample(model, method, start=start, dtype=torch.float64, batch_size=batch_size, save=1)

    found, wanted = run(in_place), run(out_of_place)
    assert torch.equal(start, kept)
    assert torch.equal(found.trajectory, wanted.trajectory)


@pytest.mark.parametrize("process", [md.Overdamped(1.0), md.Underdamped(1.0, friction=2.0)])
def test_langevin_dynamics(process):
    start = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = start.clone()
    found = md.sample(in_place, md.Euler(6), process, start=start, dtype=torch.float64).samples
    assert torch.equal(start, kept)
    assert torch.equal(found, md.sample(out_of_place, md.Euler(6), process, start=start, dtype=torch.float64).samples)


def test_gradients_pass_the_copy(ddpm):
    start = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    model = md.Denoiser(in_place, ddpm, "sample", shape=(4,))

    def end(x):
        return md.sample(model, md.Euler(4), start=x, grad=True, dtype=torch.float64).samples

    assert torch.autograd.gradcheck(end, (start,))
