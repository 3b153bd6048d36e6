"""Denoisers, the closed-form mixture, ladders and their folder."""

import json
import os
import shutil

import diffusers
import numpy as np
import pytest
import torch
from tests.fakes import Small

import multidrift as md
from multidrift.basics import folders
from multidrift.processes.predictions import PREDICTIONS, conversion

SCHEDULES = [md.schedules.ddpm(), md.schedules.vp(), md.schedules.ve(), md.schedules.edm(), md.schedules.flow()]


def unet(channels=(8, 8), seed=0):
    torch.manual_seed(seed)
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
    )  # fmt: skip


@pytest.fixture
def ladder(ddpm):
    return md.Ladder([md.Denoiser(unet(seed=i), ddpm, name=f"f{i}") for i in (1, 2)])


# Predictions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", PREDICTIONS)
@pytest.mark.parametrize("target", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_conversions_follow_the_definitions(schedule, source, target):
    times = np.linspace(schedule.t_min, schedule.t_max, 9)[1:-1]
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    data, noise = 0.7, -1.3
    x = alpha * data + sigma * noise
    values = {
        "sample": np.full(7, data),
        "epsilon": np.full(7, noise),
        "v_prediction": alpha * noise - sigma * data,
        "flow": np.full(7, noise - data),
        "score": -noise / sigma,
    }
    a, b = conversion(source, target, alpha, sigma)
    np.testing.assert_allclose(a * x + b * values[source], values[target], rtol=1e-9, atol=1e-9)


def test_every_kind_of_network_samples_alike(mixture, ddpm):
    """One mixture behind five kinds of prediction gives the same samples."""
    exact = mixture.denoiser(ddpm)
    wanted = md.sample(exact, md.Euler(20), count=4, dtype=torch.float64).samples
    for kind in PREDICTIONS:
        net = lambda x, t, kind=kind: exact.predict(x, t.numpy(), kind, {})  # noqa: E731
        found = md.Denoiser(net, ddpm, predicts=kind, shape=(2,))
        assert torch.allclose(md.sample(found, md.Euler(20), count=4, dtype=torch.float64).samples, wanted, atol=1e-10)


def test_clipping_limits_the_data(ddpm):
    denoiser = md.Denoiser(lambda x, t: 0 * x, ddpm, clip=0.5, shape=(2,))
    x = torch.tensor([[5.0, -0.01]])
    assert torch.allclose(denoiser.predict(x, np.array([10.0]), "sample", {}), torch.tensor([[0.5, -0.01]]), atol=1e-3)


def test_network_computes_in_its_own_precision(ddpm):
    net = Small().half()
    denoiser = md.Denoiser(net, ddpm, shape=(1, 8, 8))
    samples = md.sample(denoiser, md.Euler(5), count=2, dtype=torch.float64).samples
    assert samples.dtype == torch.float64
    assert denoiser.dtype == torch.float16
    assert net.seen[0][1].dtype == torch.float32


# The mixture --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_mixture_denoiser_is_tweedies_formula(mixture, schedule):
    """E[x_0 | x] = (x + σ² ∇ log p_t(x))/α with p_t the mixture blurred by hand, differentiated by autograd."""
    for t in np.linspace(schedule.t_min, schedule.t_max, 5)[1:-1]:
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        covariances = alpha**2 * np.array(
            [[[0.30, 0.10], [0.10, 0.40]], [[0.50, 0.00], [0.00, 0.20]]]
        ) + sigma**2 * np.eye(2)
        blurred = md.GaussianMixture([0.4, 0.6], alpha * np.array([[0.6, 0.0], [-0.5, 0.3]]), covariances)
        x = (sigma + 1) * torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        (score,) = torch.autograd.grad(blurred.log_density(x).sum(), x)
        assert torch.allclose(blurred.score(x), score, atol=1e-12)
        wanted = (x + sigma**2 * score) / alpha
        found = mixture.denoiser(schedule).predict(x, np.full(6, t), "sample", {})
        assert torch.allclose(found, wanted, rtol=1e-8, atol=1e-8)


def test_mixture_samples_have_its_moments(mixture):
    x = mixture.sample(200_000, seed=3)
    assert torch.allclose(x.mean(0), mixture.mean, atol=5 * 0.8 / 200_000**0.5)
    assert torch.allclose(x.T.cov(), mixture.covariance, atol=0.01)
    grid = torch.cartesian_prod(*[torch.linspace(-5, 5, 401, dtype=torch.float64)] * 2)
    assert float(mixture.log_density(grid).exp().sum() * 0.025**2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (([1.0], [[0.0, 0.0]], [[[1.0]]]), "covariances"),
        (([1.0, 1.0], [[0.0]], [[[1.0]]]), "means"),
        (([-1.0], [[0.0]], [[[1.0]]]), "weights"),
        (([1.0], [[0.0]], [[[-1.0]]]), "covariances"),
    ],
)
def test_bad_mixtures(settings, named):
    with pytest.raises(md.MultidriftError, match=f"^{named}: got"):
        md.GaussianMixture(*settings)


