"""Rows of a round on several ranks: the same samples, each row once, nobody with more than its share."""

import os
import signal
import time

import pytest
import torch
from tests.fakes import F64, Counting, Small
from tests.ranks import answer_where_the_other_dies, run_ranks

import multidrift as md
from multidrift.distributed import Link, agree, joined, latency, measured_link, round_latency, spread

METHODS = [
    md.Picard(9),
    md.Picard(9, window=4, accelerate="secant"),
    md.Picard(9, coarse="a", coarse_every=2),
    md.Speculative(12, window=4, drafter="a"),
    md.Euler(5),
    md.PoissonMidpoint(4, substeps=3),
    md.Speculative(9, window=4, drafter="a+held"),
]


def ladder_of(mixture, ddpm):
    """Two levels that differ, so that ladder Picard has something to iterate on."""
    exact = mixture.denoiser(ddpm)
    near = md.Denoiser(lambda x, t: exact.net(x, t) * 0.9, ddpm, "sample", shape=(2,))
    return md.Ladder([near, exact], names=("a", "b"))


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_change_nothing(mixture, ddpm, method, ranks):
    model = ladder_of(mixture, ddpm)
    alone = md.sample(model, method, count=5, seed=2, **F64)

    def draw():
        with joined(30.0):
            return md.sample(model, method, count=5, seed=2, evaluate=spread() if ranks > 1 else None, **F64)

    results = run_ranks(ranks, draw)
    for result in results:
        assert torch.allclose(result.samples, alone.samples, atol=1e-10)
        assert torch.equal(result.samples, results[0].samples)
        assert result.rounds == alone.rounds
        assert result.peak_rows <= -(-alone.peak_rows // ranks)
    for level, calls in alone.calls.items():
        assert sum(result.calls[level] for result in results) == pytest.approx(calls, rel=0.1)


def test_a_batch_size_keeps_every_bit(ddpm):
    model = md.Denoiser(Small(), ddpm, clip=1.0, shape=(1, 8, 8))
    alone = md.sample(model, md.Picard(8), count=3, batch_size=4).samples

    def draw():
        with joined(30.0):
            return md.sample(model, md.Picard(8), count=3, batch_size=4, evaluate=spread()).samples

    assert all(torch.equal(samples, alone) for samples in run_ranks(2, draw))


def test_conditioning_goes_with_its_rows(ddpm):
    def net(x, t, label):
        return torch.tanh(x) * label[:, None]

    model = md.Denoiser(net, ddpm, "sample", shape=(2,))
    settings = {"count": 5, "conditioning": {"label": torch.arange(5) / 5}} | F64
    alone = md.sample(model, md.Picard(6), **settings).samples

    def draw():
        with joined(30.0):
            return md.sample(model, md.Picard(6), evaluate=spread(), **settings).samples

    assert all(torch.allclose(samples, alone, atol=1e-10) for samples in run_ranks(3, draw))


def test_ranks_may_hold_one_level(mixture, ddpm):
    whole = ladder_of(mixture, ddpm)
    method = md.Picard(9, coarse="a")
    alone = md.sample(whole, method, count=4, **F64).samples

    def draw():
        own = "a" if os.environ["RANK"] == "2" else "b"
        nets = {name: Counting(whole[name].net if name == own else absent) for name in whole.names}
        model = md.Ladder([md.Denoiser(nets[name], ddpm, "sample", name=name, shape=(2,)) for name in whole.names])
        with joined(30.0):
            evaluate = spread(holders={"a": [2], "b": [0, 1]})
            return md.sample(model, method, count=4, evaluate=evaluate, **F64).samples

    def absent(x, t):
        raise AssertionError

    for samples in run_ranks(3, draw):
        assert torch.allclose(samples, alone, atol=1e-10)


def test_a_rank_that_fails_takes_the_others_with_it(ddpm):
    def net(x, t):
        if os.environ["RANK"] == "1":
            raise RuntimeError("no such kernel")
        return 0.1 * x

    def draw():
        with joined(30.0):
            md.sample(md.Denoiser(net, ddpm, "sample", shape=(2,)), md.Picard(6), count=2, evaluate=spread())

    first, second = run_ranks(2, draw)
    assert first == "MultidriftError: evaluate: rank 1 failed in a call of model; its own error says why"
    assert "no such kernel" in second


def test_a_rank_that_dies_is_told_by_the_others(denoiser, ddpm):
    calls = []

    def net(x, t):
        calls.append(len(x))
        if os.environ["RANK"] == "1" and len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.1 * x

    def draw():
        with joined(20.0):
            md.sample(md.Denoiser(net, ddpm, "sample", shape=(2,)), md.Picard(6), count=2, evaluate=spread())

    answer = answer_where_the_other_dies(draw)
    assert answer.startswith("MultidriftError: ranks: another one is gone (")


def test_ranks_that_disagree(mixture, ddpm, denoiser):
    def draw():
        with joined(30.0) as world:
            method = md.Picard(6 + world.rank)
            md.sample(denoiser, method, count=2, evaluate=spread())

    for answer in run_ranks(2, draw):
        assert answer.startswith("MultidriftError: method: rank 1 has ")


def test_bad_settings(denoiser):
    with pytest.raises(md.MultidriftError, match="evaluate: got 'spread.*; it takes a process group"):
        md.sample(denoiser, md.Picard(6), evaluate=spread())
    with pytest.raises(md.MultidriftError, match="least: got 0"):
        spread(least=0)

    def draw():
        with joined(30.0):
            md.sample(denoiser, md.Picard(6), evaluate=spread(holders={"mixture": [2]}))

    assert all("holders: got {'mixture': (2,)}; it takes ranks 0 to 1" in answer for answer in run_ranks(2, draw))


def test_the_latency_of_a_round(denoiser):
    found = latency(denoiser, md.Picard(101, window=20), count=8, ranks=4, link=Link(1e-3, 1e6))
    assert (found.rows, found.rows_a_rank) == (160, 40)
    assert found.bytes_a_round == 3 * (40 * 2 + 1) * 4
    assert found.seconds_of_gather == pytest.approx(1e-3 + found.bytes_a_round / 1e6)
    assert found.gain(found.break_even) == pytest.approx(1.0)
    assert found.gain(100.0) == pytest.approx(4.0, rel=1e-3)
    assert "160 rows a round on 4 ranks: 40 a rank" in str(found)
    assert latency(denoiser, md.Euler(10), count=1, ranks=4).break_even == float("inf")
    assert latency(denoiser, md.Picard(11, blocks=3), count=2, ranks=1).rows == 8
    with pytest.raises(md.MultidriftError, match="rows: got 0"):
        round_latency(0, 4, 2)


def test_the_outlook_is_printed_and_the_link_measured(denoiser, capfd):
    def draw():
        with joined(30.0):
            link = measured_link()
            md.sample(denoiser, md.Picard(6), count=2, evaluate=spread(link=link, announce=True))
            agree({"same": 1})
            return link.latency > 0 < link.bandwidth

    started = time.monotonic()
    assert run_ranks(2, draw) == [True, True]
    assert capfd.readouterr().err.count("10 rows a round on 2 ranks: 5 a rank") == 1
    assert time.monotonic() - started < 30
