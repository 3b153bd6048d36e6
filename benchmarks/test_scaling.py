"""γ from errors and costs."""

import numpy as np
import pytest

from benchmarks.scaling import report

COSTS = np.array([1.0, 2.0, 6.0, 10.0, 17.0])


def test_report_covers_the_truth_and_leaves_each_level_out():
    """300 images of multiplicative noise, the same for all levels: the floor scales with it, γ does not move."""
    noise = np.exp(0.3 * np.random.default_rng(0).standard_normal(300))
    found = report((0.03 + 0.02 * COSTS[:, None] ** (-1 / 1.5)) * noise, COSTS, ["a", "b", "c", "d", "e"])
    assert found["gamma"] == pytest.approx(1.5, rel=0.02)
    assert found["interval"] == pytest.approx([1.5, 1.5], rel=0.03)
    assert set(found["without"]) == {"a", "b", "c", "d", "e"}
    assert all(value == pytest.approx(1.5, rel=0.05) for value in found["without"].values())


def test_noise_of_single_levels_widens_the_interval():
    noise = np.exp(0.3 * np.random.default_rng(0).standard_normal((5, 300)))
    low, high = report((0.03 + 0.02 * COSTS[:, None] ** (-1 / 1.5)) * noise, COSTS, list("abcde"))["interval"]
    assert high > 1.2 * low
