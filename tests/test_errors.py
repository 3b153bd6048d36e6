"""Bad input: one clear error, early, that names the argument, what it got and what it takes."""

import math

import pytest
import torch
from tests.fakes import Small

import multidrift as md


@pytest.fixture
def network(ddpm):
    return md.Denoiser(Small(), ddpm, shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: md.Euler(1), "steps: got 1; it takes None or an integer of at least 2"),
        (lambda: md.Euler(20.0), "steps: got 20.0"),
        (lambda: md.Euler(), "steps: got None"),
        (lambda: md.Euler(20, "quadratic"), "grid: got 'quadratic'; it takes None or blend, logsnr"),
        (lambda: md.Euler(3, times=(9, 5)), "steps: got 3; it takes 2"),
        (lambda: md.Multistep(20, order=4), "order: got 4; it takes 1, 2 or 3"),
        (lambda: md.schedules.ddpm("cosine"), "beta: got 'cosine'"),
        (lambda: md.schedules.ve(2.0, 1.0), "smallest: got 2.0"),
        (lambda: md.schedules.flow(scale=-1.0), "scale: got -1.0"),
        (lambda: md.Diffusion(md.schedules.ddpm(), eta=-1), "eta: got -1; it takes a number of at least 0"),
        (lambda: md.Diffusion(md.schedules.ddpm(), eta=math.nan), "eta: got nan"),
        (lambda: md.Diffusion(md.schedules.ddpm(), holds="x0"), "holds: got 'x0'; it takes data, noise, score or ddpm"),
        (lambda: md.Diffusion(md.schedules.vp(), holds="ddpm"), "holds: got 'ddpm'; it takes a schedule with training"),
        (lambda: md.Diffusion(md.schedules.ddpm(), 0.5, "ddpm"), "eta: got 0.5; it takes 1 with holds='ddpm'"),
        (lambda: md.Diffusion(md.schedules.ddpm(), noise_scale=-1), "noise_scale: got -1"),
        (lambda: md.Diffusion("ddpm"), "schedule: got 'ddpm'"),
        (
            lambda: md.Denoiser(Small(), md.schedules.ddpm(), predicts="noise"),
            "predicts: got 'noise'; it takes epsilon",
        ),
        (lambda: md.Denoiser(Small(), md.schedules.ddpm(), clip=-1), "clip: got -1"),
        (lambda: md.Denoiser(None, md.schedules.ddpm()), "net: got None"),
    ],
)
def test_settings(make, message):
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count: got 0; it takes None or an integer of at least 1"),
        ({"first": -1}, "first: got -1"),
        ({"seed": [1, 2], "count": 3}, "seed: got '2 seeds'"),
        ({"seed": [1, 2], "first": [5]}, "first: got '1 numbers for 2 seeds'; it takes count=2 of each"),
        ({"seed": 1, "first": [5]}, "first: got \\(5,\\); it takes one number, unless every sample has a seed"),
        ({"start": torch.zeros(2, 1, 8, 8), "count": 3}, "start: got 'a tensor of shape"),
        ({"start": torch.zeros(2, 1, 9, 8)}, "shape: got the model with .1, 8, 8., start with .1, 9, 8."),
        ({"start": torch.full((2, 1, 8, 8), torch.nan)}, "start: got 'values that are not finite'"),
        ({"shape": (3, 8, 8)}, "shape: got the model with"),
        ({"dtype": torch.float16}, "dtype: got torch.float16; it takes torch.float32 or torch.float64"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"memory_limit": 0}, "memory_limit: got 0; it takes None or a number of bytes"),
        ({"memory_limit": "2GB"}, "memory_limit: got '2GB'"),
        ({"memory_limit": True}, "memory_limit: got True"),
        ({"memory_limit": 1e9, "grad": True}, "memory_limit: got .*; it takes None with grad=True"),
        ({"save": 0}, "save: got 0"),
        ({"save": 1.5}, "save: got 1.5"),
        ({"batch_size": "a"}, "batch_size: got 'a'"),
        ({"seed": 1.5}, "seed: got 1.5; it takes an integer from .*, or a list"),
        ({"seed": [1, 2.5]}, r"seed.1.: got 2.5"),
        ({"seed": "7"}, "seed: got '7'"),
        ({"count": 2.5}, "count: got 2.5"),
        ({"start": [1, 2]}, "start: got .1, 2.; it takes None or a tensor"),
        ({"device": "foo"}, "device: got 'foo'; it takes cpu, cuda"),
        ({"process": md.Diffusion(md.schedules.vp())}, "process: its schedule is not the model's"),
        ({"process": "ddpm"}, "process: got 'ddpm'"),
        ({"method": "euler"}, "method: got 'euler'; it takes a method, such as md.Euler"),
        ({"model": Small()}, "model: got 'Small'; it takes an md.Denoiser or an md.Ladder"),
        ({"method": md.Euler(times=(9.0, 9.0))}, "times: got .*; it takes strictly decreasing times"),
        ({"method": md.Euler(times=(5.0, 9.0))}, "times: got .*; it takes strictly decreasing times"),
        ({"method": md.Euler(times=(1000.0, 9.0))}, "times: got .*; it takes times between 0 and 999"),
        ({"method": md.Euler(times=(9.0, -1.0))}, "times: got .*; it takes times between 0 and 999"),
        ({"method": md.Euler(times=(9.0,))}, "times: got .*; it takes a list of at least two times"),
        ({"method": md.Euler(times=(9.5, 3.0), integer=True)}, "times: got .*; it takes integers"),
        ({"device": "meta"}, "device: got 'meta', which holds no numbers"),
        ({"start": torch.zeros(2, 1, 8, 8, device="meta")}, "device: got level model on cpu, start on meta"),
    ],
)
def test_arguments_of_sample(network, settings, message):
    """Refused before the network is called even once, by sample and by steps alike."""
    arguments = {"model": network, "method": md.Euler(5)} | settings
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.sample(**arguments)
    if "save" not in settings:
        with pytest.raises(md.MultidriftError, match=f"^{message}"):
            md.steps(**arguments)
    assert network.net.seen == []


