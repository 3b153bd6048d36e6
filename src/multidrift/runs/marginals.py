"""Notices a diffusion that has left the scale of its marginals, without waiting for the device at every step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.numbers import Floats, largest_of_each, moved
from multidrift.processes.process import Process

_FAR = 100.0  # states this many times as large as their marginal's scale are a run gone wrong,
_LONG = 3  # if so many of them come in a row, or the last of the run is one
_NEAR = 10.0  # only predictions made at states below this tell how large the data is
_NEVER = 2**62
_SETTLED_AT_ONCE = 50  # steps that are looked at together
_KEPT = 1 << 22  # sizes of states that wait for it at the most


class RunWarning(UserWarning):
    """A run that came to its end, but whose samples are likely of no use."""


class MarginalGuard:
    """Compares each state with α·A + σ, A the largest value of the data predicted for that sample so far.

    Data may have any scale, so A is the run's own. While the data is held, a state is at most α·A + B·σ with B the
    largest normal drawn (induction over Euler's step, any η and grid: |x_s| ≤ (σ_s/σ_t)e^{−ηΔλ}|x_t| + α_s(1 −
    e^{−(1+η)Δλ})A + noise), so the ratio stays near 5. Predictions made at states that are too large themselves do not
    count, or A would follow an explosion. With ε or the score held a step out of strong noise may throw a state far
    off, and the next ones bring it back: that is let pass.

    - `names`: what to call each sample in a warning; `times`: the grid
    """

    def __init__(self, process: Process, names: Sequence[str], times: Floats) -> None:
        self.names, self.times, schedule = names, times, process.model_schedule
        self._scales: Floats | None = None  # (α, σ) of each time
        if schedule is not None:
            self._scales = np.stack((schedule.alpha(times), schedule.sigma(times)))
        self._waiting: list[tuple[int, Tensor, Tensor]] = []  # a step, and how large states and data were
        self._seen: _Seen | None = None

    def watch(self, step: int, states: Tensor, data: Tensor) -> None:
        """Look at the `states` after a step, and at the `data` predicted at its start."""
        if self._scales is None:
            return
        self._waiting.append((step, largest_of_each(states), largest_of_each(data)))
        if len(self._waiting) >= min(_SETTLED_AT_ONCE, max(1, _KEPT // len(states))):
            self._settle()

    def _settle(self) -> None:
        """Take in what was kept of the last steps: it waits for the device."""
        if self._scales is None or not self._waiting:
            return
        steps, states, data = zip(*self._waiting, strict=True)
        self._waiting = []
        self._seen = self._seen or _Seen(data[0])
        self._seen.add(np.array(steps), torch.stack(states), torch.stack(data), self._scales[:, np.array(steps) + 1])

    def read(self) -> None:
        """Warn, once, of the first sample that left."""
        self._settle()
        if self._seen is None:
            return
        seen, self._seen = self._seen, None
        gone = (seen.longest >= _LONG) | (seen.streak > 0)
        step, row = (int(value) for value in torch.min(torch.where(gone, seen.since, _NEVER), dim=0))
        if step < _NEVER:
            warnings.warn(
                f"the state left its marginals at step {step} (t = {self.times[step]:g}) for {self.names[row]}: it "
                f"grew to {float(seen.worst[row]):.2g} times what noise and the predicted data make it "
                f"({int(gone.sum())} of {len(self.names)} did so); "
                "take more steps, another grid, or a process that holds the data",
                RunWarning,
                stacklevel=5,
            )


class _Seen:
    """What is known of each sample: tensors [count] on its device."""

    def __init__(self, size: Tensor) -> None:
        self.size = size  # A
        self.ratio = torch.zeros_like(size)  # of the newest state to its scale
        self.worst = torch.zeros_like(size)
        self.streak = torch.zeros_like(size, dtype=torch.long)  # far states in a row up to now
        self.longest = torch.zeros_like(self.streak)
        self.since = torch.full_like(self.streak, _NEVER)  # the step that led to the first far state

    def add(self, steps: NDArray[np.intp], states: Tensor, data: Tensor, scales: Floats) -> None:
        """Some more steps, the sizes of their states and data [steps, count], and (α, σ) [2, steps] after them."""
        alpha, sigma = moved(scales, states).unsqueeze(-1)
        sizes = torch.cummax(torch.cat((self.size[None], data)), dim=0).values[1:]
        ratios = states / (alpha * sizes + sigma)
        if bool((ratios <= _NEAR).all() & (self.ratio <= _NEAR).all()):  # as in nearly all runs
            self.size, self.ratio = sizes[-1], ratios[-1]
            self.worst, self.streak = torch.maximum(self.worst, ratios.amax(dim=0)), torch.zeros_like(self.streak)
            return
        for step, state, found, a, s in zip(steps.tolist(), states, data, alpha, sigma, strict=True):
            self._add(step, state, found, a, s)

    def _add(self, step: int, state: Tensor, data: Tensor, alpha: Tensor, sigma: Tensor) -> None:
        self.size = torch.where(self.ratio <= _NEAR, torch.maximum(self.size, data), self.size)
        self.ratio = state / (alpha * self.size + sigma)
        far = self.ratio > _FAR
        self.worst = torch.maximum(self.worst, self.ratio)
        self.streak = torch.where(far, self.streak + 1, 0)
        self.longest = torch.maximum(self.longest, self.streak)
        self.since = torch.where(far & (self.since == _NEVER), step, self.since)
