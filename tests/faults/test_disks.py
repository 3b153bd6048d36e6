# ruff: noqa: E501 (a table)
"""A file system of one megabyte and one that is read-only: one line that says what could not be written."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.inside import run
from tests.fuzz.test_fuzz_files import SYNTHETIC, tiny
from tests.fuzz.values import LADDER

import multidrift as md
from multidrift.basics.files import write_whole
from multidrift.cli.output import write_result
from multidrift.drifts.costs import Costs
from multidrift.training.ladder import train_ladder
from multidrift.training.settings import TrainingSettings
from multidrift.training.sizes import Size

SCHEDULE = md.schedules.ddpm()
LEFT = 4096  # bytes: enough to begin with, too little for what is written here


@pytest.fixture
def mounted(tmp_path):
    """Makes a file system of its own in a folder; skips, with the reason, where that is not allowed."""
    folders = []

    def make(options):
        mount = shutil.which("mount")
        if mount is None:
            pytest.skip("there is no mount command here")
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        command = [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        subprocess.run([shutil.which("umount"), str(folder)], check=True)


@pytest.fixture(params=["read-only", "full", "nearly full"])
def disk(mounted, request):
    if request.param == "read-only":
        return mounted("size=1m,ro")
    folder, left = mounted("size=1m"), 0 if request.param == "full" else LEFT
    (folder / "ballast").write_bytes(bytes((1 << 20) - left))
    return folder


@pytest.fixture(scope="module")
def tiny_ladder():
    samples = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return md.Ladder([md.Denoiser(tiny(), SCHEDULE, name="f1")], gaussian=md.GaussianDenoiser.fit(samples, SCHEDULE))


@pytest.fixture(scope="module")
def result():
    """Of noise, which no format makes small."""
    noise = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    net = md.Denoiser(lambda x, t: torch.zeros_like(x), SCHEDULE, "sample", shape=(3, 64, 64))
    return replace(md.sample(net, md.Euler(2), count=1), samples=noise)


def left_behind(disk):
    return sorted(path.name for path in disk.iterdir() if path.name != "ballast")


def test_results(disk, result):
    for name in ("a.png", "a.jpg", "a.webp"):
        with pytest.raises(
            md.MultidriftError, match=f"^path: could not write '{disk}/{name}'.*nothing was changed"
        ) as error:
            result.save(disk / name)
        assert error.value.result is result
    for name in ("a.npz", "a.safetensors", "folder", "a.png"):
        with pytest.raises(md.MultidriftError, match=f"^path: could not write '{disk}/{name}'") as error:
            write_result(result, disk / name, 0)
        assert error.value.result is result
    assert left_behind(disk) == []


@pytest.fixture(scope="module")
def saveable(tiny_ladder):
    """What can be saved, by the name of its file."""
    costs = Costs({name: 1.0 * 4**k for k, name in enumerate(SYNTHETIC.names)}, 1, "here")
    return {
        "plan.json": md.Multilevel(200, calls=(200, 150), shared=False).plan(LADDER, count=4),
        "c.json": md.calibrate(SYNTHETIC, paths=2, steps=16, costs=costs),
        "ladder": tiny_ladder,
        "gaussian.safetensors": tiny_ladder.gaussian,
    }


def test_what_else_is_saved(disk, saveable):
    for name, thing in saveable.items():
        with pytest.raises(md.MultidriftError, match=f"could not write '{disk}/{name}'") as error:
            thing.save(disk / name)
        assert error.value.result is thing
    assert left_behind(disk) == []


def test_generation_and_training(disk, result):
    net = md.Denoiser(lambda x, t: torch.tanh(x), SCHEDULE, "sample", shape=(3, 64, 64))
    with pytest.raises(md.MultidriftError, match=f"^out: could not write '{disk}"):
        md.generate(net, md.Euler(2), disk / "made", count=2, batch_size=2)
    images, size = torch.zeros(20, 1, 8, 8, dtype=torch.uint8), Size("t1", (4, 4), 1e-3)
    with pytest.raises(md.MultidriftError, match=f"could not write '{disk}"):
        train_ladder(images, disk / "trained", [size], SCHEDULE, TrainingSettings(steps=2, batch_size=2))
    shutil.rmtree(disk / "made", ignore_errors=True)
    shutil.rmtree(disk / "trained", ignore_errors=True)
    assert left_behind(disk) == []


COMMANDS = {
    "sample": ("--ladder", "tiny", "--steps", 2, "--count", 200),
    "generate": ("--ladder", "tiny", "--steps", 2, "--count", 64),
    "langevin": ("--target", "my_disk:f", "--dimension", 9, "--chains", 16, "--steps", 64, "--horizon", 1),
    "train": ("pictures", "--steps", 2, "--batch-size", 2, "--levels", "f1", "--device", "cpu"),
    "calibrate": ("--ladder", "pair", "--paths", 2, "--steps", 8, "--batch", 1),
    "report": ("--ladder", "pair", "--budgets", 3, "--samples", 4, "--calibration", "c.json"),
    "demo": ("--count", 1),
}
OUT = {"sample": "a.npz", "calibrate": "c.json", "report": "r.html"}
EARLY = {"sample": "drawing", "langevin": "sampling", "train": "f1", "calibrate": "measuring", "report": "measuring", "demo": "0 s"}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_ladder):
    root = tmp_path_factory.mktemp("place")
    tiny_ladder.save(root / "tiny")
    md.Ladder([md.Denoiser(tiny(), SCHEDULE, name=name) for name in ("f1", "f2")]).save(root / "pair")
    (root / "my_disk.py").write_text("def f(x):\n    return -(x * x).sum(dim=1)\n")
    (root / "pictures").mkdir()
    for number in range(20):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(root / f"pictures/{number}.png")
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(disk, place, command):
    """One line and status 2; before the work where the disk takes nothing at all."""
    nearly = disk.joinpath("ballast").exists() and disk.joinpath("ballast").stat().st_size < (1 << 20)
    if nearly and command in ("calibrate", "report", "demo", "train"):
        pytest.skip("it takes minutes until there is something to write")
    out = disk / OUT.get(command, "out")
    line = [command, *COMMANDS[command], *([out] if command == "train" else ["--out", out])]
    done = run(*line, cwd=place, env={"COLUMNS": "200"})
    assert done.returncode == 2, done.stderr
    said = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert len(said) == 1
    assert "could not write" in said[0]
    assert str(disk) in said[0]
    assert nearly or EARLY.get(command, "drawing") not in done.stderr, done.stderr
    assert not [name for name in left_behind(disk) if name.startswith(".")]


def test_a_disk_with_room_takes_it(mounted, result):
    disk = mounted("size=1m")
    result.save(disk / "a.png")
    assert left_behind(disk) == ["a.png"]
    with pytest.raises(OSError, match="No space left"):
        (disk / "b").write_bytes(bytes(1 << 20))
    (disk / "b").unlink()
    write_whole(disk / "b", lambda path: path.write_bytes(b"x"))
