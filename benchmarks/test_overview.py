"""The table of five rows, from made-up figures, and its gains against the tables they are taken from."""

import pytest

from benchmarks import overview
from benchmarks.langevin import report as langevin_report


@pytest.fixture
def figures(monkeypatch):
    calls = {
        "DDPM": (160.0, 40.0), "Poisson midpoint, single": (40.0, 20.0),
        "Multistep, η = 0": (10.0, 10.0), "Multistep, η = 1": (20.0, 20.0),
    }  # fmt: skip
    monkeypatch.setattr(overview, "gain", lambda process, *_: {"sde": 3.04, "ode": 2.0}[process])
    monkeypatch.setattr(overview, "calls_to_the_reference", calls.__getitem__)
    monkeypatch.setattr(overview, "fewer_than_euler", lambda label, process: [33.0, 12.9, 14.0])
    monkeypatch.setattr(overview, "waiting", lambda label, steps, eta: {0.0: 0.125, 1.0: 0.25}[eta])


def test_each_row_says_its_gain_and_never_rounds_a_bound_up(figures):
    rows = [line.strip("| ").split(" | ") for line in overview.five_rows("docs/").splitlines()]
    assert len(rows) == 2 + 5
    assert {len(row) for row in rows} == {4}
    gains = [row[2] for row in rows[2:]]
    assert gains[0].startswith("10 and 10 calls at η = 0, 20 and 20 at η = 1, where DDPM takes 160 and 40: ")
    assert gains[1].startswith("3.0 (SDE) and 2.0 (ODE) times less median error than")
    assert gains[2].startswith("40 and 20 calls where DDPM takes 160 and 40, ")
    assert "at least 12 times fewer" in gains[3]
    assert gains[4] == "a chain of calls 8.0 (ODE) and 4.0 (SDE) times shorter at 60 steps"
    assert all("](docs/" in row[1] for row in rows[2:])


def test_fewer_than_euler_are_the_ratios_of_the_table():
    table = [line.strip("| ").split(" | ") for line in langevin_report.at_equal_bias().splitlines()[2:]]
    said = [row[3] for row in table if "underdamped" in row[0] and row[1] == "Poisson midpoint, single"]
    found = langevin_report.fewer_than_euler("Poisson midpoint, single", "underdamped")
    assert [f"{ratio:.1f}×" for ratio in found] == [cell.removeprefix("over ") for cell in said]