def test_a_point_mass_has_a_denoiser_but_no_density(ddpm):
    point = md.GaussianMixture([1.0], [[1.0, 2.0]], [[[0.0, 0.0], [0.0, 1.0]]])
    assert point.denoiser(ddpm).predict(torch.zeros(1, 2), 500.0, "sample", {})[0, 0] == 1
    with pytest.raises(md.MultidriftError, match="covariances: got 'a smallest variance of 0'"):
        point.score(torch.zeros(1, 2))


# Ladders ------------------------------------------------------------------------------------------


def test_ladder_has_names_and_a_top(ladder):
    assert ladder.names == ("f1", "f2")
    assert ladder.top == "f2"
    assert ladder["f2"].name == "f2"
    assert ladder.shape == (1, 8, 8)
    with pytest.raises(md.MultidriftError, match=r"level: got 'f9'; it takes f1, f2"):
        ladder["f9"]


def test_names_given_to_a_ladder_are_used_everywhere(mixture, ddpm):
    ladder = md.Ladder([mixture.denoiser(ddpm), mixture.denoiser(ddpm)], names=("small", "big"))
    assert md.sample(ladder["small"], md.Euler(3)).calls == {"small": 3}
    with pytest.raises(md.MultidriftError, match="names: got '../up'"):
        md.Ladder([mixture.denoiser(ddpm)], names=("../up",))


def test_measuring_leaves_networks_as_they_were(ddpm):
    class Normed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1)
            self.modes = []

        def forward(self, x, t):
            self.modes.append(self.training)
            return self.norm(x)

    net = Normed().train()
    ladder = md.Ladder([md.Denoiser(net, ddpm, shape=(1, 8, 8))])
    ladder.check()
    measured = ladder.measured(batch=2, repeats=1)
    assert measured.costs.batch == 2
    assert net.training
    assert not any(net.modes)
    assert float(net.norm.running_mean) == 0


def test_check_passes_levels_that_agree(mixture, ddpm):
    md.Ladder([mixture.denoiser(ddpm, "a"), mixture.denoiser(ddpm, "b")]).check()


def scaled(net_scale, ddpm, mixture, predicts="epsilon"):
    exact = mixture.denoiser(ddpm)
    net = lambda x, t: net_scale * exact.predict(x, t.double().numpy(), "epsilon", {})  # noqa: E731
    return md.Denoiser(net, ddpm, predicts=predicts, name="odd", shape=(2,))


