"""The trainer: what it reads, that it learns, and that a killed run continues where it was."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from PIL import Image

import multidrift as md
from multidrift.basics.folders import locked
from multidrift.evaluation.denoising import denoising_errors
from multidrift.training.images import load_images, split
from multidrift.training.ladder import train_ladder
from multidrift.training.settings import TrainingSettings
from multidrift.training.sizes import SIZES, Size, select
from multidrift.training.trainer import LevelTrainer

CPU = torch.device("cpu")
TINY = Size("t1", (4, 4), 2e-3)
SETTINGS = TrainingSettings(steps=6, batch_size=4, warmup=2, checkpoint_every=2)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(40, 1, 8, 8, generator=generator) > 0.5).to(torch.uint8) * 255


@pytest.fixture
def folder_of_pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(6):
        pixels = rng.integers(0, 255, (8, 8, 4), dtype=np.uint8)
        Image.fromarray(pixels, "RGBA").save(folder / ("deeper" if index % 2 else ".") / f"{index}.png")
    return folder


def test_images_from_a_folder(folder_of_pictures):
    images = load_images(folder_of_pictures)
    assert images.shape == (6, 3, 8, 8)
    assert images.dtype == torch.uint8


def test_images_from_an_archive(tmp_path):
    x = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(3))
    assert torch.equal(load_images(tmp_path / "a.npz")[:, 0], torch.from_numpy(x))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: np.savez(p / "a.npz", z=np.zeros(3)), "no array 'x' among z"),
        (lambda p: np.savez(p / "a.npz", x=np.zeros((3, 8, 8))), "images: got 'float64"),
        (lambda p: None, "a.npz' is not there"),
    ],
)
def test_bad_archives(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(md.MultidriftError, match=message):
        load_images(tmp_path / "a.npz")


def test_bad_folders(tmp_path, folder_of_pictures):
    with pytest.raises(md.MultidriftError, match="images: got .*an .npz file or a folder"):
        load_images(tmp_path / "missing")
    Image.new("RGB", (9, 8)).save(folder_of_pictures / "z.png")
    with pytest.raises(md.MultidriftError, match=r"images: z.png is"):
        load_images(folder_of_pictures)


def test_split_keeps_images_apart(images):
    marked = images.clone()
    marked[:, 0, 0, 0] = torch.arange(40, dtype=torch.uint8)
    parts = split(marked, 0.25, seed=0)
    seen = [((part[:, 0, 0, 0] + 1) * 127.5).round().int().tolist() for part in (parts.train, parts.held_out)]
    assert len(seen[1]) == 10
    assert sorted(seen[0] + seen[1]) == list(range(40))
    assert parts.train.min() >= -1
    assert parts.train.max() <= 1


def test_a_killed_run_continues_bit_for_bit(images, ddpm, tmp_path):
    data = split(images, 0.1, 0).train
    whole = LevelTrainer(TINY, ddpm, data, SETTINGS, CPU)
    losses = [p.loss for p in whole.run(tmp_path / "whole")]
    killed = LevelTrainer(TINY, ddpm, data, SETTINGS, CPU).run(tmp_path / "killed")
    for _ in range(5):
        next(killed)
    killed.close()
    again = LevelTrainer(TINY, ddpm, data, SETTINGS, CPU)
    rest = [p.loss for p in again.run(tmp_path / "killed")]
    assert rest == losses[4:]
    for mine, theirs in zip(again.averaged().parameters(), whole.averaged().parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_checkpoint_of_another_recipe_is_refused(images, ddpm, tmp_path):
    data = split(images, 0.1, 0).train
    list(LevelTrainer(TINY, ddpm, data, SETTINGS, CPU).run(tmp_path))
    other = LevelTrainer(TINY, ddpm, data, dataclasses.replace(SETTINGS, steps=9), CPU)
    with pytest.raises(md.MultidriftError, match="made with other settings"):
        next(other.run(tmp_path))


def test_a_checkpoint_of_other_data_is_refused(images, ddpm, tmp_path):
    """Of the same shape, or in another order: what differs is named."""
    data = split(images, 0.1, 0).train
    list(LevelTrainer(TINY, ddpm, data, SETTINGS, CPU).run(tmp_path))
    for other in (1 - data, data.flip(0)):
        with pytest.raises(md.MultidriftError, match="made with other settings .images '.*', now"):
            next(LevelTrainer(TINY, ddpm, other, SETTINGS, CPU).run(tmp_path))
    with pytest.raises(md.MultidriftError, match="made with other settings .schedule"):
        next(LevelTrainer(TINY, md.schedules.cosine(), data, SETTINGS, CPU).run(tmp_path))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_damaged_checkpoints_are_refused(images, ddpm, tmp_path, damage):
    data = split(images, 0.1, 0).train
    list(LevelTrainer(TINY, ddpm, data, SETTINGS, CPU).run(tmp_path))
    file = tmp_path / "checkpoint.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    changed = {"truncated": content[:-100], "flipped": content, "empty": b"", "other": b"x" * 99}[damage]
    file.write_bytes(bytes(changed))
    with pytest.raises(md.MultidriftError, match="checkpoint.safetensors.* is (damaged|empty)"):
        next(LevelTrainer(TINY, ddpm, data, SETTINGS, CPU).run(tmp_path))


def test_two_trainings_into_one_folder(images, ddpm, tmp_path):
    with locked(tmp_path / "work"):
        holder = f"being written by process {os.getpid()} on "
        with pytest.raises(md.MultidriftError, match=holder):
            train_ladder(images, tmp_path / "work", [TINY], ddpm, SETTINGS)


def test_training_learns(images, ddpm, tmp_path):
    """Two hundred steps on eight pictures take the loss well below that of predicting nothing."""
    settings = dataclasses.replace(SETTINGS, steps=200, batch_size=8, checkpoint_every=200, ema_decay=0.9)
    size = Size("t1", (8, 8), 5e-3)
    trained = train_ladder(images, tmp_path, [size], ddpm, settings)
    assert trained.held_out.mean("t1") < 0.6
    assert trained.ladder.costs.seconds["t1"] > 0


def test_table_of_sizes():
    assert [size.name for size in SIZES] == ["f1", "f2", "f3", "f4", "f5"]
    assert select(("f5", "f1")) == (SIZES[0], SIZES[4])
    with pytest.raises(md.MultidriftError, match="levels: got 'f9'; it takes f1, f2"):
        select(("f9",))


def test_images_must_fit_the_network(ddpm):
    with pytest.raises(md.MultidriftError, match="images: got '9×8'"):
        LevelTrainer(TINY, ddpm, torch.zeros(4, 1, 9, 8), SETTINGS, CPU)


def test_denoising_errors_of_the_exact_denoiser(mixture, ddpm):
    """The exact denoiser's error is that of the posterior, and no worse network comes near it."""
    worse = md.Denoiser(lambda x, t: torch.zeros_like(x), ddpm, predicts="sample", name="worse", shape=(2,))
    ladder = md.Ladder([worse, mixture.denoiser(ddpm, "exact")])
    errors = denoising_errors(ladder, mixture.sample(2000, dtype=torch.float32), (100.0, 500.0, 900.0))
    gap, spread = errors.gap("worse", "exact")
    assert gap > 5 * spread > 0
    assert errors.by_time("exact")[0] > errors.by_time("exact")[2]
    assert errors.mean("exact") == pytest.approx(np.mean(errors.by_time("exact")))
