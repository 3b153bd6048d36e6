"""EDM2 from its published weights: the paper's network, whose layers normalise as they are called."""

import pytest
import torch
from safetensors.torch import save_file
from tests.edm2 import UNet, saved

import multidrift as md

# Millions of parameters as the paper's table 2 has them, by the width of the first stage.
SIZES = {"XS": (128, 125), "S": (192, 280), "M": (256, 498), "L": (320, 777), "XL": (384, 1119), "XXL": (448, 1523)}


@pytest.mark.parametrize("size", SIZES)
def test_the_published_sizes(size):
    """What stands for the weights' names and shapes in these tests has as many parameters as the networks have."""
    width, millions = SIZES[size]
    with torch.device("meta"):
        numbers = sum(p.numel() for p in UNet(width).parameters())
    assert round(numbers / 1e6) == millions


def test_it_is_the_papers_network(tmp_path):
    own = saved(tmp_path / "edm2-xs")
    denoiser = md.conventions.edm2(tmp_path / "edm2-xs")
    assert (denoiser.name, denoiser.shape, denoiser.schedule) == ("edm2-xs", (4, 8, 8), md.schedules.edm())
    x, labels, hot = torch.randn(3, 4, 8, 8), torch.tensor([0, 4, 2]), torch.eye(5)[[0, 4, 2]]
    with torch.no_grad():
        for sigma in (0.05, 0.5, 20.0):
            total = (sigma**2 + 0.25) ** 0.5
            noise = torch.full((3,), sigma).log() / 4
            wanted = 0.25 / total**2 * x + 0.5 * sigma / total * own(x / total, noise, hot)
            error = 1e-4 * float(wanted.abs().max())
            for given in ({"class_labels": labels}, {"class_labels": hot}):
                assert torch.allclose(denoiser.predict(x, sigma, "sample", given), wanted, atol=error), sigma
        nothing = own(x / total, noise, torch.zeros(3, 5)) * 0.5 * sigma / total + 0.25 / total**2 * x
        assert torch.allclose(denoiser.predict(x, sigma, "sample", {}), nothing, atol=error)
        assert not torch.allclose(nothing, wanted, atol=100 * error)


def test_sizes_make_a_ladder_with_guidance_by_the_smallest(tmp_path):
    saved(tmp_path / "xs")
    saved(tmp_path / "s", blocks=2)
    levels = [md.conventions.edm2(tmp_path / name) for name in ("xs", "s")]
    ladder = md.Ladder(levels)
    given = {"class_labels": torch.tensor([1, 3])}
    method = md.Multilevel(4, levels=("xs", "s"), calls=(4, 4))
    found = md.sample(ladder, method, md.Diffusion(ladder.schedule, 0.0), count=2, conditioning=given).samples
    wanted = md.sample(levels[1], md.Euler(4), md.Diffusion(ladder.schedule, 0.0), count=2, conditioning=given).samples
    assert torch.allclose(found, wanted, atol=1e-3 * float(wanted.abs().max()))
    guided = levels[1].guided(2.0, weak=levels[0])
    assert md.sample(guided, md.Euler(2), count=2, conditioning=given).samples.isfinite().all()
    half = md.conventions.edm2(tmp_path / "xs", dtype=torch.bfloat16)
    assert half.net.weights["out_conv/weight"].dtype == torch.bfloat16
    exact, rounded = (level.predict(found, 2.0, "sample", given) for level in (levels[0], half))
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


def test_weights_that_are_no_edm2(tmp_path):
    with pytest.raises(md.MultidriftError, match="path: got .*nowhere.*; it takes a safetensors file"):
        md.conventions.edm2(tmp_path / "nowhere")
    save_file({"out_gain": torch.ones(())}, tmp_path / "other.safetensors")
    with pytest.raises(
        md.MultidriftError, match="without emb_fourier.freqs, .*enc, dec.*; it takes the weights of an ED"
    ):
        md.conventions.edm2(tmp_path / "other.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(md.MultidriftError, match="could not be read"):
        md.conventions.edm2(tmp_path / "bad.safetensors")
