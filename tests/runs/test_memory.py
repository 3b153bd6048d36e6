"""Limits of the memory of network calls, and how it is counted."""

import math

import pytest
import torch
from tests.fakes import F64, counting_denoiser

import multidrift as md
from multidrift.runs.memory import CallMemory


def test_a_memory_limit_cuts_rounds_but_changes_nothing(mixture, ddpm):
    model = counting_denoiser(mixture, ddpm)
    whole = md.sample(model, md.Picard(20), count=3, memory_limit=math.inf, **F64)
    assert whole.peak_rows == 57
    limit = whole.peak_memory / 4
    cut = md.sample(model, md.Picard(20), count=3, memory_limit=limit, **F64)
    assert torch.allclose(whole.samples, cut.samples, atol=1e-12)
    assert (cut.rounds, cut.calls) == (whole.rounds, whole.calls)
    assert 10 < cut.peak_rows <= 57 / 4
    assert cut.peak_memory <= limit < whole.peak_memory
    assert cut.batches["model"] > 2 * whole.batches["model"]
    assert md.sample(model, md.Picard(20), count=3, **F64).peak_memory is None
    with pytest.raises(
        md.MultidriftError, match=r"memory_limit: got 8; it takes at least \d+ bytes, for one evaluation"
    ):
        md.sample(model, md.Picard(20), count=3, memory_limit=8, **F64)
    with pytest.raises(md.MultidriftError, match=r"memory_limit.*the 57 rows of batch_size by model"):
        md.sample(model, md.Picard(20), count=3, memory_limit=limit, batch_size=57, **F64)


def test_memory_of_a_call_is_counted():
    def call(rows):  # never more than two of these tensors at once, one of them with a row more
        table = torch.zeros(rows, 1000) + 1  # 4,000 bytes a row
        table = torch.cat((table, torch.zeros(1, 1000)))
        return (table.view(-1).t() * 2).sum()

    memory, sizes = CallMemory(), []
    for _ in range(5):
        sizes.append(memory.rows_within(50_000, 100))
        memory.measured(sizes[-1], lambda: call(sizes[-1]))
    assert sizes == [1, 2, 4, 5, 5]
    assert [memory.bytes_of(rows) for rows in (1, 2, 3, 5)] == [16004, 24004, 32004, 48004]
    assert memory.peak == 48004


def test_memory_that_grows_late_is_found_out():
    """A table of 4 MB that is gone before the rows' own memory exceeds it: small calls say nothing of large ones."""

    def net(x, t):
        torch.zeros(1_000_000)
        return x.repeat(1, 5000).sum(dim=1, keepdim=True).tanh() * x

    model = md.Denoiser(net, md.schedules.ddpm(), "sample", shape=(2,))
    result = md.sample(model, md.Euler(6), count=500, memory_limit=5e6)
    assert 4e6 < result.peak_memory < 8e6  # without a limit 20 MB; one step of doubling may go beyond the limit
    assert result.peak_rows < 200


def test_memory_is_measured_of_sparse_and_compiled_networks():
    table = torch.eye(2).to_sparse()
    compiled = []

    def backend(graph, inputs):
        compiled.append(len(inputs))
        return graph.forward

    net = torch.compile(lambda x, t: torch.tanh(x), backend=backend, fullgraph=True)
    for network, calls in ((lambda x, t: torch.sparse.mm(table, x.T).T, 0), (net, 1)):
        model = md.Denoiser(network, md.schedules.ddpm(), "sample", shape=(2,))
        before = md.sample(model, md.Euler(6), count=3, memory_limit=math.inf)
        assert before.peak_memory > 0
        after = md.sample(model, md.Euler(6), count=3)
        assert torch.allclose(before.samples, after.samples, atol=1e-6)
        assert len(compiled) == calls
