"""Samples in shards: the same as in one run, whoever draws them, in every format; bad input and damage are named."""

import io
import json
import os
import resource
import tarfile
import time
import types

import numpy as np
import pytest
import torch
from tests.fakes import Small
from tests.ranks import run_ranks

import multidrift as md
from multidrift.generation import folder as folders
from multidrift.generation import progress, worker
from multidrift.generation.folder import Folder
from multidrift.generation.job import FORMAT, KIND, Shard
from multidrift.generation.progress import Progress
from multidrift.generation.rows import read_rows

METHOD = md.Euler(4)


@pytest.fixture
def pictures(ddpm):
    return md.Denoiser(Small(), ddpm, clip=1.0, name="small", shape=(1, 8, 8))


def left_over(folder):
    return sorted(p.name for p in folder.iterdir() if p.name not in ("manifest.json", "shards"))


@pytest.mark.parametrize("batch_size", [5, 16])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_and_shards_change_no_bit(pictures, tmp_path, batch_size, processes):
    whole = md.sample(pictures, METHOD, count=43, seed=3, batch_size=batch_size).samples

    def draw():
        done = md.generate(pictures, METHOD, tmp_path / "out", count=43, seed=3, batch_size=batch_size, shard_size=4)
        return done.count, dict(done.failures)

    assert run_ranks(processes, draw) == [(43, {})] * processes
    assert torch.equal(md.read_samples(tmp_path / "out"), whole)
    assert torch.equal(md.read_samples(tmp_path / "out", first=7, count=6), whole[7:13])
    assert md.verify_samples(tmp_path / "out") == 43
    assert left_over(tmp_path / "out") == []


@pytest.mark.parametrize(
    "method",
    [md.PoissonMidpoint(4, substeps=3), md.Picard(5, window=3), md.Multilevel(5, levels=("a", "b"), calls=(5, 2))],
)
@pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
def test_methods_that_draw_and_that_iterate(mixture, ddpm, tmp_path, method):
    ladder = md.Ladder([mixture.denoiser(ddpm, "a"), mixture.denoiser(ddpm, "b")])
    whole = md.sample(ladder, method, count=10, first=2, plan_seed=4, batch_size=3).samples
    settings = {"count": 10, "first": 2, "batch_size": 3, "shard_size": 4}
    md.generate(ladder, method, tmp_path / "method", plan_seed=4, **settings)
    assert torch.equal(md.read_samples(tmp_path / "method"), whole)
    plan = method.plan(ladder, seed=4, count=10, first=2)
    md.generate(ladder, plan, tmp_path / "plan", **settings)
    assert torch.equal(md.read_samples(tmp_path / "plan"), whole)


def test_calls_are_those_of_one_run(denoiser, tmp_path):
    done = md.generate(denoiser, METHOD, tmp_path / "out", count=21, batch_size=4, shard_size=10)
    assert done.calls == {"mixture": 4.0}
    assert done.wanted == done.count == 21


