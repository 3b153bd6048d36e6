"""Networks of other code bases: the closed form in their conventions is the closed form in ours."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.sit import SiT
from torch import nn

import multidrift as md

F64 = {"dtype": torch.float64}
LABELS = {"class_labels": torch.eye(3)[:2]}


def posterior(mixture, x, alpha, sigma):
    return mixture.posterior_mean(x, alpha.expand(len(x)), sigma.expand(len(x)))


def agrees(mixture, denoiser, conditioning=None):
    """The denoiser's data is the mixture's, at three times of its schedule."""
    schedule = denoiser.schedule
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for place in (-2.0, 0.3, 2.5):
        t = float(schedule.time(place))
        found = denoiser.predict(x, t, "sample", conditioning or {})
        assert torch.allclose(found, mixture.denoiser(schedule).predict(x, t, "sample", {}), atol=1e-6), place


def test_edm(mixture):
    def net(x, sigma, class_labels=None):
        assert class_labels is not None
        return posterior(mixture, x, torch.ones_like(sigma), sigma)

    agrees(mixture, md.conventions.edm(net, shape=(2,)), LABELS)
    net.img_channels, net.img_resolution = 3, 64
    assert md.conventions.edm(net).shape == (3, 64, 64)
    assert md.conventions.edm(net).schedule == md.schedules.edm()


def test_k_diffusion(mixture):
    def model(x, sigma):
        return posterior(mixture, x, torch.ones_like(sigma), sigma)

    agrees(mixture, md.conventions.k_diffusion(model, 0.01, 50.0, shape=(2,)))
    with pytest.raises(md.MultidriftError, match="sigma_min: got None, and the model has none of its own"):
        md.conventions.k_diffusion(model)
    model.sigma_min, model.sigma_max = torch.tensor(0.03), torch.tensor(14.6)
    assert md.conventions.k_diffusion(model).schedule.t_max == pytest.approx(14.6)


def test_score_sde(mixture):
    vp, ve = md.schedules.vp(), md.schedules.ve()

    def of_vp(x, labels):
        alpha, sigma = (torch.from_numpy(f(labels.double().numpy() / 999)) for f in (vp.alpha, vp.sigma))
        return (x - alpha[:, None] * posterior(mixture, x, alpha, sigma)) / sigma[:, None]

    def of_ve(x, sigma):
        return (posterior(mixture, x, torch.ones_like(sigma), sigma) - x) / sigma[:, None] ** 2

    agrees(mixture, md.conventions.score_sde(of_vp, vp, shape=(2,)))
    agrees(mixture, md.conventions.score_sde(of_ve, ve, shape=(2,)))
    with pytest.raises(md.MultidriftError, match=re.escape("it takes md.schedules.vp() or md.schedules.ve()")):
        md.conventions.score_sde(of_ve, md.schedules.edm())


@pytest.mark.parametrize("data_at", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_flow(mixture, data_at, scale):
    def velocity(x, t):
        alpha = t.double() / scale if data_at else 1 - t.double() / scale
        data = posterior(mixture, x, alpha, 1 - alpha)
        noise = (x - alpha[:, None] * data) / (1 - alpha)[:, None]
        return data - noise if data_at else noise - data

    agrees(mixture, md.conventions.flow(velocity, data_at, scale=scale, shape=(2,)))
    with pytest.raises(md.MultidriftError, match="data_at: got 2; it takes 1"):
        md.conventions.flow(velocity, 2)


def test_arrays_of_other_libraries(mixture):
    """numpy stands for JAX: its arrays know DLPack, too."""
    schedule = md.schedules.edm()
    seen = []

    def function(x, t, scale=None):
        seen.append((type(x), x.dtype, type(t), type(scale)))
        variance = 0.25
        return x * (variance / (variance + np.square(t)))[:, None] * (1 if scale is None else np.asarray(scale))

    net = md.conventions.through_dlpack(function, np.from_dlpack)
    denoiser = md.Denoiser(net, schedule, "sample", shape=(2,))
    conditioning = {"scale": torch.ones(1, 2)}
    found = md.sample(denoiser, md.Euler(8), count=3, conditioning=conditioning, **F64).samples
    exact = md.GaussianDenoiser(np.zeros(2), 0.25, schedule)
    assert torch.allclose(found, md.sample(exact, md.Euler(8), count=3, **F64).samples, atol=1e-4)
    assert found.dtype == torch.float64
    assert set(seen) == {(np.ndarray, np.dtype("float32"), np.ndarray, np.ndarray)}


def test_jax():
    jnp = pytest.importorskip("jax.numpy", reason="jax is an extra of the benchmarks")
    net = md.conventions.from_jax(lambda x, t: x / (1 + jnp.square(t))[:, None])
    denoiser = md.Denoiser(net, md.schedules.edm(), "sample", shape=(2,))
    exact = md.GaussianDenoiser(np.zeros(2), 1.0, md.schedules.edm())
    found, wanted = (md.sample(model, md.Euler(6), count=2).samples for model in (denoiser, exact))
    assert torch.allclose(found, wanted, atol=1e-4)


class Session:
    """What an onnxruntime.InferenceSession is to us."""

    def get_inputs(self):
        kinds = {"sample": "float16", "timestep": "int64", "labels": "int64"}
        return [SimpleNamespace(name=name, type=f"tensor({kind})") for name, kind in kinds.items()]

    def run(self, outputs, given):
        self.dtypes = {name: str(value.dtype) for name, value in given.items()}
        return [given["sample"] * 0.5]


def test_onnx():
    session = Session()
    denoiser = md.Denoiser(md.conventions.from_onnx(session), md.schedules.ddpm(), shape=(2,))
    labels = {"labels": torch.zeros(2)}
    samples = md.sample(denoiser, md.Euler(3, integer=True), count=2, conditioning=labels).samples
    assert samples.dtype == torch.float32
    assert session.dtypes == {"sample": "float16", "timestep": "int64", "labels": "int64"}
    with pytest.raises(
        md.MultidriftError, match="conditioning: got .'text'.; it takes the session's inputs .'labels'."
    ):
        md.sample(denoiser, md.Euler(3), count=2, conditioning={"text": 1})
    with pytest.raises(md.MultidriftError, match="session: got 'str'; it takes an onnxruntime.InferenceSession"):
        md.conventions.from_onnx("model.onnx")


# SiT ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "model."])
def test_sit_is_the_papers_network(tmp_path, prefix):
    torch.manual_seed(0)
    own = SiT()
    for parameter in own.parameters():
        nn.init.normal_(parameter, std=0.2)
    weights = {f"{prefix}{name}": value.contiguous() for name, value in own.state_dict().items()}
    (tmp_path / "SiT-S" / "transformer").mkdir(parents=True)
    save_file(weights, tmp_path / "SiT-S" / "transformer" / "diffusion_pytorch_model.safetensors")
    denoiser = md.conventions.sit(tmp_path / "SiT-S", heads=2)
    assert (denoiser.name, denoiser.shape, denoiser.schedule) == ("SiT-S", (4, 8, 8), md.schedules.flow())
    x, labels = torch.randn(3, 4, 8, 8), torch.tensor([0, 4, 5])
    with torch.no_grad():
        for t in (0.05, 0.5, 0.9):
            found = denoiser.predict(x, t, "flow", {"class_labels": labels})
            wanted = -own(x, torch.full((3,), 1 - t), labels)
            assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max())), t
    ladder = md.Ladder([denoiser.renamed("S"), denoiser.renamed("B")])
    method = md.Multilevel(8, levels=("S", "B"), calls=(8, 3))
    assert md.sample(ladder, method, count=3, conditioning={"class_labels": labels}).samples.isfinite().all()


def test_weights_that_are_no_sit(tmp_path):
    weights = {name: value.contiguous() for name, value in SiT().state_dict().items()}
    save_file(weights, tmp_path / "sit.safetensors")
    with pytest.raises(md.MultidriftError, match="heads: got None for weights of width 32"):
        md.conventions.sit(tmp_path / "sit.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(md.MultidriftError, match="without .*pos_embed.*; it takes the weights of a SiT"):
        md.conventions.sit(tmp_path / "other.safetensors")
    save_file(weights | {"blocks.0.norm_q.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(md.MultidriftError, match="has other weights than a SiT's"):
        md.conventions.sit(tmp_path / "more.safetensors", heads=2)
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(md.MultidriftError, match="could not read"):
        md.conventions.sit(tmp_path / "bad.safetensors")
    with pytest.raises(md.MultidriftError, match="path: got .*nowhere.*; it takes a safetensors file"):
        md.conventions.sit(tmp_path / "nowhere")
