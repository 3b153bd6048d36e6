"""Notices values that are not finite, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats, largest_of_each

_READ_EVERY = 50  # steps between looks at the record of non-finite values: a look waits for the device

Steps = NDArray[np.intp]


@dataclass(frozen=True)
class _Look:
    """One call's largest values [n], the bound they should keep to, and which steps and samples the rows are."""

    step: int | Steps
    what: str
    sizes: Tensor
    bound: float
    rows: Tensor | None

    @property
    def good(self) -> Tensor:
        return self.sizes <= self.bound  # false where one is nan

    def first_bad(self) -> tuple[int, int]:
        """The earliest step, and of it the first sample, that went wrong in this call."""
        bad = np.flatnonzero(~self.good.cpu().numpy())
        steps = np.full(len(bad), self.step) if isinstance(self.step, int) else self.step[bad]
        samples = bad if self.rows is None else self.rows.cpu().numpy()[bad]
        return min(zip(steps.tolist(), samples.tolist(), strict=True))


class FiniteGuard:
    """Notices values that are not finite without waiting for the device at every step.

    - `names`: what to call each sample in an error; `largest`: absolute value above which a state has exploded
    """

    def __init__(self, names: Sequence[str], times: Floats, largest: float | None = None) -> None:
        self.names, self.times, self.largest = names, times, largest
        self._looks: list[_Look] = []  # those since the last time they were read
        self._steps = 0  # that were looked at so far

    def watch(self, step: int | Steps, level: str, values: Tensor, rows: Tensor | None = None) -> None:
        """Record which samples (`rows`; None: all) went wrong in this call; raise at the first call and every 50.

        `step`: that of all rows, or one a row.
        """
        what = f"{level}: the prediction is not finite"
        self._look(_Look(step, what, largest_of_each(values), torch.finfo(values.dtype).max, rows))

    def watch_state(self, step: int, states: Tensor) -> None:
        """Record which states grew beyond any use; they are looked at as predictions are."""
        if self.largest is not None:
            self._look(_Look(step, "the state exploded", largest_of_each(states), self.largest, None))

    def _look(self, look: _Look) -> None:
        self._looks.append(look)
        before = self._steps
        self._steps += 1 if isinstance(look.step, int) else len(np.unique(look.step))
        if -(-before // _READ_EVERY) < -(-self._steps // _READ_EVERY):  # at the first look and every 50
            self.read()

    def read(self) -> None:
        """Raise if any sample went wrong so far, naming the first bad call's level, step and sample."""
        looks, self._looks = self._looks, []
        if not looks or bool(torch.cat([look.good for look in looks]).all()):
            return
        look = next(look for look in looks if not bool(look.good.all()))
        step, sample = look.first_bad()
        raise MultidriftError(f"{look.what} at step {step} (t = {self.times[step]:g}) for {self.names[sample]}")
