# ruff: noqa: E501 (tables)
"""Values of all kinds that a setting may be given: right, wrong, and wrong in ways that look right."""

import math

import numpy as np
import torch
from hypothesis import strategies as st

import multidrift as md

SCHEDULE = md.schedules.ddpm()
MIXTURE = md.GaussianMixture([1.0], [[0.0, 0.0]], [np.eye(2)])
LADDER = md.Ladder([MIXTURE.denoiser(SCHEDULE, name) for name in "ab"])
OBJECTS = [
    SCHEDULE, md.schedules.vp(), md.schedules.flow(), MIXTURE, MIXTURE.denoiser(SCHEDULE), MIXTURE.score, LADDER, md.Euler(3),
    md.Multilevel(3, calls=(3, 2)), md.Diffusion(SCHEDULE), md.Overdamped(1.0), md.Underdamped(1.0), md.Euler, object(), object,
]  # fmt: skip
TENSORS = [
    torch.zeros(()), torch.zeros(2), torch.zeros(2, 2), torch.zeros(3, 2), torch.zeros(0, 2), torch.full((2, 2), math.nan),
    torch.zeros(2, 2, dtype=torch.complex64), torch.zeros(2, 2, dtype=torch.int64), torch.eye(2).to_sparse(),
    torch.zeros(2, 2, device="meta"), np.zeros((2, 2)), np.zeros(()), np.float32(0.5), np.int64(2), np.True_,
    np.array(["a"]), np.array([None]), np.array([[math.inf, 1.0]]),
]  # fmt: skip
FUNCTIONS = [lambda *_: None, lambda: 1, lambda x, *_: x, lambda *_: 1 / 0, lambda *_: math.nan, print, len, float]
WORDS = [
    "", "a", "b", "ab", "data", "noise", "score", "ddpm", "blend", "logsnr", "karras", "epsilon", "sample", "linear", "systematic",
    "independent", "midpoint", "secant", "gaussian", "auto", "cpu", "cuda:7", "meta", "1", "nan", "time", "path", "law", "a\0b",
    "x" * 300, "../x", "1a",
]  # fmt: skip
# Small ones run in no time; large ones have to be refused by their size.
integers = st.one_of(
    st.integers(-3, 9), st.sampled_from([31, 2**31, 2**40, 10**12, 2**63 - 1, 2**63, 2**64, 2**70, -(2**70)])
)
reals = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, 1.5, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324, 1e-12]),
    st.floats(-10, 1000),
)
scalars = st.one_of(
    st.none(), st.booleans(), integers, reals, st.sampled_from(WORDS), st.text(max_size=5), st.just(b"a")
)
things = st.one_of(
    *(st.sampled_from(some) for some in (OBJECTS, TENSORS, FUNCTIONS)),
    st.sampled_from(
        [torch.float32, torch.float64, torch.float16, torch.device("cpu"), 1j, ..., {1, 2}, range(3), slice(1)]
    ),
)
values = st.recursive(
    st.one_of(scalars, things),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=3).map(tuple), st.dictionaries(scalars, inner, max_size=3)
    ),
    max_leaves=5,
)
numbers = st.one_of(integers, reals, st.booleans())
# What a JSON file may hold.
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, reals.filter(math.isfinite), st.sampled_from(WORDS)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)),
    max_leaves=5,
)
