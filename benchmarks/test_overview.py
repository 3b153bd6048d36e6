"""The table of five rows, from made-up figures, and its gains against the tables they are taken from."""

import math

import pytest

from benchmarks import overview
from benchmarks.langevin import report as langevin_report
from benchmarks.parallel.report import Shorter


@pytest.fixture
def figures(monkeypatch):
    calls = {
        "DDPM": (160.0, 40.0), "Poisson midpoint, single": (40.0, 20.0),
        "Multistep, η = 0": (10.0, 10.0), "Multistep, η = 1": (20.0, 20.0),
    }  # fmt: skip
    monkeypatch.setattr(
        overview, "gain", lambda process, *_: {"sde": (3.04, 2.5, 4.0), "ode": (2.0, 1.5, 3.0)}[process]
    )
    monkeypatch.setattr(overview, "calls_to_the_reference", calls.__getitem__)
    monkeypatch.setattr(overview, "fewer_than_euler", lambda label, process: [(33.0, 9.0), (12.9, 8.7), (14.0, 12.0)])
    known = {0.0: Shorter(8.0, (6.0, 10.0), 12), 1.0: Shorter(4.0, None, 4)}
    monkeypatch.setattr(overview, "shorter", lambda label, steps, eta: known[eta])


def test_each_row_says_its_gain_and_never_rounds_a_bound_up(figures):
    rows = [line.strip("| ").split(" | ") for line in overview.five_rows("docs/").splitlines()]
    assert len(rows) == 2 + 5
    assert {len(row) for row in rows} == {4}
    gains = [row[2] for row in rows[2:]]
    assert gains[0].startswith("10 and 10 calls at η = 0, 20 and 20 at η = 1, where DDPM takes 160 and 40: ")
    assert gains[1].startswith("3.0 [2.5, 4.0] (SDE) and 2.0 [1.5, 3.0] (ODE) times less median error than")
    assert gains[2].startswith("40 and 20 calls where DDPM takes 160 and 40, ")
    assert "at least 12 times fewer gradients than Euler (4 targets; 8 by intervals)" in gains[3]
    images = "12 and 4 images of one seed"
    assert gains[4] == f"a chain of calls 8.0 [6.0, 10.0] (ODE) and 4.0 (SDE) times shorter at 60 steps ({images})"
    assert all("](docs/" in row[1] for row in rows[2:])


def test_fewer_than_euler_are_the_ratios_of_the_table():
    table = [line.strip("| ").split(" | ") for line in langevin_report.at_equal_bias().splitlines()[2:]]
    said = [row[3] for row in table if "underdamped" in row[0] and row[1] == "Poisson midpoint, single"]
    found = langevin_report.fewer_than_euler("Poisson midpoint, single", "underdamped")
    assert [f"{ratio:.1f}" for ratio, _ in found] == [cell.removeprefix("over ").split(" [")[0] for cell in said]
    lows = ["under" if low == math.inf else f"{low:.1f}" for _, low in found]
    assert lows == [cell.split(" [")[1].split(",")[0].split(" ")[0] for cell in said]


def test_calls_for_a_bias_have_the_interval_of_their_standard_errors(monkeypatch):
    """A bias of 1/calls² · 10⁴ % is 1% at 100 calls; with standard errors of 2% of it, calls scatter by 1%."""
    entries = [
        {"calls": calls, "bias": 100 / calls**2, "error": 2 / calls**2, "label": "x", "problem": "p", "process": "q"}
        for calls in (50, 90, 110, 200)
    ]
    assert langevin_report._calls_for(entries, 0.01) == pytest.approx(100, rel=1e-9)
    low, high = langevin_report._interval(
        [langevin_report._calls_for(e, 0.01) for e in langevin_report._redrawn(entries, 0)]
    )
    scatter = 0.01 * 100 * 2**-0.5  # of the mean of two points in the middle between them
    assert high - low == pytest.approx(2 * 1.96 * scatter, rel=0.25)
    assert langevin_report._between(langevin_report._calls_for, entries[:2]).endswith(", over 90]")
