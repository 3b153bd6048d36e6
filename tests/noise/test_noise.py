"""The counter-based generator and the Brownian path built on it.

Statistical tests use fixed seeds; their bounds are at five standard errors (false alarm below 1e-6 each) unless stated.
"""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

import multidrift as md
from multidrift.noise import counter
from multidrift.noise.counter import Keys, Stream, mix_
from multidrift.noise.path import BrownianPath

CPU = torch.device("cpu")


def keys(count, seed=0, first=0, stream=Stream.NOISE):
    return Keys.of((seed,) * count, range(first, first + count), stream, CPU)


def path(process, count=5, shape=(3,), seed=0, first=0, dtype=torch.float64):
    return BrownianPath(process, keys(count, seed, first), shape, dtype)


def increment(p, low, high):
    """W(v(high)) − W(v(low)), in units of the step's own standard deviation at λ = 0."""
    return p.increment(low, high) * math.exp(0.5 * (p.clock.log_variance(low, high)))


# The generator ------------------------------------------------------------------------------------


def test_numpy_and_torch_draw_the_same_numbers(monkeypatch):
    """What a processor draws is what any other device does, to the last digits of cosines and logarithms."""
    drawn = [keys(3, seed=9).normals([0, -1, 2**40], (5, 7), torch.float32)]
    monkeypatch.setattr(counter, "_NUMPY", False)
    drawn.append(keys(3, seed=9).normals([0, -1, 2**40], (5, 7), torch.float32))
    assert torch.allclose(*drawn, atol=5e-6, rtol=0)
    each = keys(3, seed=9).normals_each(torch.tensor([2**40, 0, -1]), (5, 7), torch.float32)
    assert torch.equal(each, torch.stack([drawn[1][2, 0], drawn[1][0, 1], drawn[1][1, 2]]))


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_and_threads_change_no_bit(threads, monkeypatch):
    wanted = keys(5).normals(range(7), (3, 11), torch.float32)
    started, real = [], counter.ThreadPoolExecutor
    monkeypatch.setattr(counter, "ThreadPoolExecutor", lambda number: started.append(number) or real(number))
    monkeypatch.setattr(counter, "_BLOCK", 70)  # four streams of 17 words
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(keys(5).normals(range(7), (3, 11), torch.float32), wanted)
    assert started == ([3] if threads == 3 else [])


def test_mix_is_splitmix64():
    """The first outputs of splitmix64 seeded with 1234567, as published with the algorithm."""
    golden, state = 0x9E3779B97F4A7C15, 1234567
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    for index, value in enumerate(wanted):
        seeded = (state + index * golden) % 2**64
        bits = mix_(torch.tensor([seeded - 2**64 if seeded >> 63 else seeded]))
        assert int(bits) % 2**64 == value


@pytest.mark.parametrize("axis", ["seeds", "samples", "draws", "coordinates"])
def test_normals_pass_kolmogorov_smirnov_along_every_axis(axis):
    """20,000 values along one axis, the others fixed; p > 1e-6."""
    n = 20_000
    match axis:
        case "seeds":
            values = Keys.of(range(n), (0,) * n, Stream.NOISE, CPU).normals([3], (1,), torch.float64)
        case "samples":
            values = keys(n).normals([3], (1,), torch.float64)
        case "draws":
            values = keys(1).normals(range(n), (1,), torch.float64)
        case "coordinates":
            values = keys(1).normals([3], (n,), torch.float64)
    flat = values.flatten().numpy()
    assert len(flat) == n
    assert stats.kstest(flat, "norm").pvalue > 1e-6


def test_moments():
    flat = keys(64).normals(range(10), (1, 28, 28), torch.float64).flatten()
    n = len(flat)
    for power, wanted in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = math.sqrt(float(flat.pow(2 * power).mean()) / n)
        assert float(flat.pow(power).mean()) == pytest.approx(wanted, abs=5 * spread)


