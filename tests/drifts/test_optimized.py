"""Faster calls of a network give the same predictions."""

import pytest
import torch
from tests.fakes import F64, Small

import multidrift as md
from multidrift.drifts import costs

SCHEDULE = md.schedules.ddpm()


def denoiser(seed=0, name="model"):
    return md.Denoiser(Small(seed=seed).double(), SCHEDULE, name=name, shape=(1, 4, 4))


def samples(model, **given):
    return md.sample(model, md.Euler(4), count=5, **F64, **given)


def test_channels_last():
    plain, fast = denoiser(), denoiser().optimized(channels_last=True)
    seen = []
    fast.net.conv.register_forward_pre_hook(lambda _, x: seen.append(x[0].stride(1) == 1))
    assert torch.allclose(samples(fast).samples, samples(plain).samples, atol=1e-10)
    assert samples(fast).samples.is_contiguous()
    assert all(seen)
    assert fast.net.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert fast.fingerprint == plain.fingerprint


class Compiled(torch.nn.Module):
    """What `torch.compile` makes of a module: another one around it, which has no length."""

    def __init__(self, inner, mode):
        super().__init__()
        self._orig_mod, self.mode, self.calls = inner, mode, 0

    def forward(self, x, t):
        self.calls += 1
        return self._orig_mod(x, t)

    def __len__(self):
        raise TypeError(type(self).__name__)


def test_compiled(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "compile", lambda net, mode: made.append(Compiled(net, mode)) or made[-1])
    plain, fast = denoiser(), denoiser().optimized(compiled=True)
    assert torch.equal(samples(fast).samples, samples(plain).samples)
    assert (made[0].mode, made[0].calls) == (None, 4)
    assert fast.fingerprint == plain.fingerprint
    assert fast.modules == (fast.net,)
    ladder = md.Ladder([denoiser(name="a"), denoiser(1, "b")]).optimized(compiled="reduce-overhead", levels="b")
    assert ladder["a"]._called is None
    assert (ladder["b"]._called, made[1].mode) == (made[1], "reduce-overhead")


def test_rows():
    """A call takes at most so many states, evenly many; counts and samples stay."""
    plain, parts = denoiser(), denoiser().optimized(rows=3)
    found, wanted = samples(parts), samples(plain)
    assert torch.allclose(found.samples, wanted.samples, atol=1e-10)
    assert {shape[0] for shape, _ in parts.net.seen} == {3, 2}
    assert (found.calls, found.batches, found.peak_rows) == (wanted.calls, {"model": 8}, 3)
    assert samples(parts, batch_size=5).peak_rows == 5
    assert [costs.part_of(parts, left) for left in (1, 3, 4, 7)] == [1, 3, 2, 3]


def test_settings_stay_with_a_level():
    fast = denoiser().optimized(rows=2, channels_last=True)
    for level in (fast.renamed("other"), fast.guided(2.0, {}, {}), fast.optimized(rows=7).optimized(rows=2)):
        assert level.rows == 2
        assert level._channels_last
    moved = fast.on(md.schedules.vp())
    assert (moved.rows, moved.inner._channels_last) == (2, True)
    assert moved.optimized(rows=4).rows == 4
    gradient = md.LangevinDrift(torch.neg, shape=(2,)).optimized(rows=2)
    assert md.Ladder([gradient], names=["g"])["g"].rows == 2


def test_measured_finds_the_fastest_parts(monkeypatch):
    """By a clock that takes two seconds a row in calls of more than 16 rows, and one in others."""

    def clock(levels, shape, batch, repeats, device):
        del shape, device
        times = {name: batch * (1.0 if costs.part_of(level, batch) <= 16 else 2.0) for name, level in levels.items()}
        return {name: [seconds] * repeats for name, seconds in times.items()}, torch.device("cpu")

    monkeypatch.setattr(costs, "time_calls", clock)
    ladder = md.Ladder([denoiser(name="a"), denoiser(1, "b")])
    found = ladder.measured(batch=64)
    assert [level.rows for level in found] == [16, 16]
    assert dict(found.costs.seconds) == {"a": 64.0, "b": 64.0}
    assert [level.rows for level in ladder.measured(batch=16)] == [None, None]
    assert [level.rows for level in ladder] == [None, None]


@pytest.mark.parametrize(
    ("given", "named"),
    [({"compiled": "fast"}, "compiled"), ({"channels_last": 1}, "channels_last"), ({"rows": 0}, "rows")],
)
def test_wrong_settings(given, named):
    with pytest.raises(md.MultidriftError, match=f"^{named}: got"):
        denoiser().optimized(**given)
