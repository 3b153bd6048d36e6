"""Calls of the networks: counted, cut into batches and checked in one place."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.foreign import ForeignError
from multidrift.basics.numbers import Floats, plain
from multidrift.drifts.costs import part_of
from multidrift.drifts.drift import Bound, Drift
from multidrift.processes.predictions import Prediction
from multidrift.runs.memory import CallMemory

Here: TypeAlias = Callable[[Tensor, float | Floats, Tensor], Tensor]  # (x, t, rows) -> predictions, in this process


class Evaluate(Protocol):
    """Who evaluates the rows of a call; see `multidrift.distributed.spread`."""

    def begin(self, levels: Mapping[str, Drift], what: Mapping[str, object], start: Tensor) -> None:
        """Before a run of `what`, as plain values, from the states `start` [count, …]."""

    def __call__(self, here: Here, level: str, x: Tensor, t: float | Floats, rows: Tensor) -> Tensor:
        """The predictions of `level` for all rows of x, of which this process makes some or all by `here`."""


class Evaluator:
    """Evaluates levels on rows of states and counts what that cost.

    - `rows`, `batches`: rows passed to each network, and times each was invoked (a guided level passes two rows a
      sample); `rounds`: evaluations in a row; `peak_rows`: most rows of one invocation; `memory`: bytes of invocations,
      where there is a limit
    - `times`: those of the run's grid, by which an error of a network tells the step
    - `conditioning`, as `check_conditioning` lets it pass, is cut like the states
    - `evaluate`: who evaluates the rows of a call, by default this process all of them; rows are counted where they are
      evaluated

    With a `batch_size` every invocation has exactly that many states (the last is padded, padding is not counted), so
    that a row's result does not depend on how many others there are. With a `memory_limit` an invocation has as many as
    so many bytes allow: its first invocations double in size, and are measured, until they are at the limit.
    """

    def __init__(
        self,
        levels: Mapping[str, Drift],
        count: int,
        conditioning: Mapping[str, object],
        batch_size: int | None,
        memory_limit: float | None = None,
        evaluate: Evaluate | None = None,
        *,
        grad: bool,
        times: Floats | None = None,
    ) -> None:
        self.times = times
        self.levels, self.count, self.conditioning = levels, count, conditioning
        self.bound: dict[str, Bound] = {name: level.bind(conditioning, count) for name, level in levels.items()}
        self.batch_size, self.memory_limit, self.grad = batch_size, memory_limit, grad
        self.evaluate = evaluate
        self.rows: Counter[str] = Counter(dict.fromkeys(levels, 0))
        self.batches: Counter[str] = Counter(dict.fromkeys(levels, 0))
        self.rounds: Counter[str] = Counter(dict.fromkeys(levels, 0))
        self._peak_rows: Counter[str] = Counter()
        self._numbers: Tensor | None = None
        self.memory = {name: CallMemory() for name in levels}

    def of(self, levels: Mapping[str, Drift]) -> Evaluator:
        """The same for other drifts of the same networks and names, counted with these."""
        other = copy.copy(self)
        other.levels = levels
        other.bound = {name: level.bind(self.conditioning, self.count) for name, level in levels.items()}
        return other

    def __call__(
        self, level: str, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor | None = None
    ) -> Tensor:
        """The prediction `target` of `level` at states x [n, …] and time t (or times [n]), shaped like x.

        `rows`: which samples x holds, by default all of them in order.
        """
        self.rounds[level] += 1
        rows = self._first_rows(x) if rows is None else rows

        def here(x: Tensor, t: float | Floats, rows: Tensor) -> Tensor:
            return self._in_batches(level, x, t, target, rows)

        with torch.set_grad_enabled(self.grad):
            return here(x, t, rows) if self.evaluate is None else self.evaluate(here, level, x, t, rows)

    def _first_rows(self, x: Tensor) -> Tensor:
        """The numbers of the first samples, as many as x has rows."""
        count = x.shape[0]
        if self._numbers is None or self._numbers.shape[0] != count or self._numbers.device != x.device:
            self._numbers = torch.arange(count, device=x.device)
        return self._numbers

    def _in_batches(self, level: str, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        count, first = x.shape[0], 0
        parts: list[Tensor] = []
        while first < count:
            size = self._size(level, count - first)
            if size == count:
                return self._invoke(level, x, t, target, rows)
            cut = slice(first, first + size)
            parts.append(self._invoke(level, x[cut], t if isinstance(t, float) else t[cut], target, rows[cut]))
            first += size
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _size(self, level: str, left: int) -> int:
        """The rows of the next invocation, where so many are left."""
        if self.batch_size is not None:
            return self.batch_size
        part = part_of(self.levels[level], left)
        if self.memory_limit is None or self.memory_limit == math.inf:
            return part
        return self.memory[level].rows_within(self.memory_limit, part)

    def _invoke(self, level: str, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        count = x.shape[0]
        work = self.bound[level].work(t, count)
        for name, number in work:
            self.rows[name] += number
            self.batches[name] += 1
        given = self.batch_size or count  # rows of this call
        padding = given - count
        if padding:
            rows = torch.cat((rows, rows[-1:].expand(padding)))
            x = torch.cat((x, x[-1:].expand(padding, *x.shape[1:])))
            t = t if isinstance(t, float) else np.append(t, np.full(padding, t[-1]))
            work = self.bound[level].work(t, given)
        for name, number in work:
            self._peak_rows[name] = max(self._peak_rows[name], number)

        def call() -> Tensor:
            try:
                return self.bound[level].predict(x, t, target, rows)
            except ForeignError as error:
                if isinstance(error.__cause__, torch.OutOfMemoryError):
                    fewer = "a lower batch_size= or a memory_limit= takes fewer"
                    message = f"level {level}: out of memory on {given} rows at once; {fewer} ({error.__cause__})"
                    raise MultidriftError(message) from error.__cause__
                raise error.at(self._place(t)) from error.__cause__

        found = call() if self.memory_limit is None else self._measured(self.memory_limit, level, given, call)
        return found[:count] if padding else found

    def _measured(self, limit: float, level: str, rows: int, call: Callable[[], Tensor]) -> Tensor:
        """What a call on so many rows returns, if the least of calls is within the limit."""
        found = self.memory[level].measured(rows, call)
        least = self.batch_size or 1
        what = f"one evaluation of {level}" if least == 1 else f"the {least} rows of batch_size by {level}"
        needed = self.memory[level].bytes_of(least)
        require(needed <= limit, "memory_limit", limit, f"at least {needed:.0f} bytes, for {what}")
        return found

    def _place(self, t: float | Floats) -> str:
        """Where a run is at a time, or at the earliest of several, in words."""
        first = float(np.atleast_1d(t)[0])
        if self.times is None:
            return f"t = {first:g}"
        passed = self.times >= first if self.times[0] > self.times[-1] else self.times <= first
        return f"step {max(int(passed.sum()) - 1, 0)} (t = {first:g})"

    @property
    def peak_rows(self) -> int:
        """Most rows of one invocation."""
        return max(self._peak_rows.values(), default=0)

    @property
    def peak_memory(self) -> int | None:
        """Bytes that the largest invocation took, where a limit had them measured."""
        return None if self.memory_limit is None else max(memory.peak for memory in self.memory.values())

    @property
    def calls(self) -> dict[str, float]:
        """Rows passed to each level, per sample."""
        return {name: plain(rows / self.count) for name, rows in self.rows.items()}
