"""Notices a diffusion that has left the scale of its marginals, without waiting for the device at every step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.processes.process import Process

_FAR = 100.0  # states this many times as large as their marginal's scale are a run gone wrong,
_LONG = 3  # if so many of them come in a row, or the last of the run is one
_NEAR = 10.0  # only predictions made at states below this tell how large the data is
_NEVER = 2**62


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
        self.names, self.times, self.schedule = names, times, process.model_schedule
        self._seen: _Seen | None = None

    def watch(self, step: int, states: Tensor, data: Tensor) -> None:
        """Look at the `states` after a step, and at the `data` predicted at its start."""
        if self.schedule is None:
            return
        alpha, sigma = (float(f(self.times[step + 1])) for f in (self.schedule.alpha, self.schedule.sigma))
        self._seen = self._seen or _Seen(_largest(data))
        self._seen.add(step, _largest(states), _largest(data), alpha, sigma)

    def read(self) -> None:
        """Warn, once, of the first sample that left."""
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

    def add(self, step: int, state: Tensor, data: Tensor, alpha: float, sigma: float) -> None:
        self.size = torch.where(self.ratio <= _NEAR, torch.maximum(self.size, data), self.size)
        self.ratio = state / (alpha * self.size + sigma)
        far = self.ratio > _FAR
        self.worst = torch.maximum(self.worst, self.ratio)
        self.streak = torch.where(far, self.streak + 1, 0)
        self.longest = torch.maximum(self.longest, self.streak)
        self.since = torch.where(far & (self.since == _NEVER), step, self.since)


def _largest(values: Tensor) -> Tensor:
    """The largest absolute value of each sample."""
    return values.detach().abs().flatten(1).amax(dim=1)
