"""Random numbers without state: every normal is a hash of (seed, stream, sample, draw, coordinate).

Integer tensor operations alone make the bits (the finaliser of splitmix64, Steele et al. 2014), so they are
equal on every device, in any order and at any batch size; Box-Muller turns each 64 bits into two normals.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.numbers import moved

_SEEDS = "an integer from −2⁶³ to 2⁶⁴ − 1"
_NEGATIVE = 1 << 32  # beside the streams' numbers: seed −1 must not be seed 2⁶⁴ − 1, which has the same bits


class Stream(IntEnum):
    """Separate sources of randomness of one sample."""

    START = 1
    NOISE = 2
    VELOCITY = 3
    DRAWS = 4
    VERIFICATION = 5


def _signed(value: int) -> int:
    """The two's complement of 64 bits that torch's int64 holds."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_ALL = (1 << 64) - 1
_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _xor_shift_(bits: Tensor, by: int) -> Tensor:
    # torch shifts int64 with its sign; the mask makes the shift logical.
    return bits.bitwise_xor_((bits >> by).bitwise_and_((1 << (64 - by)) - 1))


def mix_(bits: Tensor) -> Tensor:
    """Scramble int64 `bits` in place; a bijection whose outputs look independent for consecutive inputs."""
    bits.add_(_GOLDEN)
    _xor_shift_(bits, 30).mul_(_FIRST)
    _xor_shift_(bits, 27).mul_(_SECOND)
    return _xor_shift_(bits, 31)


def check_seed(name: str, seed: int) -> None:
    """Raise unless a seed is in the range where different ones give different samples."""
    require(-(1 << 63) <= seed < 1 << 64, name, seed, _SEEDS)


@dataclass(frozen=True)
class Keys:
    """One 64-bit key a sample, for one stream: int64 [n] on the device of the run."""

    values: Tensor

    @staticmethod
    def of(seeds: Sequence[int], samples: Sequence[int], stream: Stream, device: torch.device) -> Keys:
        """The keys of samples `samples[i]` under seeds `seeds[i]`."""
        values = torch.tensor([_signed(seed) for seed in seeds], dtype=torch.int64)
        streams = torch.tensor([int(stream) + (_NEGATIVE if seed < 0 else 0) for seed in seeds], dtype=torch.int64)
        mix_(mix_(values).add_(streams))  # seed s with stream 2 must not be seed s+1 with stream 1
        mix_(values.add_(torch.tensor([_signed(sample) for sample in samples], dtype=torch.int64)))
        return Keys(values.to(device))

    def __getitem__(self, rows: Tensor) -> Keys:
        """The keys of these rows."""
        return Keys(self.values[rows])

    def normals(self, draws: Sequence[int], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Standard normals [len(draws), n, *shape]; each depends on its key, its draw and its coordinate alone."""
        # Mixed on the host: a few numbers take less time there than launches on a device, and cross over once.
        mixed = _mixed(np.array([draw & _ALL for draw in draws], dtype=np.uint64)).view(np.int64)
        return self._normals(moved(mixed, self.values.device)[:, None], shape, dtype)

    def normals_each(self, draws: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Standard normals [n, *shape] of one draw a key, `draws` int64 [n]: those that `normals` gives for it."""
        return self._normals(mix_(draws.clone()), shape, dtype)

    def uniforms(self, draw: int) -> Tensor:
        """Uniforms in (0, 1), float64 [n]; each depends on its key and the draw alone."""
        return self.uniforms_each(torch.tensor([_signed(draw)], dtype=torch.int64, device=self.values.device))

    def uniforms_each(self, draws: Tensor) -> Tensor:
        """Uniforms [n] of one draw a key, `draws` int64 [n]: those that `uniforms` gives for it."""
        bits = mix_(self.values + mix_(draws.clone()))
        return (bits >> 11).bitwise_and_((1 << 53) - 1).double().add_(0.5).mul_(2.0**-53)

    def _normals(self, mixed: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        count = math.prod(shape)
        streams = mix_(self.values + mixed)
        if _NUMPY and streams.is_cpu and dtype == torch.float32:
            both = _on_host(streams, (count + 1) // 2)
        else:
            step = torch.arange((count + 1) // 2, dtype=torch.int64, device=streams.device).mul_(_GOLDEN)
            both = _box_muller(mix_(streams[..., None] + step), dtype)
        return both[..., :count].reshape(*streams.shape, *shape)


def _box_muller(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Two normals from the two halves of each 64 bits, laid one half after the other on the last axis."""
    angle = (bits >> 32).to(dtype).mul_(2.0 * math.pi * 2.0**-32)
    radius = bits.bitwise_and_(0xFFFFFFFF).to(dtype).add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    return torch.cat((torch.cos(angle).mul_(radius), torch.sin(angle).mul_(radius)), dim=-1)


# On a processor numpy does the same in less time: its shifts of unsigned numbers need no mask, and its logarithm and
# cosine of float32 are faster. The halves of 64 bits lie there as little-endian machines keep them.
_NUMPY = sys.byteorder == "little"
_STEPS = ((30, _FIRST), (27, _SECOND))
_BLOCK = 1 << 17  # words scrambled at once, a millisecond: of fewer, threads spend much of it waiting for each other


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`mix_` of numpy's words, in place."""
    words += np.uint64(_GOLDEN & _ALL)
    shifted = np.empty_like(words)
    for by, factor in _STEPS:
        np.right_shift(words, np.uint64(by), out=shifted)
        words ^= shifted
        words *= np.uint64(factor & _ALL)
    np.right_shift(words, np.uint64(31), out=shifted)
    words ^= shifted
    return words


def _on_host(streams: Tensor, words: int) -> Tensor:
    """The normals [*streams.shape, 2 words], float32, by blocks of streams on as many threads as torch may use."""
    first: NDArray[np.uint64] = streams.numpy().view(np.uint64).reshape(-1, 1)
    step = np.arange(words, dtype=np.uint64) * np.uint64(_GOLDEN & _ALL)
    both: NDArray[np.float32] = np.empty((len(first), 2, words), np.float32)
    rows = max(1, _BLOCK // max(1, words))
    blocks = range(0, len(first), rows)

    def fill(row: int) -> None:
        _box_muller_of(first[row : row + rows] + step, both[row : row + rows])

    threads = min(torch.get_num_threads(), len(blocks))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, blocks))
    else:
        for block in blocks:
            fill(block)
    return torch.from_numpy(both.reshape(*streams.shape, -1))


def _box_muller_of(words: NDArray[np.uint64], both: NDArray[np.float32]) -> None:
    """`_box_muller`, up to the last digit, of words [rows, words], scrambled in place: `both` [rows, 2, words]."""
    halves = _mixed(words).view(np.uint32)
    radius, high = _radius(halves[..., 0::2].astype(np.float32)), halves[..., 1::2].astype(np.float32)
    high *= np.float32(2.0 * math.pi * 2.0**-32)
    for part, wave in enumerate((np.cos, np.sin)):
        wave(high, out=both[:, part])
        both[:, part] *= radius


def _radius(uniforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """√(−2 log u), in place, of u from 32 bits."""
    uniforms += np.float32(0.5)
    uniforms *= np.float32(2.0**-32)
    np.log(uniforms, out=uniforms)
    uniforms *= np.float32(-2.0)
    return np.sqrt(uniforms, out=uniforms)
