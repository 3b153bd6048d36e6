"""The written figures of the law of samples, from a made-up record."""

import pytest
from PIL import Image

from benchmarks.poisson import report as poisson_report


def distance(kernel, half=0.002):
    return {"kernel": kernel, "low": kernel - half, "high": kernel + half, "standard_error": half / 2, "frechet": 0.1}


def entry(family, label, calls, kernel, to_reference):
    names = {"family": family, "label": label, "calls": calls, "counted_calls": float(calls), "seconds": 1.0}
    return names | distance(kernel) | {"to_reference": distance(to_reference)}


@pytest.fixture
def record(monkeypatch):
    made = {
        "count": 10,
        "level": "f3",
        "minutes": 1.0,
        "highlighted": "Poisson midpoint, single",
        "machine": {"device": "a processor", "threads": 1, "versions": {"torch": "2"}},
        "real_split": distance(-0.001),
        "entries": [
            {"family": "reference", "label": "DDPM", "counted_calls": 1000.0, "calls": 1000} | distance(0.010),
            entry("euler", "DDPM", 40, 0.013, 0.003),
            entry("euler", "DDPM", 20, 0.030, 0.020),
            entry("poisson", "Poisson midpoint, single", 19, 0.0119, 0.0021),
            entry("poisson", "Poisson midpoint, single", 39, 0.010, 0.001),
        ],
    }
    monkeypatch.setattr(poisson_report, "results", lambda name: {"poisson_diffusion": made}[name])
    return made


def test_first_calls_are_those_within_the_references_interval(record):
    table = poisson_report.reached().splitlines()
    assert "at most 12.0 (distance there)" in table[0]
    assert table[2] == "| **Poisson midpoint, single** | 19, 39 | 19 (11.9 ± 2.0) | 39 (1.0 ± 2.0) |"
    assert table[3] == "| DDPM | 20, 40 | not by 40 | not by 40 |"
    record["entries"][1] |= distance(0.012)
    assert poisson_report.reached().splitlines()[3] == "| DDPM | 20, 40 | 40 (12.0 ± 2.0) | not by 40 |"


def test_every_peer_is_shown_at_its_best_spacing(record):
    for spacing, kernel in (("linspace", 0.02), ("karras", 0.011)):
        record["entries"] += [entry("peer", f"diffusers UniPC, {spacing}", calls, kernel, 0.01) for calls in (5, 10)]
    record["entries"].append(entry("poisson", "Poisson midpoint, paper's variant 2", 39, 0.5, 0.5))
    table = poisson_report.best_of_each().splitlines()
    assert table[2:5] == [
        "| **Poisson midpoint, single** | 19 (11.9 ± 2.0) | 39 (1.0 ± 2.0) |",
        "| DDPM | not by 40 | not by 40 |",
        "| diffusers UniPC | 5 (11.0 ± 2.0) | not by 10 |",
    ]
    assert table[-1].endswith("that of DDPM in 1000 calls to real digits is 10.0 ± 2.0.")


def test_orders_are_those_of_the_record():
    table = poisson_report.orders().splitlines()
    assert table[2].startswith("| Euler | ")
    assert table[2].endswith(" | 1.00 |")
    assert table[-6].startswith("| Euler | ")


def test_real_digits_stand_beside_every_figure(record):
    table = poisson_report.every_setting().splitlines()
    assert table[2] == "| real digits, held out |  | -1.0 ± 2.0 |  | 0.100 |"
    assert table[3] == "| DDPM | 1000 | 10.0 ± 2.0 | – | 0.100 |"
    assert table[4].startswith("| **Poisson midpoint, single** | 19 |")
    assert table[6] == "| DDPM | 20 | 30.0 ± 2.0 | 20.0 ± 2.0 | 0.100 |"
    assert len(table) == 2 + 1 + len(record["entries"])
    assert "10 images of each; a processor, one thread, torch 2" in poisson_report.where()


def test_plot_is_a_picture(record, tmp_path):
    assert record
    poisson_report.plot(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[0] > 1000
