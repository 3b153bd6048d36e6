"""The tables of parallel runs say how many images stand behind them, and how many rows a call has."""

import pytest

from benchmarks.parallel import report as parallel_report


@pytest.fixture
def made_up(monkeypatch):
    def entry(label, steps, images, reached, error=2e-2):
        history = [{"rounds": 30, "error": error, "calls": 600.0, "critical_path": 0.5}]
        return {"label": label, "eta": 0.0, "steps": steps, "images": images, "history": history,
                "reached": {"0.001": reached}, "family": "ours"}  # fmt: skip

    known = {"rounds": 12, "calls": 300.0, "critical_path": 0.2, "error": 5e-4}
    entries = [
        entry("diffusers DDIMParallel, window 20", 60, 7, known | {"peak_rows": 20.0}),
        entry("window of 20", 60, 7, None),
        entry("plain Picard", 1000, 3, known | {"calls": 600.0}),
    ]
    monkeypatch.setattr(parallel_report, "results", lambda name: {"parallel": {"entries": entries}}[name])


def test_the_summary_names_images_and_rows(made_up):
    table = parallel_report.summary()
    assert "| plain Picard |  |  | 12 (0.20; 50) |  |" in table
    assert "| diffusers' parallel scheduler, window 20 | 12 (0.20; 25) |" in table
    assert "few images of one seed: 7 at 60 steps, 3 at 1,000 steps; there are no error bars" in table


def test_windows_are_shown_by_rows_a_call(made_up):
    table = parallel_report.windows()
    assert "| ODE | 60 | 7 | diffusers' parallel scheduler, window 20 | 12 | 300 | 25.0 | 5.0e-04 | 20 |" in table
    assert "| ODE | 60 | 7 | window of 20 | not by 30 |  |  | 2.0e-02 |  |" in table
    assert "plain" not in table


def test_intervals_resample_images(made_up):
    """The worst of ten images takes 14 rounds; without it 12 are enough, and twice it takes more than were run."""
    errors = [[1e-2] * 10, [1e-5] * 9 + [1.2e-2], [1e-5] * 9 + [8e-3]]
    history = [
        {"rounds": rounds, "error": sum(each) / 10, "error_of_images": each, "calls": 0.0, "critical_path": 0.0}
        for rounds, each in zip((10, 12, 14), errors, strict=True)
    ]
    entry = {"history": history, "reached": {"0.001": history[2], "1e-05": None}, "goal": 1e-3}
    assert parallel_report._reached(entry, "0.001") == "14 [12, ∞] (0; 0.00)"
    assert parallel_report._reached(entry, "1e-05") == "not tried"
    for found in history:  # in windows each image has its own rounds
        found["rounds_of_images"] = [found["rounds"] - 5] * 9 + [found["rounds"] + 45]
    assert parallel_report.interval(entry, 1e-2) == (5, 20)


def test_a_shorter_chain_has_the_interval_of_its_rounds(made_up, monkeypatch):
    monkeypatch.setattr(parallel_report, "interval", lambda entry, error: (10.0, 15.0))
    found = parallel_report.shorter("plain Picard", 1000, 0.0)
    assert (str(found), found.images) == ("5.0 [4.0, 6.0]", 3)
