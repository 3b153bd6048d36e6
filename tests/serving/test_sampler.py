"""Requests that share runs: each answered as by a run of its own; bounded, cancelled and failed ones told so."""

import threading
import time
from concurrent.futures import CancelledError, wait

import pytest
import torch
from tests.fakes import Counting

import multidrift as md

METHODS = (md.Euler(4), md.Multistep(5), md.PoissonMidpoint(4, substeps=3), md.Picard(6))


class Gate:
    """A network that waits until it is opened, so that a test knows what is queued behind it."""

    def __init__(self, net):
        self.net, self.open, self.entered, self.rows = net, threading.Event(), threading.Event(), []

    def __call__(self, x, t, **conditioning):
        self.rows.append(len(x))
        self.entered.set()
        assert self.open.wait(20)
        return self.net(x, t, **conditioning)


@pytest.fixture
def gate(mixture, ddpm):
    return Gate(mixture.denoiser(ddpm).net)


@pytest.fixture
def gated(gate, ddpm):
    """A sampler whose thread is in its first run, of the request `gated.before`."""
    with md.Sampler(md.Denoiser(gate, ddpm, "sample", shape=(2,)), md.Euler(3), max_rows=8, max_waiting=12) as sampler:
        sampler.before = sampler.submit(0)
        assert gate.entered.wait(20)
        yield sampler
        gate.open.set()


def test_every_answer_is_that_of_its_own_run(denoiser):
    asked = [(seed % 7, 1 + seed % 5, METHODS[seed % 4], seed % 3) for seed in range(60)]
    with md.Sampler(denoiser, METHODS[0], max_rows=16) as sampler:
        answers = [sampler.submit(seed, count, first, method=method) for seed, count, method, first in asked]
        wait(answers, timeout=60)
    for (seed, count, method, first), answer in zip(asked, answers, strict=True):
        own = md.sample(denoiser, method, seed=seed, count=count, first=first).samples
        assert torch.allclose(answer.result(), own, atol=1e-4)


def test_many_threads_share_runs(mixture, ddpm):
    net = Counting(mixture.denoiser(ddpm).net)
    model = md.Denoiser(net, ddpm, "sample", shape=(2,))
    found = {}
    with md.Sampler(model, md.Euler(3), wait=0.2, batch_size=16) as sampler:
        threads = [
            threading.Thread(target=lambda seed=seed: found.update({seed: sampler.sample(seed)})) for seed in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(net.rows) < 12 * 3
    for seed, samples in found.items():
        assert torch.equal(samples, md.sample(model, md.Euler(3), seed=seed, count=1, batch_size=16).samples)


def test_conditioning_is_joined_where_it_fits(ddpm):
    def net(x, t, label, scale, style):
        seen.append((len(x), style))
        return torch.tanh(x) * scale + label[:, None]

    seen = []
    model = md.Denoiser(net, ddpm, "sample", shape=(2,))
    asked = [
        (n, {"label": torch.arange(n) / 4, "scale": scale, "style": style})
        for n, scale, style in ((2, 0.5, "a"), (1, 0.5, "a"), (3, 0.7, "a"), (1, 0.5, "b"))
    ]
    with md.Sampler(model, md.Euler(3), wait=0.2) as sampler:
        answers = [sampler.submit(5, n, conditioning=given) for n, given in asked]
        wait(answers, timeout=30)
    assert seen[0] == (3, "a")
    for (n, given), answer in zip(asked, answers, strict=True):
        own = md.sample(model, md.Euler(3), seed=5, count=n, conditioning=given).samples
        assert torch.allclose(answer.result(), own, atol=1e-4)


def test_the_queue_and_a_run_are_bounded(gate, gated):
    answers = [gated.submit(seed, 4) for seed in range(3)]
    assert gated.waiting == 12
    with pytest.raises(md.QueueFull, match="12 samples wait already; it takes at most 12"):
        gated.submit(9)
    answers[1].cancel()
    answers.append(gated.submit(9, 2))
    gate.open.set()
    assert [len(answer.result(20)) for answer in (answers[0], answers[2], answers[3])] == [4, 4, 2]
    assert max(gate.rows) == 8


def test_requests_are_taken_back_while_they_wait_and_while_they_run(gate, gated):
    waiting = gated.submit(1)
    assert waiting.cancel()
    assert gated.before.cancel()
    gate.open.set()
    assert len(gated.submit(2).result(20)) == 1
    for answer in (waiting, gated.before):
        with pytest.raises(CancelledError):
            answer.result()
    assert len(gate.rows) == 1 + 3  # the run that nobody waits for was stopped after its first call


def test_closing_answers_everybody(gate, ddpm):
    sampler = md.Sampler(md.Denoiser(gate, ddpm, "sample", shape=(2,)), md.Euler(3))
    running = sampler.submit(0)
    assert gate.entered.wait(20)
    waiting = sampler.submit(1)
    closing = threading.Thread(target=sampler.close)
    closing.start()
    while not sampler._closed:
        time.sleep(0.001)
    gate.open.set()
    closing.join(20)
    for answer, told in ((running, "was closed while this was drawn"), (waiting, "was closed before this was drawn")):
        with pytest.raises(md.MultidriftError, match=told):
            answer.result(20)
    with pytest.raises(md.MultidriftError, match="sampler: is closed"):
        sampler.submit(2)


def test_a_failure_is_its_own_requests_alone(ddpm):
    def net(x, t, label):
        return torch.where(label[:, None] == 3, torch.nan, torch.tanh(x))

    with md.Sampler(md.Denoiser(net, ddpm, "sample", shape=(2,)), md.Euler(3), wait=0.2) as sampler:
        answers = [sampler.submit(n, conditioning={"label": torch.tensor([n])}) for n in range(5)]
        with pytest.raises(md.MultidriftError, match="not finite"):
            answers[3].result(20)
        assert all(len(answer.result(20)) == 1 for n, answer in enumerate(answers) if n != 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count: got 0"),
        ({"count": 65}, "count: got 65; it takes at most max_rows=64"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"first": -1}, "first: got -1"),
        ({"method": "euler"}, "method: got 'euler'"),
        ({"conditioning": {"label": torch.zeros(3, 2)}, "count": 2}, r"conditioning\['label'\]: got first dimension 3"),
    ],
)
def test_bad_requests(denoiser, settings, message):
    with md.Sampler(denoiser, md.Euler(3)) as sampler, pytest.raises(md.MultidriftError, match=f"^{message}"):
        sampler.submit(**({"seed": 0} | settings))


@pytest.mark.parametrize(("name", "value"), [("max_rows", 0), ("max_waiting", 0), ("wait", -1), ("batch_size", 0)])
def test_bad_settings(denoiser, name, value):
    with pytest.raises(md.MultidriftError, match=f"^{name}: got {value}"):
        md.Sampler(denoiser, md.Euler(3), **{name: value})
