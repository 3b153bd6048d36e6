"""Files damaged byte by byte, and well-formed ones with wrong entries: read as they were, or one clear error."""

import json
from dataclasses import dataclass

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from PIL import Image
from tests.fuzz.examples import answered, examples
from tests.fuzz.values import LADDER, MIXTURE, SCHEDULE, plain

import multidrift as md
from multidrift.basics.json_files import signed
from multidrift.basics.reading import read_arrays, read_picture
from multidrift.drifts.costs import Costs
from multidrift.generation.rows import read_rows
from multidrift.training.settings import TrainingSettings
from multidrift.training.sizes import Size
from multidrift.training.trainer import LevelTrainer

SYNTHETIC = md.SyntheticLadder(2.5, levels=4).ladder(SCHEDULE)
fractions = st.floats(0, 1)
changes = st.one_of(
    st.tuples(st.just("flip"), fractions, st.integers(1, 255)),
    st.tuples(st.just("cut"), fractions, st.integers(1, 64)),
    st.tuples(st.just("insert"), fractions, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("zero"), fractions, st.integers(1, 64)),
    st.tuples(st.just("digit"), fractions, st.sampled_from(b"0123456789-e.")),
    st.tuples(st.just("truncate"), fractions, st.none()),
    st.tuples(st.just("repeat"), fractions, st.integers(1, 64)),
)


def changed(content, change):
    """The bytes with one change, at a place given as a share of their length."""
    kind, share, what = change
    at = min(int(share * len(content)), len(content) - 1)
    before, after = content[:at], content[at:]
    match kind:
        case "flip":
            after = bytes([after[0] ^ what]) + after[1:]
        case "cut":
            after = after[what:]
        case "insert":
            after = what + after
        case "zero":
            after = bytes(len(after[:what])) + after[what:]
        case "digit":
            there = next((i for i, byte in enumerate(after) if chr(byte).isdigit()), 0)
            after = after[:there] + bytes([what]) + after[there + 1 :]
        case "truncate":
            after = b""
        case "repeat":
            after = after[:what] + after
    return before + after


@dataclass(frozen=True)
class Kind:
    """One kind of files: those of `folder`, how they are read, and all that is read of them, to be compared."""

    folder: object
    read: object
    known: object

    @property
    def files(self):
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def of_ladder(ladder):
    covariances = [covariance.to_dict() for covariance in ladder.covariances]
    levels = [(n, ladder[n].fingerprint, ladder[n].shape) for n in ladder.names]
    return levels, ladder.gaussian.fingerprint, ladder.costs, covariances


def of_trainer(trainer):
    return trainer.step, {name: value.tolist() for name, value in trainer.network.state_dict().items()}


def tiny():
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 4), norm_num_groups=2,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Every kind of files that is written and read back, small."""
    root = tmp_path_factory.mktemp("kinds")
    found = {}
    denoiser = md.Denoiser(tiny(), SCHEDULE, name="f1")
    samples = torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fitted = md.LadderMultistep(3, levels=("a", "b")).fitted(LADDER, paths=2, steps=8).covariance
    gaussian = md.GaussianDenoiser.fit(samples, SCHEDULE)
    md.Ladder([denoiser], ["f1"], Costs({"f1": 0.5}, 2, "here"), gaussian, [fitted]).save(root / "ladder")
    found["ladder"] = Kind(root / "ladder", lambda: of_ladder(md.Ladder.load(root / "ladder")), of_ladder)
    for name in ("plan", "calibration", "checkpoint", "samples", "rows"):
        (root / name).mkdir()
    md.Multilevel(5, calls=(5, 3), shared=False).plan(LADDER, count=2).save(root / "plan/plan.json")
    found["plan"] = Kind(root / "plan", lambda: md.Plan.load(root / "plan/plan.json").to_dict(), None)
    costs = Costs({name: 1.0 * 4**k for k, name in enumerate(SYNTHETIC.names)}, 1, "here")
    md.calibrate(SYNTHETIC, paths=2, steps=8, costs=costs).save(root / "calibration/c.json")
    found["calibration"] = Kind(
        root / "calibration", lambda: md.Calibration.load(root / "calibration/c.json").to_dict(), None
    )
    settings = TrainingSettings(steps=2, batch_size=2, half_precision=False)
    trainer = LevelTrainer(Size("f0", (4, 4), 1e-3), SCHEDULE, samples, settings, torch.device("cpu"))
    list(trainer.run(root / "checkpoint"))

    def resumed():
        trainer.resume(root / "checkpoint")
        return of_trainer(trainer)

    found["checkpoint"] = Kind(root / "checkpoint", resumed, of_trainer)
    md.generate(MIXTURE.denoiser(SCHEDULE), md.Euler(2), root / "samples", count=3, batch_size=2, shard_size=2)
    found["samples"] = Kind(root / "samples", lambda: md.read_samples(root / "samples").tolist(), None)
    return found


@examples(0.2, 40)
@given(st.data())
def test_damaged_files_are_refused_or_read_as_they_were(kinds, data):
    name = data.draw(st.sampled_from(sorted(kinds)))
    kind = kinds[name]
    known = kind.read()
    file = data.draw(st.sampled_from(kind.files))
    whole = file.read_bytes()
    content = changed(whole, data.draw(changes))
    note(f"{file.name} of {name}: {len(whole)} bytes, now {len(content)}")
    try:
        file.write_bytes(content)
        found, error = answered(kind.read)
    finally:
        file.write_bytes(whole)
    assert error is not None or found == known


def places(value, path=()):
    """The paths to all entries of plain values, the containers among them."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


