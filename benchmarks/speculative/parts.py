"""Speculative runs whose windows are verified a few steps at a time: what would be thrown away is not evaluated.

A round calls the top level on a whole window, and what lies behind the first refused step is lost. Verified step by
step, each verdict depends on its own step alone, so that rounds, samples and acceptances are the same where the window
is evaluated in parts and only as far as it is accepted. Calls are counted as the method makes them: whole windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

import multidrift as md
from multidrift.methods.picard.front import Indices
from multidrift.methods.speculative.chains import Verified

PART = 4  # steps


@dataclass
class Difference:
    """Rows and invocations of each level beyond those of whole windows; below 0 where there are fewer."""

    rows: Counter[str] = field(default_factory=Counter)
    invocations: Counter[str] = field(default_factory=Counter)

    def counted(self, result: md.Result) -> md.Result:
        """The result with the calls of whole windows."""
        count = len(result.samples)
        calls = {name: value - self.rows[name] / count for name, value in result.calls.items()}
        batches = {name: value - self.invocations[name] for name, value in result.batches.items()}
        return replace(result, calls=calls, batches=batches, rounds=batches[list(batches)[-1]])


@contextmanager
def in_parts() -> Iterator[Difference]:
    """Within it windows that are verified step by step are evaluated in parts."""
    found, whole = Difference(), Verified.round

    def round_of(chain: Verified, starts: Indices, ends: Indices) -> Indices:
        if chain.renewal is not None:
            return whole(chain, starts, ends)
        return _round(chain, starts, ends, found)

    Verified.round = round_of
    try:
        yield found
    finally:
        Verified.round = whole


def _round(chain: Verified, starts: Indices, ends: Indices, found: Difference) -> Indices:
    """`Verified.round`, part by part."""
    chain.below.extend(starts, ends)
    numbers = np.arange(chain.points.increments)[:, None]
    level = chain.source.level
    heads, going = starts.copy(), starts < ends
    for first in range(0, int((ends - starts).max()), PART):
        low = starts + first
        high = np.where(going, np.minimum(ends, low + PART), low)
        steps, rows = np.nonzero((numbers >= low) & (numbers < high))
        drift = chain._drift(steps, rows)  # noqa: SLF001  # the parts of its own round
        verdict = chain._verdict(steps, rows, starts, drift)  # noqa: SLF001
        refused = np.zeros((chain.points.increments, chain.points.count), dtype=np.bool_)
        refused[steps, rows] = ~verdict.accepted.cpu().numpy()
        some = refused.any(axis=0)
        heads = np.where(going, np.where(some, refused.argmax(axis=0) + 1, high), heads)
        chain._keep(verdict, steps, rows, drift, np.where(going, heads, 0))  # noqa: SLF001
        found.rows[level] += len(steps)
        found.invocations[level] += 1
        going = going & ~some & (heads < ends)
        if not going.any():
            break
    found.rows[level] -= int((ends - starts).sum())
    found.invocations[level] -= int((starts < ends).any())
    return heads
