# ruff: noqa: E501 (tables)
"""Wrong files and wrong options, one a row: one line that names the file or the option, and status 2."""

import io
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import multidrift as md
from multidrift.basics.reading import read_arrays, read_picture
from multidrift.cli.app import main


@pytest.fixture(autouse=True)
def _no_hanging():
    signal.alarm(20)
    yield
    signal.alarm(0)


def picture(kind="PNG", size=(8, 8), mode="RGB", **settings):
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, kind, **settings)
    return file.getvalue()


def npy(array, **settings):
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


def npz(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


BOMB = npy(np.zeros((2, 3), np.uint8)).replace(b"(2, 3), }          ", b"(99999, 99999, 9), }")
PICTURES = {
    "corrupt": b"\x89PNG\r\n\x1a\n" + b"x" * 50,
    "truncated": picture(size=(64, 64), mode="L")[:-40],
    "empty": b"",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "text": b"hello",
    "animated": picture("GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), 200)]),
    "float": picture("TIFF", mode="F"),
}
ARRAYS = {
    "garbage": b"not an archive",
    "empty": b"",
    "PK garbage": b"PK\x03\x04" + b"x" * 99,
    "truncated": npz({"x.npy": npy(np.zeros((9, 8, 8), np.uint8))})[:-30],
    "member is no array": npz({"x": b"hello"}),
    "objects": npz({"x.npy": npy(np.array([{}]), allow_pickle=True)}),
    "pickled": b"\x80\x04\x95" + b"x" * 20,
    "bomb": npz({"x.npy": BOMB}),
    "without x": npz({"z.npy": npy(np.zeros(3))}),
    "half an array": npz({"x.npy": npy(np.zeros((9, 8, 8), np.uint8))[:-50]}),
}


@pytest.mark.parametrize("content", PICTURES.values(), ids=PICTURES)
def test_pictures(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(md.MultidriftError, match=r"^images: .*a.png"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda p: p.symlink_to("nowhere"), lambda p: p.symlink_to(p)])
@pytest.mark.parametrize("read", [read_picture, lambda p: read_arrays(p, "images"), md.Plan.load, md.Ladder.load])
def test_what_is_no_file(tmp_path, make, read):
    make(tmp_path / "a.png")
    with pytest.raises(md.MultidriftError, match=r"a.png"):
        read(tmp_path / "a.png")


def test_a_bomb_of_a_picture(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(picture(size=(100, 100)))
    monkeypatch.setattr("multidrift.basics.reading._MOST_PIXELS", 9999)
    with pytest.raises(md.MultidriftError, match=r"a.png' has 100×100 pixels"):
        read_picture(tmp_path / "a.png")


def test_pictures_of_other_kinds_are_read_right(tmp_path):
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 1, 255]
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    red = read_picture(tmp_path / "print.jpg")[0, 0].astype(int)
    assert red[0] > 240
    assert max(red[1:]) < 15
    Image.new("P", (4, 4)).save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png").shape == (4, 4, 3)


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_arrays(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(md.MultidriftError, match=r"^images: .*a.npz"):
        read_arrays(tmp_path / "a.npz", "images", ("x",))


def test_an_array_is_told_by_its_content(tmp_path):
    (tmp_path / "a.npz").write_bytes(npy(np.arange(3)))
    assert read_arrays(tmp_path / "a.npz", "start")[""].tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladders") / "tiny"
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 4), norm_num_groups=2,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
    )  # fmt: skip
    denoiser = md.Denoiser(net, md.schedules.ddpm(), name="f1")
    samples = torch.randn(9, 1, 8, 8)
    md.Ladder([denoiser], gaussian=md.GaussianDenoiser.fit(samples, denoiser.schedule)).save(folder)
    return folder


def described(**entries):
    """A change of ladder.json's own entries."""

    def change(folder):
        file = folder / "ladder.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))

    return change


def of_level(**entries):
    """A change of what ladder.json says of f1."""

    def change(folder):
        level = json.loads((folder / "ladder.json").read_text())["levels"]["f1"]
        described(levels={"f1": level | entries})(folder)

    return change


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


def linked_out(folder):
    file = folder / "f1/unet/diffusion_pytorch_model.safetensors"
    shutil.move(file, folder.parent / "outside")
    file.symlink_to(folder.parent / "outside")


def rehashed(folder):
    """A configuration with NaN, its hash put right."""
    import hashlib

    file = folder / "f1/unet/config.json"
    file.write_text(file.read_text().replace('"dropout": 0.0', '"dropout": NaN'))
    level = json.loads((folder / "ladder.json").read_text())["levels"]["f1"]
    files = level["files"] | {"unet/config.json": hashlib.sha256(file.read_bytes()).hexdigest()}
    of_level(files=files)(folder)


LADDERS = {
    "unlisted index": (written("f1/unet/diffusion_pytorch_model.safetensors.index.json", "{}"), "is not listed"),
    "unlisted pickle": (written("f1/unet/diffusion_pytorch_model.bin", "x"), "is not listed"),
    "unlisted weights": (written("f1/more.safetensors", "x"), "is not listed"),
    "link out": (linked_out, "lies outside"),
    "config NaN": (rehashed, "config.json: is damaged"),
    "deep": (written("ladder.json", '{"a":' * 5000 + "1" + "}" * 5000), "is damaged"),
    "deep lists": (written("ladder.json", '{"a":' + "[" * 50 + "]" * 50 + "}"), "nested more than"),
    "large number": (written("ladder.json", '{"format": 1, "a": 1e999}'), "is damaged"),
    "list": (written("ladder.json", "[]"), "no JSON object"),
    "empty": (written("ladder.json", ""), "is empty"),
    "format true": (described(format=True), "is not a ladder's description"),
    "no levels": (described(levels={}), "at least one level"),
    "levels list": (described(levels=[1]), "'levels': got"),
    "level outside": (described(levels={"../f1": {}}), "a name of a folder"),
    "level text": (described(levels={"f1": "x"}), "'f1': got"),
    "shape text": (of_level(shape="ab"), "'shape': got"),
    "shape negative": (of_level(shape=[1, -8, 8]), "'shape'.1.: got -8"),
    "shape floats": (of_level(shape=[1, 8.5, 8]), "'shape'.1.: got 8.5"),
    "shape of another": (of_level(shape=[3, 8, 8]), "'shape': got .*as its network says"),
    "predicts": (of_level(predicts="noise"), "'predicts': got 'noise'"),
    "clip": (of_level(clip=-1), "'clip': got -1"),
    "files": (of_level(files=[]), "'files': got"),
    "costs negative": (described(costs={"seconds": {"f1": -1.0}, "batch": 1, "machine": "x"}), "costs: 'seconds'.'f1'.: got"),
    "costs batch": (described(costs={"seconds": {"f1": 1.0}, "batch": 0, "machine": "x"}), "costs: 'batch': got 0"),
    "schedule": (described(schedule=5), "'schedule': got 5"),
    "schedule settings": (described(schedule={"kind": "vp", "a": 1}), "schedule: got"),
    "gaussian": (written("gaussian.safetensors", "x"), "gaussian.safetensors is damaged"),
    "gaussian hash": (described(gaussian=5), "gaussian.safetensors is damaged"),
    "covariances": (described(covariances="x"), "no file covariances.json"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), LADDERS.values(), ids=LADDERS)
def test_ladder_folders(saved, tmp_path, change, message):
    folder = tmp_path / "ladder"
    shutil.copytree(saved, folder)
    change(folder)
    with pytest.raises(md.MultidriftError, match=message) as error:
        md.Ladder.load(folder)
    assert "\n" not in str(error.value)


def test_weights_in_several_files(saved, tmp_path):
    ladder = md.Ladder.load(saved)
    ladder.save(tmp_path / "shards", shard_size=4_000)
    weights = sorted((tmp_path / "shards/f1/unet").glob("*.safetensors"))
    assert len(weights) > 1
    again = md.Ladder.load(tmp_path / "shards")
    assert again["f1"].fingerprint == ladder["f1"].fingerprint
    weights[0].unlink()
    with pytest.raises(md.MultidriftError, match="no file unet/diffusion_pytorch_model-00001-of"):
        md.Ladder.load(tmp_path / "shards")


OPTIONS = {
    "unknown": "sample --stepz 3",
    "no number": "sample --steps many",
    "one step": "sample --steps 1",
    "many steps": "sample --steps 1000000000",
    "no images": "sample --count 0",
    "unused levels": "sample --levels f1,f5",
    "unused draws": "sample --method multistep --draws single",
    "unused window": "sample --method poisson --window 3",
    "unused order": "sample --order 3",
    "unused level": "sample --method multilevel --level f1 --calls 9,3",
    "variant and eta": "sample --variant 1a --eta 0",
    "order": "sample --method multistep --order 7",
    "eta": "sample --eta nan",
    "holds": "sample --holds x0",
    "grid": "sample --grid even",
    "device": "sample --device meta",
    "no device": "sample --device cuda:99",
    "out empty": "sample --out=",
    "out pdf": "sample --out x.pdf",
    "out dot": "sample --out .png",
    "out nowhere": "sample --out nowhere/a.png",
    "out a file": "sample --out file.txt/a.png",
    "out long": f"sample --out {'x' * 260}.png",
    "ladder": "sample --ladder faces",
    "ladder folder": "sample --ladder ./nothing",
    "level": "sample --level f9",
    "calls": "sample --method multilevel --calls 80,x",
    "memory": "sample --memory-limit -1",
    "method": "sample --method magic",
    "command": "draw",
    "demo count": "demo --count 0",
    "demo out file": "demo --out file.txt",
    "train images": "train nothing out",
    "train empty": "train folder out",
    "train few": "train one out",
    "train svg": "train bad out",
    "train into a file": "train one file.txt",
    "train below a file": "train one file.txt/out",
    "train batch": "train many.npz out --batch-size 1000000000",
    "train steps": "train many.npz out --steps 0",
    "train levels": "train many.npz out --levels f9",
    "train held out": "train many.npz out --held-out 1.5",
    "train device": "train many.npz out --device x",
    "train seed": "train many.npz out --seed -1",
    "target none": "langevin --target missing:f --dimension 2",
    "target text": "langevin --target f --dimension 2",
    "target exits": "langevin --target exits:f --dimension 2",
    "target raises": "langevin --target raises:f --dimension 2",
    "target sleeps": "langevin --target sleeps:f --dimension 2 --timeout 0.2",
    "target never returns": "langevin --target slow:f --dimension 2 --timeout 0.2",
    "target quits": "langevin --target slow:quits --dimension 2",
    "start": "langevin --target slow:g --start many.npz",
    "start garbage": "langevin --target slow:g --start file.txt",
    "langevin out": "langevin --target slow:g --dimension 2 --out=",
    "langevin out file": "langevin --target slow:g --dimension 2 --out file.txt",
    "langevin friction": "langevin --target slow:g --dimension 2 --process overdamped --friction 3",
    "langevin substeps": "langevin --target slow:g --dimension 2 --method euler --substeps 3",
    "langevin device": "langevin --target slow:g --dimension 2 --device cuda:99",
    "langevin horizon": "langevin --target slow:g --dimension 2 --horizon inf",
    "langevin chains": "langevin --target slow:g --dimension 2 --chains 0",
    "langevin huge": "langevin --target slow:g --dimension 1000000000000",
}
MODULES = {
    "exits": "import sys\nsys.exit(0)",
    "raises": "1 / 0",
    "sleeps": "import time\ntime.sleep(60)",
    "slow": "import sys, time\n"
    "def f(x):\n    time.sleep(60)\ndef quits(x):\n    sys.exit(0)\ndef g(x):\n    return -(x * x).sum(dim=1)\n",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "one", "bad"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.txt").write_text("years of work")
    (tmp_path / "one/a.png").write_bytes(picture())
    (tmp_path / "bad/a.png").write_bytes(PICTURES["svg"])
    np.savez(tmp_path / "many.npz", x=np.zeros((40, 8, 8), np.uint8))
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("line", OPTIONS.values(), ids=OPTIONS)
def test_options(place, monkeypatch, capsys, line):
    before = sorted(path.name for path in place.iterdir())
    monkeypatch.setattr(sys, "argv", ["multidrift", *line.split()])
    with pytest.raises(SystemExit) as status:
        main()
    said = [
        text
        for text in capsys.readouterr().err.splitlines()
        if text.startswith("error") or (text.strip() and not text.endswith(" …"))
    ]
    assert status.value.code == 2, said
    assert len(said) == 1, said
    assert said[0].startswith("error: ")
    assert (place / "file.txt").read_text() == "years of work"
    left = {path.name for path in place.iterdir()} - set(before) - {"__pycache__", "langevin"}
    assert not left
