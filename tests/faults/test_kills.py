"""kill -9 at random points, and two writers at once: nothing lost, nothing half-written, nothing left over."""

import mmap
import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.inside import run
from tests.faults.kills import child, ended, for_a_while, killed_at_random, litter
from tests.fuzz.test_fuzz_files import tiny

import multidrift as md
from multidrift.basics.folders import locked
from multidrift.cli.output import write_result
from multidrift.training.settings import TrainingSettings
from multidrift.training.sizes import Size
from multidrift.training.trainer import CHECKPOINT, LevelTrainer

SCHEDULE = md.schedules.ddpm()
EVERY = 3
SETTINGS = TrainingSettings(steps=12, batch_size=4, warmup=2, checkpoint_every=EVERY, half_precision=False)


def result(seed, side=32):
    def net(x, t):
        return torch.tanh(x)

    return md.sample(md.Denoiser(net, SCHEDULE, "sample", shape=(3, side, side)), md.Euler(2), count=9, seed=seed)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).tobytes()


@pytest.fixture(scope="module")
def ladders():
    """Two ladders that differ in all weights."""
    found = []
    for seed in (0, 1):
        net = tiny()
        for parameter in net.parameters():
            parameter.data += seed
        found.append(md.Ladder([md.Denoiser(net, SCHEDULE, name="f1")]))
    return found


def fingerprint(ladder):
    return [level.fingerprint for level in ladder]


def test_a_picture(tmp_path):
    """Killed while it is written over another one: either of the two is there, whole."""
    old, new = result(0), result(1)
    file, place = tmp_path / "out/a.png", tmp_path / "out"
    place.mkdir()
    old.save(tmp_path / "old.png")
    new.save(tmp_path / "new.png")
    known = {pixels(tmp_path / name) for name in ("old.png", "new.png")}

    def work():
        for each in (new, old) * 4:
            each.save(file)

    def check(killed):
        assert pixels(file) in known
        new.save(file)
        assert [path.name for path in place.iterdir()] == ["a.png"]

    killed_at_random(lambda: old.save(file), work, check)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed twice"])
def test_a_ladder_over_another(tmp_path, ladders, monkeypatch, exchange):
    """Where folders can change places and where they cannot: one of the two ladders is under the name, whole."""
    if not exchange:
        monkeypatch.setattr("multidrift.basics.folders._exchange", lambda one, other: False)
    folder = tmp_path / "ladder"
    known = [fingerprint(ladder) for ladder in ladders]

    def work():
        ladders[1].save(folder, overwrite=True)
        ladders[0].save(folder, overwrite=True)

    def check(killed):
        assert fingerprint(md.Ladder.load(folder)) in known
        ladders[1].save(folder, overwrite=True)
        assert fingerprint(md.Ladder.load(folder)) == known[1]
        assert [path.name for path in tmp_path.iterdir()] == ["ladder"]

    killed_at_random(lambda: ladders[0].save(folder, overwrite=True), work, check)


def test_a_training(tmp_path):
    """What goes on from a kill has lost no checkpoint, and ends with the same weights to the bit."""
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    done = mmap.mmap(-1, 8)  # steps that the killed process has reported

    def train(folder, report=lambda progress: None):
        with locked(folder):
            trainer = LevelTrainer(Size("t1", (4, 4), 2e-3), SCHEDULE, images, SETTINGS, torch.device("cpu"))
            for progress in trainer.run(folder):
                report(progress)
        return [value.tolist() for value in trainer.averaged().state_dict().values()]

    known, runs = train(tmp_path / "whole"), iter(range(1000))
    place = {}

    def prepare():
        place["folder"] = tmp_path / f"run{next(runs)}"
        done[:8] = struct.pack("q", 0)

    def reported(progress):
        done[:8] = struct.pack("q", progress.step)

    def check(killed):
        steps, kept = [], struct.unpack("q", done[:8])[0] // EVERY * EVERY
        assert train(place["folder"], lambda progress: steps.append(progress.step)) == known
        assert min(steps, default=SETTINGS.steps) > kept - (not steps)
        assert litter(tmp_path) == []
        assert [path.name for path in place["folder"].iterdir()] == [CHECKPOINT]

    killed_at_random(prepare, lambda: train(place["folder"], reported), check)


