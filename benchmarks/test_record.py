"""The file that a benchmark keeps its entries in."""

import json

import pytest

from benchmarks import record as records
from benchmarks.record import Record


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return Record("made-up", {"count": 3})


def test_an_entry_takes_the_place_of_its_namesake_alone(record):
    common = {"label": "Euler", "steps": 64}
    for problem in ("gaussian", "mixture"):
        for process in ("overdamped", "underdamped"):
            record.add(common | {"problem": problem, "process": process, "bias": 1.0})
    record.add(common | {"problem": "mixture", "process": "overdamped", "bias": 2.0})
    kept = json.loads(record.path.read_text())["entries"]
    assert [entry["bias"] for entry in kept] == [1.0, 1.0, 2.0, 1.0]


def test_resuming_keeps_entries_and_refuses_another_count(record):
    record.add({"label": "Euler", "steps": 8})
    again = Record("made-up", {"count": 3})
    again.resume()
    assert again.entries == record.entries
    with pytest.raises(records.md.MultidriftError, match="count: got 4; it takes 3, as kept"):
        Record("made-up", {"count": 4}).resume()
