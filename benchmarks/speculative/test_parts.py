"""Windows evaluated in parts: the same rounds, samples, acceptances and counts."""

import numpy as np
import pytest
import torch

import multidrift as md
from benchmarks.speculative.parts import in_parts
from benchmarks.speculative.problems import closed_form


@pytest.mark.parametrize(
    "settings",
    [
        {"drafter": "low+held"},
        {"drafter": ("frozen", "low"), "window": (2, 9)},
        {"drafter": "top", "every": 3},
        {"drafter": "low", "verification": "block"},
    ],
    ids=str,
)
def test_a_run_in_parts_is_the_run(settings):
    ladder = closed_form(4, 4)
    method = md.Speculative(40, **{"window": 11} | settings)
    whole = md.sample(ladder, method, count=3, dtype=torch.float64)
    with in_parts() as difference:
        found = difference.counted(md.sample(ladder, method, count=3, dtype=torch.float64))
    assert torch.allclose(found.samples, whole.samples, rtol=0, atol=1e-10)
    assert np.array_equal(found.speculation.rounds, whole.speculation.rounds)
    assert found.speculation.acceptance == whole.speculation.acceptance
    assert found.speculation.predicted == pytest.approx(whole.speculation.predicted)
    assert found.batches == whole.batches
    assert found.rounds == whole.rounds
    assert found.calls == pytest.approx(whole.calls)
    assert 0.3 < whole.speculation.acceptance < 0.99