def test_neighbours_are_uncorrelated():
    """Seeds, samples, draws, coordinates and streams next to each other, and squares of values."""
    base = keys(100).normals(range(20), (500,), torch.float64)
    others = {
        "seed": keys(100, seed=1).normals(range(20), (500,), torch.float64),
        "sample": keys(100, first=1).normals(range(20), (500,), torch.float64),
        "draw": keys(100).normals(range(1, 21), (500,), torch.float64),
        "stream": keys(100, stream=Stream.START).normals(range(20), (500,), torch.float64),
        "coordinate": base.roll(1, -1),
        "pair": base.roll(250, -1),
    }
    n = base.numel()
    for name, other in others.items():
        assert abs(float((base * other).mean())) < 5 / math.sqrt(n), name
        assert abs(float((base**2 * other**2).mean()) - 1) < 5 * 8 / math.sqrt(n), name


def test_seed_and_stream_do_not_mix():
    """Seed s with stream 2 is not seed s + 1 with stream 1, nor the like for seed and sample."""
    a = keys(1, seed=0, stream=Stream.NOISE).normals([0], (4,), torch.float64)
    b = keys(1, seed=1, stream=Stream.START).normals([0], (4,), torch.float64)
    c = keys(1, seed=1, first=0).normals([0], (4,), torch.float64)
    d = keys(1, seed=0, first=1).normals([0], (4,), torch.float64)
    assert not torch.equal(a, b)
    assert not torch.equal(c, d)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_do_not_depend_on_the_batch(dtype):
    whole = keys(64).normals([5, 6], (1, 29, 29), dtype)
    for count, first in itertools.product((1, 2, 3, 7, 13, 33), (0, 5, 20)):
        assert torch.equal(
            keys(count, first=first).normals([5, 6], (1, 29, 29), dtype), whole[:, first : first + count]
        )
    assert torch.equal(keys(3).normals([6], (1, 29, 29), dtype)[0], whole[1, :3])


def test_single_precision_is_the_same_draw():
    single = keys(16).normals(range(20), (784,), torch.float32)
    assert torch.allclose(single.double(), keys(16).normals(range(20), (784,), torch.float64), atol=3e-5)


# The path -----------------------------------------------------------------------------------------