def test_numpy_integers_are_integers(network):
    import numpy as np

    wanted = md.sample(network, md.Euler(3), count=2, seed=3).samples
    assert torch.equal(md.sample(network, md.Euler(3), count=np.int64(2), seed=np.int64(3)).samples, wanted)
    both = md.sample(network, md.Euler(3), seed=np.array([3, 4]))
    assert both.samples.shape[0] == 2


def test_bad_values_name_the_row_under_a_list_of_seeds(ddpm):
    def net(x, t):
        return torch.where(torch.arange(len(x))[:, None] == 2, torch.nan, x)

    with pytest.raises(md.MultidriftError, match=r"for sample 2 \(seed 9\)"):
        md.sample(md.Denoiser(net, ddpm, shape=(4,)), md.Euler(5), seed=[7, 8, 9])


def test_a_stopped_run_is_checked_too(ddpm):
    calls = []

    def net(x, t):
        calls.append(t)
        return x / 0 if len(calls) == 3 else x

    with pytest.raises(md.MultidriftError, match="not finite at step 2"):
        md.sample(md.Denoiser(net, ddpm, shape=(4,)), md.Euler(9), callback=lambda state: torch.tensor(state.step == 4))
    assert len(calls) == 4


def test_unknown_shape(ddpm):
    with pytest.raises(md.MultidriftError, match="^shape: got None, and the model does not know it"):
        md.sample(md.Denoiser(Small(), ddpm), md.Euler(5))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda x, t: x[:, :, :4], r"model's output shape: got \(3, 1, 4, 8\); it takes \(3, 1, 8, 8\)"),
        (lambda x, t: x[:2], "model's output shape"),
        (lambda x, t: x.int(), "model's output dtype: got torch.int32"),
        (lambda x, t: (x,), "model: returned tuple"),
        (lambda x, t: x.to("meta"), "model's output device"),
    ],
)
def test_broken_networks(ddpm, net, message):
    with pytest.raises(md.MultidriftError, match=message):
        md.sample(md.Denoiser(net, ddpm, shape=(1, 8, 8)), md.Euler(5), count=3)


@pytest.mark.parametrize(("step", "steps"), [(0, 5), (3, 5), (70, 200), (199, 200)])
def test_values_that_are_not_finite_are_traced_to_step_and_sample(ddpm, step, steps):
    calls = []

    def net(x, t):
        calls.append(t)
        out = torch.zeros_like(x)
        if len(calls) == step + 1:
            out[1] = torch.nan
        return out

    at = rf"model: the prediction is not finite at step {step} \(t = .*\) for sample 8"
    with pytest.raises(md.MultidriftError, match=at):
        md.sample(md.Denoiser(net, ddpm, shape=(4,)), md.Euler(steps), count=3, first=7)
    assert len(calls) <= min(steps, 50 * (step // 50 + 1) + 1)


def test_pictures_need_a_picture(denoiser, network, tmp_path):
    with pytest.raises(md.MultidriftError, match="^samples: got"):
        md.sample(denoiser, md.Euler(3)).images()
    result = md.sample(network, md.Euler(3))
    with pytest.raises(md.MultidriftError, match="^path: got .*a file name that ends in .png"):
        result.save(tmp_path / "samples.xyz")
    with pytest.raises(md.MultidriftError, match="^path: could not write"):
        result.save(tmp_path / "missing" / "samples.png")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_picture(network, tmp_path, monkeypatch):
    result = md.sample(network, md.Euler(3))
    (tmp_path / "samples.png").write_bytes(b"before")

    def full(image, file, kind):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multidrift.runs.pictures.write_image", full)
    with pytest.raises(md.MultidriftError, match="No space left on device"):
        result.save(tmp_path / "samples.png")
    assert [p.name for p in tmp_path.iterdir()] == ["samples.png"]
    assert (tmp_path / "samples.png").read_bytes() == b"before"


def test_errors_are_value_errors():
    assert issubclass(md.MultidriftError, ValueError)