def test_pictures_and_tars(pictures, tmp_path):
    exact = md.sample(pictures, METHOD, count=6, batch_size=2).samples
    for name in ("images", "webdataset"):
        folder = tmp_path / name
        md.generate(pictures, METHOD, folder, count=6, batch_size=2, shard_size=4, format=name)
        assert (md.read_samples(folder) - exact.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
        assert md.verify_samples(folder) == 6
    assert sorted(p.name for p in (tmp_path / "images/shards").rglob("*.png")) == [f"{i:012d}.png" for i in range(6)]
    with tarfile.open(tmp_path / "webdataset/shards/000000000004.tar") as tar:
        assert tar.getnames() == [f"{i:012d}.{end}" for i in (4, 5) for end in ("png", "json")]
        assert json.load(tar.extractfile("000000000005.json")) == {"i": 5}


def test_tars_of_what_is_no_picture(denoiser, tmp_path):
    md.generate(denoiser, METHOD, tmp_path / "out", count=3, format="webdataset")
    with tarfile.open(tmp_path / "out/shards/000000000000.tar") as tar:
        second = np.load(io.BytesIO(tar.extractfile("000000000001.npy").read()))
    assert torch.equal(torch.from_numpy(second), md.read_samples(tmp_path / "out")[1])


def labelled(ddpm):
    def net(x, t, label, scale):
        return torch.tanh(x) * scale[:, None] + label[:, None]

    return md.Denoiser(net, ddpm, "sample", name="labelled", shape=(2,))


def test_rows_of_a_file_condition_their_samples(ddpm, tmp_path):
    model, labels, scales, seeds = labelled(ddpm), [3, 1, 4, 1, 5], [0.1, 0.2, 0.3, 0.4, 0.5], [9, 9, 7, 2, 0]
    lines = [f"{a},{b},{c}" for a, b, c in zip(labels, scales, seeds, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["label, scale, seed", *lines]) + "\n")
    rows = [{"label": a, "scale": b, "seed": c} for a, b, c in zip(labels, scales, seeds, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    conditioning = {"label": torch.tensor(labels), "scale": torch.tensor(scales)}
    method = md.PoissonMidpoint(4, substeps=3)
    whole = md.sample(model, method, count=5, seed=seeds, conditioning=conditioning, batch_size=2).samples
    for source in (tmp_path / "rows.csv", tmp_path / "rows.jsonl", rows):
        folder = tmp_path / f"out{type(source).__name__}{getattr(source, 'suffix', '')}"
        md.generate(model, method, folder, rows=source, batch_size=2, shard_size=3)
        assert torch.equal(md.read_samples(folder), whole)


def test_prompts_are_encoded_and_tensors_are_cut(ddpm, tmp_path):
    model = labelled(ddpm)
    rows = [{"prompt": "a" * n} for n in (3, 1, 2)]

    def encode(columns):
        return {"label": torch.tensor([len(text) for text in columns["prompt"]])}

    shared = md.shared(torch.full((3,), 0.5))
    wide = md.Denoiser(
        lambda x, t, label, scale: model.net(x, t, label, scale[:1].expand(len(x))), ddpm, "sample", shape=(2,)
    )
    md.generate(
        wide, METHOD, tmp_path / "rows", rows=rows, encode=encode, conditioning={"scale": shared}, batch_size=1,
        shard_size=2,
    )  # fmt: skip
    tensors = {"label": torch.tensor([3, 1, 2]), "scale": shared}
    md.generate(wide, METHOD, tmp_path / "tensors", count=3, conditioning=tensors, batch_size=1, shard_size=2)
    whole = md.sample(wide, METHOD, count=3, conditioning=tensors, batch_size=1).samples
    assert torch.equal(md.read_samples(tmp_path / "rows"), whole)
    assert torch.equal(md.read_samples(tmp_path / "tensors"), whole)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "label,seed\n1,2\n3\n", "row 2 has 1 values; it takes label, seed"),
        ("a.csv", "label\n1\n2\nx\n", "row 3: label is 'x'; it takes a number"),
        ("a.csv", "seed\n1\n2.5\n", "row 2: seed: got 2.5; it takes an integer"),
        ("a.csv", "prompt,label\na,1\n,2\n", "row 2: prompt is empty"),
        ("a.csv", 'prompt\na\n"b\n', "row 2 is no CSV"),
        ("a.csv", "label\n", "no rows"),
        ("a.jsonl", '{"a": 1}\n{"b": 2}\n', "row 2 has b; row 1 has a"),
        ("a.jsonl", '{"a": 1}\n{"a"\n', "row 2: is damaged, no valid JSON"),
        ("a.jsonl", "3\n", "row 1 is 3; it takes names with values"),
        ("a.txt", "", "a file that ends in .csv, .jsonl"),
    ],
)
def test_a_bad_row_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(md.MultidriftError) as raised:
        read_rows(tmp_path / name)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count: got 0"),
        ({"count": None}, "count: got None"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"shard_size": 0}, "shard_size: got 0"),
        ({"format": "zip"}, "format: got 'zip'; it takes safetensors, images, webdataset"),
        ({"format": "images"}, r"format: got 'images'; it takes samples \[1 or 3, height, width\]; these are \(2,\)"),
        ({"seed": [1, 2]}, "seed: got .1, 2.; it takes an integer; seeds of single samples stand in rows="),
        ({"rows": [{"seed": 1}]}, "rows: got '1 rows'; it takes a row a sample, count=4"),
        ({"rows": [{"prompt": "a"}] * 4}, "encode: got None, and column 'prompt' holds no numbers"),
        ({"method": "euler"}, "method: got 'euler'"),
        ({"lease_seconds": 0}, "lease_seconds: got 0"),
    ],
)
def test_bad_settings(denoiser, tmp_path, settings, message):
    given = {"method": METHOD, "count": 4} | settings
    with pytest.raises(md.MultidriftError, match=f"^{message}"):
        md.generate(denoiser, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_another_run_is_refused(denoiser, mixture, tmp_path):
    out = tmp_path / "out"
    md.generate(denoiser, METHOD, out, count=4)
    with pytest.raises(md.MultidriftError, match="holds this run's samples; it takes .* resume=True"):
        md.generate(denoiser, METHOD, out, count=4)
    others = [
        ({"seed": 1}, "seed is 0, not 1"),
        ({"method": md.Euler(5)}, "method.steps is 4, not 5"),
        ({"count": 5}, "count is 4, not 5"),
        ({"model": mixture.denoiser(md.schedules.ddpm(), "other")}, "ladder.other is null, not"),
        ({"process": md.Diffusion(md.schedules.ddpm(), eta=0.0)}, "process.eta is 1.0, not 0.0"),
    ]
    for settings, message in others:
        given = {"model": denoiser, "method": METHOD, "count": 4} | settings
        with pytest.raises(md.MultidriftError, match=f"holds another run's samples: {message}"):
            md.generate(out=out, resume=True, **given)


def test_a_folder_with_something_else_is_left_alone(denoiser, tmp_path):
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(md.MultidriftError, match="in which lies thesis.tex; it takes a new or empty folder"):
        md.generate(denoiser, METHOD, tmp_path, count=4, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_damage_is_named_and_resume_repairs_what_is_gone(denoiser, tmp_path):
    out = tmp_path / "out"
    settings = {"count": 12, "shard_size": 4, "batch_size": 4}
    md.generate(denoiser, METHOD, out, **settings)
    before = md.read_samples(out)
    os.truncate(out / "shards/000000000004.safetensors", 50)
    (out / "shards/000000000008.safetensors").unlink()
    (out / "shards/stray").touch()
    with pytest.raises(md.MultidriftError) as raised:
        md.verify_samples(out)
    for part in (
        "3 faults",
        "000000000004.safetensors was changed or is cut short",
        "8.safetensors is missing",
        "stray",
    ):
        assert part in str(raised.value)
    with pytest.raises(md.MultidriftError, match="000000000004.safetensors was changed"):
        md.read_samples(out)
    for name in ("shards/stray", "shards/000000000004.safetensors"):
        (out / name).unlink()
    md.generate(denoiser, METHOD, out, resume=True, **settings)
    assert torch.equal(md.read_samples(out), before)
    assert md.verify_samples(out) == 12


def test_failed_shards_are_told_and_tried_again(ddpm, tmp_path):
    def net(x, t, label):
        return torch.where(label[:, None] == 5, torch.nan if broken else 0.0, 0.1 * x)

    model, broken = md.Denoiser(net, ddpm, "sample", name="net", shape=(2,)), True
    given = {"count": 12, "batch_size": 3, "shard_size": 3, "conditioning": {"label": torch.arange(12)}}
    done = md.generate(model, METHOD, tmp_path / "out", **given)
    assert done.count == 9
    assert list(done.failures) == ["000000000003"]
    assert "not finite" in done.failures["000000000003"]
    assert "sample 5" in done.failures["000000000003"]
    with pytest.raises(md.MultidriftError, match="is not complete, 9 of 12 samples are there"):
        md.read_samples(tmp_path / "out")
    broken = False
    assert md.generate(model, METHOD, tmp_path / "out", resume=True, **given).count == 12
    assert left_over(tmp_path / "out") == []


def test_a_model_that_never_works_is_given_up(ddpm, tmp_path):
    def net(x, t):
        calls.append(len(x))
        raise RuntimeError("no such kernel")

    calls = []
    with pytest.raises(md.MultidriftError, match="no such kernel"):
        md.generate(md.Denoiser(net, ddpm, "sample", shape=(2,)), METHOD, tmp_path / "out", count=99, shard_size=1)
    assert len(calls) == 3


@pytest.mark.parametrize("kept", ["safetensors", "webdataset"])
def test_a_full_disk_is_one_error_verify_names_what_is_missing_and_resume_goes_on(ddpm, tmp_path, kept):
    calls, out, given = [], tmp_path / "out", {"count": 6, "batch_size": 2, "shard_size": 2, "format": kept}

    def net(x, t):
        calls.append(len(x))
        if len(calls) == 6 and os.environ.get("FULL"):  # within the second shard; files are then cut off at 60 kB
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        return 0.1 * x

    model = md.Denoiser(net, ddpm, "sample", name="net", shape=(4, 64, 64))

    def draw():
        os.environ["FULL"] = "1"
        md.generate(model, METHOD, out, **given)

    (told,) = run_ranks(1, draw)
    second = f"000000000002{'.tar' if kept == 'webdataset' else '.safetensors'}"
    assert told.startswith(f"MultidriftError: out: could not write '{out / 'shards' / second}' (")
    assert "File too large" in told
    with pytest.raises(md.MultidriftError, match="^folder: 3 faults: ") as raised:
        md.verify_samples(out)
    for part in (f"{second} is missing", f"{second.replace('2', '4')} is missing", "--resume goes on with it"):
        assert part in str(raised.value)
    md.generate(model, METHOD, out, resume=True, **given)
    assert torch.equal(md.read_samples(out), md.sample(model, METHOD, count=6, batch_size=2).samples)
    assert left_over(out) == []


def test_the_bar_counts_what_all_processes_have_drawn(monkeypatch, tmp_path, denoiser):
    """Whoever drew it; what lay there before is no speed of now, so it is no part of the time left."""
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    folder = Folder(tmp_path, ".safetensors")
    folder.begin({"kind": KIND, "format": FORMAT, "first": 0, "count": 12, "files": "safetensors"}, resume=False)

    def put(number):
        folder.put(Shard(number, 4 * number, 4), lambda path: path.touch(), {})

    put(0)
    bar = Progress(folder, types.SimpleNamespace(count=12), wanted=True)
    (task,) = bar._bar.tasks
    assert task.completed == 4
    with bar:
        assert task.time_remaining is None
        for number in (1, 2):
            time.sleep(0.01)
            put(number)
            bar.watch()
        assert task.completed == 12
        assert 0 < task.speed < 800
        assert task.time_remaining == 0


def test_a_lease_is_taken_over_from_a_machine_that_fell_silent(denoiser, tmp_path):
    leases = worker.Leases(tmp_path, 0.5)
    shard = Shard(0, 0, 4)
    held = leases.take(shard)
    text = (tmp_path / "000000000000.lease").read_text()
    other = worker.Leases(tmp_path, 0.5)
    assert other.take(shard) is None
    held.release()
    lines = [f"host={'elsewhere'}" if line.startswith("host=") else line for line in text.splitlines()]
    (tmp_path / "000000000000.lease").write_text("\n".join(lines) + "\n")
    looks = 0
    while (lease := other.take(shard)) is None:
        looks += 1
        worker.time.sleep(0.05)
    assert looks >= 5  # half a second
    lease.release()


def test_a_process_that_finishes_while_another_does_is_no_error(pictures, tmp_path, monkeypatch):
    """Both see the last shard land: one writes the manifest and tidies up while the other is about to."""
    write, others, finished = folders._write, [Folder(tmp_path / "out", ".safetensors")], []

    def other_first(path, values):
        write(path, values)
        if values.get("result") and others:
            finished.append(others.pop().finish(values, len(values["result"])))

    monkeypatch.setattr(folders, "_write", other_first)
    made = md.generate(pictures, METHOD, tmp_path / "out", count=3, shard_size=1, batch_size=1, progress=False)
    assert made.count == 3
    assert finished == [True]
    assert left_over(tmp_path / "out") == []
    assert len(md.read_samples(tmp_path / "out")) == 3