PROCESSES = {
    "data": md.Diffusion(md.schedules.ddpm(), 1.0),
    "half": md.Diffusion(md.schedules.cosine(), 0.5),
    "noise": md.Diffusion(md.schedules.edm(), 1.0, "noise"),
    "ddpm": md.Diffusion(md.schedules.ddpm(), 1.0, "ddpm"),
    "scaled": md.Diffusion(md.schedules.ddpm(), 1.0, noise_scale=lambda t: 1 + t / 1000),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_increments_add_up_in_any_order(name):
    """W(a,b) + W(b,c) = W(a,c), for points on and off the lattice, however they are asked for."""
    process = PROCESSES[name]
    points = [-4.7, -4.699, -3.0, -1.2345, 0.0, 0.0001, 0.00011, 2.0, 4.4]
    forward = path(process)
    parts = [increment(forward, a, b) for a, b in itertools.pairwise(points)]
    other = path(process)
    pairs = list(itertools.combinations(range(len(points)), 2))
    for k in np.random.default_rng(0).permutation(len(pairs)):
        i, j = pairs[k]
        whole = sum(parts[i:j])
        scale = math.exp(0.5 * process.log_variance(points[i], points[j]))
        assert torch.allclose(increment(other, points[i], points[j]) / scale, whole / scale, atol=1e-11)


def test_path_from_pure_noise():
    """From λ = −∞ (a start without signal) on, increments add up too."""
    process = md.Diffusion(md.schedules.flow(), 1.0)
    whole = increment(path(process), -math.inf, 1.5)
    p = path(process)
    assert torch.allclose(increment(p, -math.inf, -2.25) + increment(p, -2.25, 1.5), whole, atol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_increments_are_independent_standard_normals(name):
    """On a grid with steps from two cells to a thousand: the Brownian law, mean and covariance."""
    process = PROCESSES[name]
    low, high = (-4.0, 4.0)
    points = np.sort(np.concatenate([np.linspace(low, high, 7), [0.3, 0.302, 1.0001, 3.9]])).tolist()
    p = path(process, count=20_000, shape=(2,))
    values = torch.stack([p.increment(a, b) for a, b in itertools.pairwise(points)]).flatten(1)
    n = values.shape[1]
    covariance = values @ values.T / n
    bound = 5 * math.sqrt(2 / n)
    assert float((covariance - torch.eye(len(values))).abs().max()) < bound
    assert float(values.mean(dim=1).abs().max()) < 5 / math.sqrt(n)
    for row in values:
        assert stats.kstest(row.numpy(), "norm").pvalue > 1e-6


def test_bridge_law():
    """Given W(a) and W(c), W(b) has the bridge's variance about the interpolation on the clock v."""
    process = PROCESSES["data"]
    a, b, c = -1.0, 0.123, 0.9
    p = path(process, count=20_000, shape=(2,))
    left, right = increment(p, a, b).flatten(), increment(p, b, c).flatten()
    vl, vr = (math.exp(process.log_variance(*pair)) for pair in ((a, b), (b, c)))
    rest = left - vl / (vl + vr) * (left + right)
    assert float(rest.var()) == pytest.approx(vl * vr / (vl + vr), rel=5 * math.sqrt(2 / len(rest)))
    correlation = torch.corrcoef(torch.stack([rest, left + right]))[0, 1]
    assert abs(float(correlation)) < 5 / math.sqrt(len(rest))


def test_same_path_for_every_batch_and_grid():
    process = PROCESSES["data"]
    whole = path(process, count=64).increment(-3.3, 1.7)
    assert torch.equal(path(process, count=7, first=9).increment(-3.3, 1.7), whole[9:16])
    assert not torch.equal(path(process, count=64, seed=1).increment(-3.3, 1.7), whole)


def test_cost_of_reading_forward():
    """N queries over C cells take about N(2 + log2(C/N)) draws."""
    process = PROCESSES["data"]
    lattice = process.lattice
    for n in (10, 100, 1000):
        lam = process.schedule.log_snr(np.linspace(999, 0, n)).tolist()
        p = path(process, count=4, shape=(2,))
        for low, high in itertools.pairwise(lam):
            p.increment(low, high)
        cells = (lam[-1] - lam[0]) / lattice.cell
        assert p.draws < 1.1 * n * (2 + math.log2(cells / n)) + lattice.depth


MEASURE = """
import itertools, resource, numpy as np, torch, multidrift as md
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
process = md.Diffusion(md.schedules.ddpm())
lam = process.schedule.log_snr(np.linspace(999, 0, 12)).tolist()
def read(count, shape):
    keys = Keys.of((0,) * count, range(count), Stream.NOISE, torch.device("cpu"))
    path = BrownianPath(process, keys, shape, torch.float32)
    return [float(path.increment(low, high).std()) for low, high in itertools.pairwise(lam)]
read(1, (1,))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spreads = read(64, (3, 64, 64))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(max(abs(s - 1) for s in spreads + read(200_000, (2,))))
"""


def test_memory_is_a_few_states():
    """64 samples of 3×64×64 take under 400 MB more, in a process of their own; 200,000 samples of two numbers work."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=120)
    kilobytes, error = done.stdout.split()
    assert int(kilobytes) < 400_000
    assert float(error) < 5 / math.sqrt(2 * 400_000)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_path_on_a_gpu():
    process = PROCESSES["data"]
    gpu = Keys(keys(5).values.cuda())
    found = BrownianPath(process, gpu, (3,), torch.float64).increment(-3.3, 1.7)
    assert torch.allclose(found.cpu(), path(process).increment(-3.3, 1.7), atol=1e-12)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (-100.0, 0.0), (0.0, 100.0), (math.nan, 0.0)])
def test_bad_intervals(ends):
    with pytest.raises(md.MultidriftError, match="interval: got"):
        path(PROCESSES["data"]).increment(*ends)
