"""The tables of benchmarks.multilevel, on made-up errors: intervals, prices at equal error, and what stands first."""

import json

import numpy as np
import pytest

from benchmarks import bootstrap, record
from benchmarks.bootstrap import Errors, ratio
from benchmarks.multilevel import report as multilevel_report
from benchmarks.multilevel.report import Setting, needed


def made_up(seeds, images, scale=1.0, of_seed=0.0, key=0):
    rng = np.random.default_rng(key)
    images_part, seeds_part = rng.standard_normal((1, images)), of_seed * rng.standard_normal((seeds, 1))
    return Errors(scale * np.exp(images_part + seeds_part))


def test_interval_has_the_width_of_the_standard_error():
    """95% of 1024 normal errors: ±1.96/32 within a third (the bootstrap's own scatter of 400 resamples is 4%)."""
    errors = Errors(np.random.default_rng(3).standard_normal((1, 1024)))
    low, high = errors.interval("mean")
    assert high - low == pytest.approx(2 * 1.96 / 32, rel=1 / 3)
    assert low < errors.of("mean") < high


def test_intervals_resample_plan_seeds_as_well_as_images():
    """With seeds that differ by a factor the interval is several times as wide as that of the images alone."""
    errors = made_up(5, 4096, of_seed=1.0)
    of_images = Errors(errors.values.mean(axis=0, keepdims=True))
    low, high = errors.interval("mean")
    alone = of_images.interval("mean")
    assert high - low > 4 * (alone[1] - alone[0])


def test_a_ratio_of_settings_with_the_same_images_has_no_scatter_of_images():
    value, low, high = ratio(made_up(1, 128, scale=3.0), made_up(1, 128), "median")
    assert (value, low, high) == pytest.approx((3.0, 3.0, 3.0))


def test_share_counts_errors_above_the_threshold():
    errors = Errors(np.array([[0.0, 0.5, 2.0, 3.0]]) * bootstrap.THRESHOLD)
    assert errors.of("share") == 0.5


def setting(budget, error, family="peer", label="diffusers A f5, linspace"):
    return Setting(family, label, budget, budget, {"f5": float(budget)}, float(budget), Errors(np.full((1, 4), error)))


def test_price_at_equal_error_is_interpolated_in_logarithms_on_the_best_of_each_price():
    curve = [setting(10, 0.1), setting(10, 0.5), setting(40, 0.001), setting(20, 0.2)]
    assert needed(curve, "mean", 0.01) == pytest.approx(np.sqrt(20 * 40))
    assert needed(curve, "mean", 0.1) == pytest.approx(20)  # 20 calls were no better than 10
    assert needed(curve, "mean", 0.11) is None
    assert needed(curve, "mean", 0.0009) is None
    assert needed(curve[:1], "mean", 0.1) is None


def write(path, entries):
    header = {
        "machine": {"device": "x", "threads": 1, "versions": {}},
        "count": 4,
        "reference_steps": 9,
        "costs_of_calls": {"f2": 0.1, "f5": 1.0},
    }
    path.write_text(json.dumps(header | {"entries": entries}))


@pytest.fixture
def kept(monkeypatch, tmp_path):
    for module in (record, multilevel_report):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    multilevel_report.settings.cache_clear()
    yield tmp_path
    multilevel_report.settings.cache_clear()


def entry(family, label, budget, error, calls=None):
    calls = calls or {"f5": float(budget)}
    return {
        "eta": 1.0,
        "family": family,
        "label": label,
        "budget": budget,
        "steps": budget,
        "calls": calls,
        "errors": [[error] * 4],
    }


def test_tables_name_the_best_peer_first_and_divide_by_it(kept):
    """A peer that reaches in 20 calls what draws reach at a cost of 10; Euler needs 40."""
    peers = [entry("peer", "diffusers SDE-DPM-Solver++(2M) f5, karras", n, e) for n, e in ((10, 0.04), (20, 0.02))]
    euler = [entry("euler", "Euler f5, blend", n, e) for n, e in ((10, 0.08), (40, 0.02))]
    draws = [entry("multilevel", "Multilevel f2+f5, independent, blend", 10, 0.02, {"f2": 30.0, "f5": 7.0})]
    write(kept / "multilevel-sde-peers.json", peers)
    write(kept / "multilevel-sde-others.json", euler + draws)
    first, second = multilevel_report.speed_up().split("\n\n")
    assert "best of diffusers' solvers" in first
    assert "2.00× (2.00 to 2.00)" in first
    assert "Euler at f5 on the same grid" in second
    assert "4.00× (4.00 to 4.00)" in second
    assert "is ahead of SDE-DPM-Solver++(2M)" in multilevel_report.verdict()
    assert "| SDE, median | Multilevel, independent | – | – | 2.00 [2.00, 2.00] |" in multilevel_report.ratios()
    assert multilevel_report.budgets((10,)).splitlines()[2].startswith("| SDE, 10 | best of diffusers |")
    for text in (multilevel_report.draws_compared(), multilevel_report.every_setting("sde"), multilevel_report.where()):
        assert "f5" in text


def test_pages_say_so_where_nothing_is_measured(kept):
    for name, section in multilevel_report.SECTIONS.items():
        assert "Not measured yet" in section(), name


def test_records_of_many_errors_have_a_line_an_entry(kept, monkeypatch):
    found = record.Record("many", {"count": 4}, compact=True)
    found.add(entry("peer", "a", 5, 0.1))
    found.add(entry("peer", "b", 5, 0.1))
    assert len(found.path.read_text().splitlines()) == 7
    assert record.Record.kept("many").entries == found.entries