@pytest.mark.skipif("FAULTS" not in os.environ, reason="a training a point: `make faults` runs it")
def test_the_train_command(tmp_path):
    """Under the ladder's name is nothing, or the whole ladder; the same command again ends with the same weights."""
    pictures, runs, place = tmp_path / "pictures.npz", iter(range(1000)), {}
    np.savez(pictures, x=np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))

    def train(out):
        options = ("--levels", "f1", "--steps", 4, "--batch-size", 4, "--device", "cpu", "--overwrite")
        done = run("train", pictures, out, *options)
        assert done.returncode == 0, done.stderr

    train(tmp_path / "whole")
    known = fingerprint(md.Ladder.load(tmp_path / "whole"))

    def prepare():
        place["out"] = tmp_path / f"run{next(runs)}"

    def check(killed):
        out = place["out"]
        assert not out.exists() or fingerprint(md.Ladder.load(out)) == known
        train(out)
        assert fingerprint(md.Ladder.load(out)) == known
        assert litter(tmp_path) == []

    killed_at_random(prepare, lambda: train(place["out"]), check)


def test_images_that_are_generated(tmp_path):
    """What was begun is finished with the same files, and nothing of the killed process is left."""

    def net(x, t):
        return torch.tanh(x)

    model, runs, place = md.Denoiser(net, SCHEDULE, "sample", shape=(1, 16, 16)), iter(range(1000)), {}

    def make(folder):
        md.generate(model, md.Euler(4), folder, count=12, batch_size=2, shard_size=2, format="images", resume=True)

    def contents(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}

    make(tmp_path / "whole")
    known = contents(tmp_path / "whole")

    def prepare():
        place["folder"] = tmp_path / f"run{next(runs)}"

    def check(killed):
        make(place["folder"])
        assert md.verify_samples(place["folder"]) == 12
        assert contents(place["folder"]) == known
        assert sorted(path.name for path in place["folder"].iterdir()) == ["manifest.json", "shards"]
        assert litter(tmp_path) == []

    killed_at_random(prepare, lambda: make(place["folder"]), check)


def test_a_folder_of_pictures(tmp_path):
    """`--out folder/` of the command line: all pictures are there, or no folder."""
    given, runs, place = result(0), iter(range(1000)), {}

    def prepare():
        place["folder"] = tmp_path / f"run{next(runs)}"

    def check(killed):
        there = place["folder"]
        assert not there.exists() or len(list(there.iterdir())) == 9
        write_result(given, there, 0)
        assert sorted(path.name for path in there.iterdir()) == [f"{i:06d}.png" for i in range(9)]
        assert litter(tmp_path) == []

    killed_at_random(prepare, lambda: write_result(given, place["folder"], 0), check)


def two_writers(write, read, known):
    """Two processes that write and this one that reads, for a while; how often it read."""
    writers = [child(lambda which=which: for_a_while(lambda: write(which))) for which in (0, 1)]
    found = []
    for_a_while(lambda: found.append(read()))
    assert [ended(writer) for writer in writers] == [0, 0]
    assert all(one in known for one in found)
    return len(found)


def test_two_writers_of_a_picture(tmp_path):
    results, file = [result(0), result(1)], tmp_path / "a.png"
    known = set()
    for each in results:
        each.save(file)
        known.add(pixels(file))
    assert len(known) == 2
    assert two_writers(lambda which: results[which].save(file), lambda: pixels(file), known) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_two_writers_of_a_ladder(tmp_path, ladders):
    """Each is told where the other one is writing; whoever reads finds one of the two."""
    folder = tmp_path / "ladder"
    ladders[0].save(folder)
    known = [fingerprint(ladder) for ladder in ladders]

    def write(which):
        try:
            ladders[which].save(folder, overwrite=True)
        except md.MultidriftError as error:
            if "is being written by process" not in str(error):
                raise

    assert two_writers(write, lambda: fingerprint(md.Ladder.load(folder)), known) > 0
    ladders[0].save(folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["ladder"]


def test_a_half_written_file_is_found(tmp_path):
    """A save that writes in place is caught by the same tries."""
    new, file = result(1), tmp_path / "a.png"
    new.save(file)
    known = pixels(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(OSError, match="truncated"):
        assert pixels(file) == known
