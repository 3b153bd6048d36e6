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

Floats = NDArray[np.float64]
_READ_EVERY = 50  # steps between looks at the record of non-finite values: a look waits for the device


class Evaluator:
    """Evaluates levels on rows of states and counts what that cost.

    - `rows`, `batches`: rows passed to each level, and times each was invoked
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

    def __call__(self, level: str, x: Tensor, t: float, target: Prediction) -> Tensor:
        """The prediction `target` of `level` at states x [count, …] and time t, shaped like x."""
        with torch.set_grad_enabled(self.grad):
            size = self.batch_size or len(x)
            parts = [self._invoke(level, x[i : i + size], t, target, i, size) for i in range(0, len(x), size)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _invoke(self, level: str, x: Tensor, t: float, target: Prediction, first: int, size: int) -> Tensor:
        self.rows[level] += len(x)
        self.batches[level] += 1
        rows = torch.arange(first, first + len(x), device=x.device)
        padding = size - len(x)
        if padding:
            rows = torch.cat((rows, rows[-1:].expand(padding)))
            x = torch.cat((x, x[-1:].expand(padding, *x.shape[1:])))
        conditioning = {name: self._cut(value, rows) for name, value in self.conditioning.items()}
        prediction = self.levels[level].predict(x, np.full(len(x), t), target, conditioning)
        return prediction[: len(x) - padding]

    def _cut(self, value: object, rows: Tensor) -> object:
        """The rows of a tensor with one entry a sample; any other value as it is."""
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == self.count and len(rows) != self.count:
            return value[rows]
        return value

    @property
    def calls(self) -> dict[str, float]:
        """Rows passed to each level, per sample."""
        return {name: _plain(rows / self.count) for name, rows in self.rows.items()}


def _plain(number: float) -> float:
    """An int where the number is whole: calls of a shared plan are counts."""
    return int(number) if number == int(number) else number


class FiniteGuard:
    """Notices values that are not finite without waiting for the device at every step."""

    def __init__(self, samples: Sequence[int], times: Floats) -> None:
        self.samples, self.times = samples, times
        self._first_bad: Tensor | None = None  # per sample the first step with a bad value, or the number of steps
        self._watched = 0

    def watch(self, step: int, level: str, values: Tensor) -> None:
        """Record which samples went wrong at this step; raise at the first call and every 50 steps."""
        none = torch.full((len(values),), len(self.times), device=values.device)
        good = torch.isfinite(values.detach()).flatten(1).all(dim=1)
        bad = torch.where(good, none, torch.full_like(none, step))
        self._first_bad = bad if self._first_bad is None else torch.minimum(self._first_bad, bad)
        if self._watched % _READ_EVERY == 0:
            self.read(level)
        self._watched += 1

    def read(self, level: str) -> None:
        """Raise if any sample went wrong so far."""
        if self._first_bad is None:
            return
        step, row = torch.min(self._first_bad, dim=0)
        first = int(step)
        if first < len(self.times):
            raise MultidriftError(
                f"{level}: the prediction is not finite at step {first} (t = {self.times[first]:g}) "
                f"for sample {self.samples[int(row)]}"
            )