@pytest.mark.parametrize(("scale", "predicts"), [(2.0, "epsilon"), (1.0, "v_prediction"), (-1.0, "epsilon")])
def test_check_names_a_level_of_another_scale(mixture, ddpm, scale, predicts):
    ladder = md.Ladder([scaled(scale, ddpm, mixture, predicts), mixture.denoiser(ddpm, "top")])
    with pytest.raises(md.MultidriftError, match=r"level odd: .*one scale"):
        ladder.check()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda x, t: x[:, :1], "output shape"),
        (lambda x, t: x / 0, "not finite"),
        (lambda x, t: x.long(), "output dtype"),
        (lambda x, t: None, "returned NoneType"),
    ],
)
def test_check_names_a_broken_level(mixture, ddpm, net, message):
    odd = md.Denoiser(net, ddpm, name="odd", shape=(2,))
    with pytest.raises(md.MultidriftError, match=f"odd.*{message}"):
        md.Ladder([odd, mixture.denoiser(ddpm, "top")]).check()


def test_levels_must_belong_together(mixture, ddpm):
    with pytest.raises(md.MultidriftError, match="levels: mixture has another schedule than top"):
        md.Ladder([mixture.denoiser(md.schedules.vp()), mixture.denoiser(ddpm, "top")])
    with pytest.raises(md.MultidriftError, match="levels: mixture has shape .2,., a has .1, 8, 8."):
        md.Ladder([md.Denoiser(unet(), ddpm, name="a"), mixture.denoiser(ddpm)])
    with pytest.raises(md.MultidriftError, match="levels: got"):
        md.Ladder([])
    with pytest.raises(md.MultidriftError, match=r"names: .* all different"):
        md.Ladder([mixture.denoiser(ddpm), mixture.denoiser(ddpm)])


# The folder ---------------------------------------------------------------------------------------


def test_saved_and_loaded_ladder_samples_bit_for_bit(ladder, tmp_path):
    ladder.measured(batch=2, repeats=1).save(tmp_path / "ladder")
    again = md.Ladder.load(tmp_path / "ladder")
    for name in ladder.names:
        wanted = md.sample(ladder[name], md.Euler(4), count=3).samples
        assert torch.equal(md.sample(again[name], md.Euler(4), count=3).samples, wanted)
    assert again.schedule == ladder.schedule
    assert set(again.costs.seconds) == {"f1", "f2"}
    assert [p.name for p in tmp_path.iterdir()] == ["ladder"]


