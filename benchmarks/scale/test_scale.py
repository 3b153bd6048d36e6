"""Each part runs at a small setting, finds what was put in its way, and what it keeps is shown."""

import pytest
import torch

import multidrift as md
from benchmarks import record as records
from benchmarks.record import Record
from benchmarks.scale import equal, kills, measure, queue, report


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """The section of a part that was measured."""
    for module in (records, report):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.tables.RESULTS", tmp_path)

    def section(part, **settings):
        assert "Not measured yet" in report.SECTIONS[f"scale-{part}"]()
        measure.PARTS[part](Record(f"scale-{part}", {"machine": records.machine("cpu")}), **settings)
        return report.SECTIONS[f"scale-{part}"]()

    return section


def test_timings(shown):
    small = {"level": "f1", "count": 2, "steps": 2, "batch_size": 1, "repeats": 1}
    assert "| `md.generate` | " in shown("overhead", **small)
    assert "| md.generate, two processes | " in shown("processes", **small)


def test_equality(shown, monkeypatch):
    monkeypatch.setattr(equal, "BATCH_SIZES", (2,))
    monkeypatch.setattr(equal, "PROCESSES", (2,))
    assert "| 2 | 2 | 3 | 0 | 0.0e+00 |" in shown("equal", count=5, steps=2)


def test_kills(shown):
    table = shown("kills", points=1)
    assert table.splitlines()[2].startswith("| one worker | 1 | ")
    assert table.splitlines()[2].endswith(" | 0 | 0 | 0 | 0 | 0 |")


def test_what_resuming_did_is_told(tmp_path):
    model = kills.slow()
    assert kills.generate(model, tmp_path / "out") == kills.COUNT
    (tmp_path / "out/features").mkdir()
    whole = md.sample(model, kills.METHOD, count=kills.COUNT, batch_size=kills.SIZE).samples
    whole[[3, 7]] += 1e-6
    found = kills.resumed(model, tmp_path / "out", whole)
    assert found == {"lost": 0, "doubled": 0, "changed": 2, "drawn_again": 0, "left_over": ["features"]}


def test_the_queue(shown, monkeypatch):
    monkeypatch.setattr(queue, "_GONE", 4)
    monkeypatch.setattr(queue, "_FAILING", 3)
    monkeypatch.setattr(queue, "METHODS", (md.Euler(2), md.Multistep(3)))
    monkeypatch.setattr(queue, "_LARGEST", 2)
    table = shown("queue", number=8, parallel=4, minutes=0.0)
    assert "| answers | 2 cancelled, 4 drawn, 2 failed: as they should be |" in table
    assert "run of its own at that batch size | 0.0e+00 |" in table


def test_a_wrong_answer_is_told():
    model = queue.breakable("f1")
    asked = queue.Asked(0, md.Euler(2), 1, 0, 1)
    good = md.sample(model, asked.method, seed=1, conditioning={"broken": torch.zeros(1, dtype=torch.bool)}).samples
    assert queue._difference(model, asked, ("drawn", 0.0, good)) < 1e-4
    assert queue._difference(model, asked, ("drawn", 0.0, good + 1)) == pytest.approx(1.0)
    assert queue._difference(model, asked, ("failed: x", 0.0, None)) == float("inf")


def test_a_part_that_is_none():
    with pytest.raises(md.MultidriftError, match="part: got 'speed'"):
        measure.main(part="equal,speed")
