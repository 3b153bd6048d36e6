"""The command line, run as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import time

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.inside import run as command

import multidrift as md
from multidrift.cli.sample import MethodName
from multidrift.methods.catalogue import METHODS


@pytest.fixture(scope="module")
def ladder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladders") / "tiny"
    nets = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        nets.append(
            diffusers.UNet2DModel(
                sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 4),
                norm_num_groups=2, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
                add_attention=False,
            )
        )  # fmt: skip
    schedule = md.schedules.ddpm()
    md.Ladder([md.Denoiser(net, schedule, name=f"f{i + 1}") for i, net in enumerate(nets)]).save(folder)
    return folder


def test_sample_writes_a_grid(ladder_folder, tmp_path):
    done = command("sample", "--ladder", ladder_folder, "--count", 5, "--steps", 4, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "a.png").size == (18, 28)
    assert "f2" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_sample_writes_a_folder_and_continues_it(ladder_folder, tmp_path):
    options = ("--ladder", ladder_folder, "--method", "multistep", "--eta", 0, "--steps", 4, "--level", "f1")
    assert command("sample", *options, "--count", 3, "--out", tmp_path / "all").returncode == 0
    assert command("sample", *options, "--count", 1, "--first", 2, "--out", tmp_path / "one").returncode == 0
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["000000.png", "000001.png", "000002.png"]
    pixels = [np.asarray(Image.open(tmp_path / where / "000002.png")) for where in ("all", "one")]
    assert np.abs(pixels[0].astype(int) - pixels[1]).max() <= 1


def test_sample_with_two_levels(ladder_folder, tmp_path):
    options = ("--method", "multilevel", "--levels", "f1,f2", "--calls", "30,12", "--steps", 30, "--count", 2)
    done = command("sample", "--ladder", ladder_folder, *options, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "29" in done.stderr
    assert (tmp_path / "a.png").is_file()


def test_sample_corrects_a_cheap_level_with_the_top_one(ladder_folder, tmp_path):
    """It makes the calls of each level that the method says, with the substeps it was given."""
    options = ("--method", "ladder-multistep", "--levels", "f1,f2", "--steps", 6, "--substeps", 4, "--count", 2)
    done = command("sample", "--ladder", ladder_folder, *options, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    told = md.LadderMultistep(6, levels=("f1", "f2"), substeps=4).expected_calls(md.Ladder.load(ladder_folder))
    for name, calls in told.items():
        assert re.search(rf"{name}\W+{calls:g}\W", done.stderr), done.stderr
    assert told["f2"] == 6
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize("method", [("multilevel", "--calls", "6,4"), ("ladder-multistep", "--substeps", 2)])
def test_sample_takes_the_free_level(tmp_path, method):
    """The bundled ladder's Gaussian below its smallest network."""
    options = ("--method", *method, "--levels", "gaussian,f1", "--steps", 6, "--count", 1)
    done = command("sample", *options, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "gaussian" in done.stderr


def test_every_method_is_a_choice_that_help_explains():
    kinds = {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower() for kind in METHODS}
    names = {name.value for name in MethodName}
    assert {kind.removesuffix("-midpoint") for kind in kinds - {"predictor-corrector"}} == names
    shown = command("sample", "--help", env=os.environ | {"COLUMNS": "200"}).stdout
    assert not [name for name in names if f"{name}:" not in shown]
    assert "--method ladder-multistep --levels f2,f5 --steps 10" in shown


def test_sample_in_parallel_says_when_it_pays(ladder_folder, tmp_path):
    options = ("--method", "picard", "--coarse", "f1", "--coarse-every", 3, "--window", 8, "--steps", 12, "--count", 2)
    done = command("sample", "--ladder", ladder_folder, *options, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "rounds of f2 and" in done.stderr
    assert "sweeps of f1" in done.stderr
    assert (tmp_path / "a.png").is_file()


def test_sample_by_drafts_says_what_was_accepted(ladder_folder, tmp_path):
    options = ("--method", "speculative", "--drafter", "f1+held", "--window", 6, "--verification", "block")
    done = command(
        "sample", "--ladder", ladder_folder, *options, "--steps", 12, "--count", 2, "--out", tmp_path / "a.png"
    )
    assert done.returncode == 0, done.stderr
    assert "rounds for the median image" in done.stderr
    assert (tmp_path / "a.png").is_file()


def test_sample_in_parallel_lists_the_choices(tmp_path):
    options = ("--method", "picard", "--coarse", "auto", "--accelerate", "secant", "--memory-limit", 5e7)
    done = command("sample", *options, "--steps", 4, "--count", 1, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    for column in ("coarse", "sweeps", "critical", "break-even", "gaussian", "megabytes in the largest call"):
        assert column in done.stderr
    small = command("sample", *options[:-1], 1e6, "--steps", 4, "--count", 1, "--out", tmp_path / "b.png")
    assert small.returncode == 2
    assert "memory_limit: got 1000000.0; it takes at least" in small.stderr


def test_sample_with_substeps(ladder_folder, tmp_path):
    options = ("--method", "poisson", "--variant", "2", "--grid", "trailing", "--steps", 6, "--substeps", 5)
    done = command("sample", "--ladder", ladder_folder, *options, "--draws", "single", "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "11" in done.stderr  # two calls a step and the final one
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "speculative", "--drafter", "f2"), "drafter: got 'f2'; it takes a level below f2"),
        (("--method", "speculative", "--eta", 0), "process: got 'Diffusion without noise'; it takes noise"),
        (("--method", "speculative", "--verification", "tree"), "verification: got 'tree'"),
        (("--method", "picard", "--window", 0), "window: got 0; it takes None or an integer"),
        (("--method", "picard", "--coarse", "f9"), "coarse: got 'f9'; it takes levels below the top one: f1"),
        (("--method", "poisson", "--draws", "systematic"), "draws: got 'systematic'; it takes independent, single"),
        (("--variant", "7"), "variant: got '7'"),
        (("--count", 0), "count: got 0"),
        (("--grid", "cubic"), "grid: got 'cubic'"),
        (("--level", "f9"), "level: got 'f9'; it takes f1, f2"),
        (("--eta", -1), "eta: got -1"),
        (("--method", "multilevel"), "calls: got None; it takes one number a level, such as 80,20"),
        (("--method", "multilevel", "--calls", "60,5"), "calls: got (60.0, 5.0); it takes at most one call a step, 50"),
        (("--steps", 1), "steps: got 1"),
        (("--method", "ladder-multistep", "--levels", "f2,f1"), "levels: got ('f2', 'f1'); it takes different levels"),
        (("--method", "ladder-multistep", "--steps", 2), "steps: got 2; it takes at least 3 calls of the top level"),
        (("--method", "ladder-multistep", "--substeps", 0), "substeps: got 0; it takes None or an integer"),
        (("--method", "ladder-multistep"), "levels: got None; it takes the names of a cheap level"),
        (("--ladder", "faces"), "name: got 'faces'"),
        (("--out", "missing/a.png"), "out: got"),
        (("--device", "foo"), "device: got 'foo'"),
    ],
)
def test_errors_are_one_line(ladder_folder, tmp_path, arguments, message):
    done = command("sample", "--ladder", ladder_folder, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_demo_writes_a_picture_and_a_plot(tmp_path, monkeypatch):
    """The main job, on one digit and a shorter reference: a row of the table for every method, and both files."""
    for module in ("cli.demo", "evaluation.demonstration"):
        monkeypatch.setattr(f"multidrift.{module}.REFERENCE_STEPS", 20)
    done = command("demo", "--count", 1, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for row in ("Euler", "Multistep", "independent", "midpoint", "f2+f5"):
        assert row in done.stderr
    stages = [line.split(": ", 1)[1] for line in done.stderr.splitlines() if line.endswith(" …")]
    assert [words.split()[0] for words in stages] == ["measuring", "reference:", "5", "5", "5"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["demo-error.png", "demo.png"]


def test_help_teaches():
    for words in ((), ("demo",), ("sample",), ("train",)):
        done = command(*words, "--help")
        assert done.returncode == 0
        assert "Example" in done.stdout or words in ((), ("demo",))


def test_messages_are_not_markup(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 8, 8)))
    done = command("train", tmp_path / "x.npz", tmp_path / "ladder")
    assert done.returncode == 2
    assert "uint8 [n, height, width] or" in done.stderr


def test_train_minds_what_is_there_before_it_starts(tmp_path):
    (tmp_path / "mine").mkdir()
    for options in ((), ("--overwrite",)):
        done = command("train", tmp_path / "x.npz", tmp_path / "mine", *options)
        assert done.returncode == 2
        assert "out: got" in done.stderr


def test_train_makes_a_ladder_that_samples(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 255, (30, 8, 8), dtype=np.uint8))
    options = ("--steps", 3, "--batch-size", 4, "--levels", "f1,f2")
    done = command("train", tmp_path / "x.npz", tmp_path / "ladder", *options)
    assert done.returncode == 0, done.stderr
    assert "held-out" in done.stderr
    assert md.Ladder.load(tmp_path / "ladder").names == ("f1", "f2")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_interrupt_stops_cleanly(ladder_folder, tmp_path):
    # A test run in the background may ignore SIGINT, and its children would inherit that.
    running = subprocess.Popen(
        [sys.executable, "-m", "multidrift.cli.app", "sample", "--steps", "100000"]
        + ["--ladder", str(ladder_folder), "--out", str(tmp_path / "a.png")],
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (no threads in the child)
    )  # fmt: skip
    try:
        assert "drawing" in running.stderr.readline()
        time.sleep(1)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
