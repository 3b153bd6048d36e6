"""The loops that are timed do what they are taken for, and what was kept is shown."""

import diffusers
import pytest
import torch
from tests.fakes import Small

import multidrift as md
from benchmarks import record as records
from benchmarks.overhead import measure, report
from benchmarks.overhead.loops import Setting, bare, loops, ours, scheduled


@pytest.fixture
def setting():
    return Setting("small", Small(), (1, 8, 8), 2, 5, torch.device("cpu"))


def test_all_loops_walk_the_same_path(setting):
    wanted = scheduled(setting, diffusers.DDIMScheduler(clip_sample=False))
    assert torch.allclose(ours(setting, 0.0), wanted, atol=1e-4 * float(wanted.abs().max()))
    assert bare(setting).shape == wanted.shape
    assert len(setting.network.seen) == 3 * setting.steps


def test_pipelines_are_among_them():
    network = md.Ladder.bundled("digits")["f1"].net
    names = set(loops(Setting("f1", network, (1, 28, 28), 1, 2, torch.device("cpu"))))
    assert {"bare calls", "multidrift, SDE", "pipeline, its own loop", "pipeline, our loop"} <= names


def test_what_was_measured_is_kept_and_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.tables.RESULTS", tmp_path, raising=False)
    assert "Not measured yet" in report.table()
    small = Setting("small", Small(), (1, 8, 8), 2, 5, torch.device("cpu"))
    monkeypatch.setattr(measure, "settings", lambda *_, **__: [small])
    monkeypatch.setattr(measure, "BATCH_OF_OPTIONS", 3)
    measure.main(repeats=1, options="as it is,parts of 64,channels-last")
    assert "| small | 2 | multidrift, SDE |" in report.table()
    assert "| small | 3 | channels-last |" in report.options()


def test_jobs_take_turns_in_another_order_every_time():
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "abc"}
    assert {name: len(taken) for name, taken in measure.seconds(jobs, 2, torch.device("cpu")).items()} == dict.fromkeys(
        "abc", 2
    )
    assert "".join(order) == "abcbcacab"