def used(name, root):
    """What is read of a file is used, as a user would."""
    if name == "plan":
        answered(md.sample, LADDER, md.Plan.load(root / "plan.json"), count=2, progress=False)
    elif name == "ladder":
        ladder = md.Ladder.load(root)
        answered(ladder.check)
        answered(md.sample, ladder, md.Euler(2), progress=False)
    else:
        found = md.Calibration.load(root / "c.json")
        answered(md.worth, found)
        answered(md.allocate, SYNTHETIC, found, seconds=50.0, steps=8)


@examples(0.1, 25)
@given(st.data())
def test_wrong_entries_under_a_right_hash(kinds, data):
    """One entry is something else, and the digest is right again: refused, or good for what it is used for."""
    name = data.draw(st.sampled_from(["plan", "ladder", "calibration"]))
    root = kinds[name].folder
    file = next(path for path in kinds[name].files if path.name in ("plan.json", "ladder.json", "c.json"))
    whole = file.read_bytes()
    content = json.loads(whole)
    content.pop("digest")
    path = data.draw(st.sampled_from(list(places(content))))
    new = data.draw(plain)
    note(f"{name}: {path} is {new!r}")
    content = replaced(content, path, new)
    try:
        file.write_text(json.dumps(signed(content) if isinstance(content, dict) else content))
        answered(used, name, root)
    finally:
        file.write_bytes(whole)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Files of other programs: pictures, arrays and tables, and how they are read."""
    root = tmp_path_factory.mktemp("foreign")
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    for ending in ("png", "jpg", "webp", "bmp", "tiff", "gif"):
        image.save(root / f"a.{ending}")
    np.save(root / "a.npy", np.arange(12.0).reshape(3, 4))
    np.savez(root / "a.npz", x=np.arange(12).reshape(3, 4), y=np.arange(3.0))
    (root / "a.csv").write_text("seed,label,prompt\n1,2,a cat\n3,4,a dog\n")
    (root / "a.jsonl").write_text('{"seed": 1, "label": 2}\n{"seed": 3, "label": 4}\n')
    return root


@examples(0.1, 30)
@given(st.data())
def test_damaged_pictures_arrays_and_tables(foreign, data):
    file = data.draw(st.sampled_from(sorted(foreign.iterdir())))
    whole = file.read_bytes()
    content = changed(changed(whole, data.draw(changes)) or b"?", data.draw(changes))
    note(f"{file.name}: {content!r}")
    read = {".npy": read_arrays, ".npz": read_arrays, ".csv": read_rows, ".jsonl": read_rows}.get(
        file.suffix, read_picture
    )
    given_name = {"argument": "images"} if read is not read_rows else {}
    try:
        file.write_bytes(content)
        found, error = answered(read, file, **given_name)
        if error is not None:
            assert file.name in str(error)
        elif read is read_picture:
            assert found.dtype == np.uint8
            assert found.ndim == 3
    finally:
        file.write_bytes(whole)


def test_a_change_that_is_let_in_is_found(kinds, monkeypatch):
    """Without the digest a changed number is read as if it were the plan's."""
    kind, file = kinds["plan"], kinds["plan"].files[0]
    whole, known = file.read_bytes(), kind.read()
    monkeypatch.setattr("multidrift.basics.json_files.unsigned", lambda content, name: content)
    try:
        file.write_bytes(whole.replace(b'"seed": 0', b'"seed": 1'))
        found, error = answered(kind.read)
    finally:
        file.write_bytes(whole)
    assert error is None
    assert found != known