def test_a_level_is_a_diffusers_pipeline(ladder, tmp_path):
    ladder.save(tmp_path / "ladder")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "ladder" / "f1")
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    kept = pipeline.scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(kept, ladder.schedule.alphas_cumprod, rtol=1e-4)
    for mine, theirs in zip(ladder["f1"].net.parameters(), pipeline.unet.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_half_precision_is_half_the_size_and_nearly_the_same(ladder, tmp_path):
    ladder.save(tmp_path / "full")
    ladder.save(tmp_path / "half", half=True)
    file = "f2/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "half" / file).stat().st_size < 0.6 * (tmp_path / "full" / file).stat().st_size
    assert next(ladder["f2"].net.parameters()).dtype == torch.float32
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    half = md.Ladder.load(tmp_path / "half")["f2"].predict(x, np.full(2, 500.0), "epsilon", {})
    assert torch.allclose(half, ladder["f2"].predict(x, np.full(2, 500.0), "epsilon", {}), atol=5e-3)


@pytest.fixture
def saved(ladder, tmp_path):
    ladder.save(tmp_path / "ladder")
    return tmp_path / "ladder"


def describe(folder, **changes):
    file = folder / "ladder.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def damage(folder, kind):
    weights = folder / "f1" / "unet" / "diffusion_pytorch_model.safetensors"
    match kind:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "changed":
            weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        case "missing level":
            shutil.rmtree(folder / "f1")
        case "missing file":
            weights.unlink()
        case "newer":
            describe(folder, format=3)
        case "another number":
            level = json.loads((folder / "ladder.json").read_text())["levels"]["f1"]
            describe(folder, levels={"f1": level | {"predicts": "sample"}})
        case "no json":
            (folder / "ladder.json").write_text("{")
        case "foreign":
            (folder / "ladder.json").write_text('{"a": 1}')
        case "no description":
            (folder / "ladder.json").unlink()
        case "unknown schedule":
            describe(folder, schedule={"kind": "sigmoid"})
        case "no hashes":
            levels = json.loads((folder / "ladder.json").read_text())["levels"]
            levels["f1"]["files"] = {}
            describe(folder, levels=levels)
        case "bad costs":
            describe(folder, costs={"seconds": {}})
        case "bad betas":
            describe(folder, schedule={"kind": "discrete", "betas": ["a", "b"]})
        case "no betas":
            describe(folder, schedule={"kind": "discrete", "betas": 5})
        case "bad clip":
            levels = json.loads((folder / "ladder.json").read_text())["levels"]
            levels["f1"]["clip"] = "abc"
            describe(folder, levels=levels)
        case "outside":
            levels = json.loads((folder / "ladder.json").read_text())["levels"]
            levels["f1"]["files"]["../../secret"] = "0"
            describe(folder, levels=levels)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", r"level f1: .*damaged or was changed"),
        ("changed", r"level f1: .*damaged or was changed"),
        ("missing level", "a folder for level f1, which is missing"),
        ("missing file", "level f1: got 'no file unet/diffusion"),
        ("newer", "has format 3; this version of multidrift reads up to 2"),
        ("another number", "ladder.json: is damaged or was changed"),
        ("no json", "is damaged, no valid JSON"),
        ("foreign", "is not a ladder's description"),
        ("no description", "it takes a ladder's folder"),
        ("unknown schedule", "schedule: got kind 'sigmoid'"),
        ("outside", "lies outside the ladder's folder"),
        ("no hashes", "level f1: got .*a hash of unet/config.json"),
        ("bad costs", "costs: .batch. is missing"),
        ("bad betas", "betas: got .*; it takes an array of numbers"),
        ("no betas", "betas: got .*; it takes a list of numbers"),
        ("bad clip", "level f1: .clip.: got .abc.; it takes None or a positive number"),
    ],
)
def test_damaged_folders_are_refused(saved, kind, message):
    damage(saved, kind)
    with pytest.raises(md.MultidriftError, match=message):
        md.Ladder.load(saved)


def test_saving_replaces_only_ladders(ladder, saved, tmp_path):
    with pytest.raises(md.MultidriftError, match="which exists"):
        ladder.save(saved)
    ladder.save(saved, overwrite=True)
    md.Ladder.load(saved)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(md.MultidriftError, match="is no ladder"):
        ladder.save(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_failed_save_leaves_everything_as_it_was(ladder, saved, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(diffusers.UNet2DModel, "save_pretrained", full)
    with pytest.raises(md.MultidriftError, match="No space left on device.*nothing was changed"):
        ladder.save(saved, overwrite=True)
    with pytest.raises(md.MultidriftError, match="No space left"):
        ladder.save(saved.parent / "other")
    assert [p.name for p in saved.parent.iterdir()] == ["ladder"]
    md.Ladder.load(saved)


def test_a_ladder_is_never_lost_between_two_renames(ladder, saved, monkeypatch):
    """Also where the system cannot exchange two folders in one step."""
    replace = os.replace

    def fails_for_the_new_one(source, target):
        if str(source).endswith(".partial"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    monkeypatch.setattr(os, "replace", fails_for_the_new_one)
    with pytest.raises(md.MultidriftError, match=r"Input/output error.*nothing was changed"):
        ladder.save(saved, overwrite=True)
    assert [p.name for p in saved.parent.iterdir()] == ["ladder"]
    md.Ladder.load(saved)


def test_saving_into_a_file_is_refused(ladder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(md.MultidriftError, match="is no ladder"):
        ladder.save(tmp_path / "file", overwrite=True)
    with pytest.raises(md.MultidriftError, match="could not write"):
        ladder.save(tmp_path / "file" / "ladder")


def test_networks_of_another_kind_cannot_be_saved(mixture, ddpm, tmp_path):
    with pytest.raises(md.MultidriftError, match="saving takes diffusers networks"):
        md.Ladder([mixture.denoiser(ddpm)]).save(tmp_path / "x")
