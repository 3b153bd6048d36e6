"""Notices values that are not finite, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats

_READ_EVERY = 50  # calls between looks at the record of non-finite values: a look waits for the device

_NEVER = 2**62
Steps = NDArray[np.intp]


class FiniteGuard:
    """Notices values that are not finite without waiting for the device at every step.

    - `names`: what to call each sample in an error; `largest`: absolute value above which a state has exploded
    """

    def __init__(self, names: Sequence[str], times: Floats, largest: float | None = None) -> None:
        self.names, self.times, self.largest = names, times, largest
        self._first_bad: Tensor | None = None  # per sample, the number of the first call with a bad value
        self._calls: list[tuple[int, str]] = []  # step of every look, and what is wrong if it failed

    def watch(self, step: int | Steps, level: str, values: Tensor, rows: Tensor | None = None) -> None:
        """Record which samples (`rows`; None: all) went wrong in this call; raise at the first call and every 50.

        `step`: that of all rows, or one a row.
        """
        good = torch.isfinite(values.detach()).flatten(1).all(dim=1)
        self._mark(step, f"{level}: the prediction is not finite", good, rows)

    def watch_state(self, step: int, states: Tensor) -> None:
        """Record which states grew beyond any use; they are looked at as predictions are."""
        if self.largest is not None:
            sizes = states.detach().abs().flatten(1).amax(dim=1)
            self._mark(step, "the state exploded", sizes <= self.largest, None)  # also false where it is nan

    def _mark(self, step: int | Steps, what: str, good: Tensor, rows: Tensor | None) -> None:
        if self._first_bad is None:
            self._first_bad = torch.full((len(self.names),), _NEVER, device=good.device)
        before = len(self._calls)
        number: int | Tensor = before
        if isinstance(step, int):
            self._calls.append((step, what))
        else:  # a look for each of the steps, in their order
            several, place = np.unique(step, return_inverse=True)
            self._calls += [(int(one), what) for one in several]
            number = torch.from_numpy(place).to(good.device) + before
        now = torch.where(good, _NEVER, number)
        if rows is None:
            self._first_bad = torch.minimum(self._first_bad, now)
        else:  # a sample may have several rows
            self._first_bad = self._first_bad.scatter_reduce(0, rows, now, "amin")
        if -(-before // _READ_EVERY) < -(-len(self._calls) // _READ_EVERY):  # at the first look and every 50
            self.read()

    def read(self) -> None:
        """Raise if any sample went wrong so far, naming the first bad call's level, step and sample."""
        if self._first_bad is None:
            return
        call, row = torch.min(self._first_bad, dim=0)
        if int(call) < _NEVER:
            step, what = self._calls[int(call)]
            raise MultidriftError(f"{what} at step {step} (t = {self.times[step]:g}) for {self.names[int(row)]}")
