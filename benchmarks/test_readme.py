"""What stands between the markers of README and docs is what the kept results say."""

import pytest

from benchmarks.readme import PAGES, filled


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_are_those_of_the_benchmarks(page):
    text = page.read_text()
    assert filled(text) == text, "run python -m benchmarks.readme"
