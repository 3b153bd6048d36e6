"""`multidrift calibrate` and `multidrift report`, on two tiny networks."""

import warnings

import diffusers
import pytest
import torch
from typer.testing import CliRunner

import multidrift as md
from multidrift.cli.app import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ladders") / "tiny"
    nets = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        nets.append(
            diffusers.UNet2DModel(
                sample_size=4, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4,),
                norm_num_groups=2, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
                add_attention=False,
            )
        )  # fmt: skip
    schedule = md.schedules.ddpm()
    md.Ladder([md.Denoiser(net, schedule, name=f"f{i + 1}") for i, net in enumerate(nets)]).save(place)
    return place


def run(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_calibrate_and_report(folder, tmp_path):
    done = run(
        "calibrate", "--ladder", folder, "--eta", 0, "--batch", 2, "--paths", 2, "--steps", 8,
        "--out", tmp_path / "c.json", "--page", tmp_path / "c.html",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = md.Calibration.load(tmp_path / "c.json")
    assert found.levels == ("f1", "f2")
    assert "worth it:" in done.output
    plots = (tmp_path / "c.html").read_text()
    assert '<div id="coefficients" class="plot">' in plots
    assert "Methods at equal seconds" not in plots
    page = tmp_path / "report.html"
    options = ("--calibration", tmp_path / "c.json", "--budgets", "4", "--samples", 4, "--out", page)
    done = run("report", "--ladder", folder, "--eta", 0, *options)
    assert done.exit_code == 0, done.output
    assert "For calls=4" in page.read_text()
    wrong = run("report", "--ladder", folder, "--eta", 1, *options)
    assert isinstance(wrong.exception, md.MultidriftError)
    assert "taken on a process with eta" in str(wrong.exception)


def test_wrong_settings_are_one_error(folder, tmp_path):
    for arguments, message in (
        (("calibrate", "--ladder", folder, "--out", tmp_path / "none" / "c.json"), "out: got"),
        (("calibrate", "--ladder", folder, "--page", tmp_path / "none" / "c.html"), "page: got"),
        (("report", "--ladder", folder, "--out", tmp_path / "none" / "r.html"), "out: got"),
        (("report", "--ladder", folder, "--budgets", "ten", "--out", tmp_path / "r.html"), "budgets: got 'ten'"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, md.MultidriftError)
        assert message in str(done.exception)
