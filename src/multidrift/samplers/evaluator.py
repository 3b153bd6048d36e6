"""Calls of the networks: counted, cut into batches and checked in one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.drifts.denoiser import Denoiser
from multidrift.processes.errors import MultidriftError
from multidrift.processes.predictions import Prediction
from multidrift.samplers.method import plain

Floats = NDArray[np.float64]
_READ_EVERY = 50  # calls between looks at the record of non-finite values: a look waits for the device
_NEVER = 2**62


class Evaluator:
    """Evaluates levels on rows of states and counts what that cost.

    - `rows`, `batches`: rows passed to each level, and times each was invoked; `rounds`: evaluations in a row
    - conditioning tensors with one entry a sample are cut like the states; other values are passed as they are

    With a `batch_size` every invocation has exactly that many rows (the last is padded, padding is not counted), so
    that a row's result does not depend on how many others there are.
    """

    def __init__(
        self,
        levels: Mapping[str, Denoiser],
        count: int,
        conditioning: Mapping[str, object],
        batch_size: int | None,
        *,
        grad: bool,
    ) -> None:
        self.levels, self.count, self.conditioning = levels, count, conditioning
        self.batch_size, self.grad = batch_size, grad
        self.rows: Counter[str] = Counter(dict.fromkeys(levels, 0))
        self.batches: Counter[str] = Counter(dict.fromkeys(levels, 0))
        self.rounds: Counter[str] = Counter(dict.fromkeys(levels, 0))

    def __call__(self, level: str, x: Tensor, t: float, target: Prediction, rows: Tensor | None = None) -> Tensor:
        """The prediction `target` of `level` at states x and time t, shaped like x; `rows`: which samples x holds."""
        self.rounds[level] += 1
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        size = self.batch_size or len(x)
        with torch.set_grad_enabled(self.grad):
            parts = [
                self._invoke(level, x[i : i + size], t, target, rows[i : i + size], size)
                for i in range(0, len(x), size)
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _invoke(self, level: str, x: Tensor, t: float, target: Prediction, rows: Tensor, size: int) -> Tensor:
        self.rows[level] += len(x)
        self.batches[level] += 1
        padding = size - len(x)
        if padding:
            rows = torch.cat((rows, rows[-1:].expand(padding)))
            x = torch.cat((x, x[-1:].expand(padding, *x.shape[1:])))
        conditioning = {name: self._cut(value, rows) for name, value in self.conditioning.items()}
        prediction = self.levels[level].predict(x, t, target, conditioning)
        return prediction[: len(x) - padding]

    def _cut(self, value: object, rows: Tensor) -> object:
        """The rows of a tensor with one entry a sample; any other value as it is."""
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == self.count:
            return value[rows]
        return value

    @property
    def calls(self) -> dict[str, float]:
        """Rows passed to each level, per sample."""
        return {name: plain(rows / self.count) for name, rows in self.rows.items()}


class FiniteGuard:
    """Notices values that are not finite without waiting for the device at every step.

    `names` says what to call each sample in an error.
    """

    def __init__(self, names: Sequence[str], times: Floats) -> None:
        self.names, self.times = names, times
        self._first_bad: Tensor | None = None  # per sample, the number of the first call with a bad value
        self._calls: list[tuple[int, str]] = []  # step and level of every call

    def watch(self, step: int, level: str, values: Tensor, rows: Tensor | None = None) -> None:
        """Record which samples (`rows`; None: all) went wrong in this call; raise at the first call and every 50."""
        if self._first_bad is None:
            self._first_bad = torch.full((len(self.names),), _NEVER, device=values.device)
        good = torch.isfinite(values.detach()).flatten(1).all(dim=1)
        before = self._first_bad if rows is None else self._first_bad[rows]
        after = torch.where(good, before, before.clamp(max=len(self._calls)))
        self._first_bad = after if rows is None else self._first_bad.index_copy(0, rows, after)
        self._calls.append((step, level))
        if len(self._calls) % _READ_EVERY == 1:
            self.read()

    def read(self) -> None:
        """Raise if any sample went wrong so far, naming the first bad call's level, step and sample."""
        if self._first_bad is None:
            return
        call, row = torch.min(self._first_bad, dim=0)
        if int(call) < _NEVER:
            step, level = self._calls[int(call)]
            raise MultidriftError(
                f"{level}: the prediction is not finite at step {step} (t = {self.times[step]:g}) "
                f"for {self.names[int(row)]}"
            )
