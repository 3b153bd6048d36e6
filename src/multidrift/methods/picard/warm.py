"""A warm start: the path of an earlier run as the first guess of a parallel one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import aligned
from multidrift.runs.result import Result
from multidrift.runs.run import Run


@dataclass(frozen=True, eq=False)
class WarmStart:
    """States [saved, count, …] at decreasing or increasing times, to be interpolated to another run's grid."""

    times: tuple[float, ...]
    states: Tensor

    @staticmethod
    def of(result: Result) -> WarmStart:
        """The path of a result; the data after the last time is no part of it."""
        if result.trajectory is None or result.trajectory_times is None:
            raise MultidriftError("initial: got a Result without a trajectory; it takes one of a run with save=")
        times, states = result.trajectory_times, result.trajectory
        if result.trajectory_velocities is not None:
            states = torch.stack((states, result.trajectory_velocities), dim=-1)
        if result.finished and times[0] > times[-1]:  # a diffusion's last entry is its data, not a state
            times, states = times[:-1], states[:-1]
        return WarmStart(times, states)

    def on(self, run: Run) -> Tensor:
        """The states at a run's times, [N + 1, count, …], interpolated in time; the ends hold beyond the path."""
        wanted = (len(run.start), *run.start.shape[1:])
        if tuple(self.states.shape[1:]) != wanted:
            raise MultidriftError(f"initial: got states of shape {tuple(self.states.shape[1:])}; it takes {wanted}")
        order = np.argsort(self.times)
        known = np.asarray(self.times)[order]
        place = np.interp(run.times, known, np.arange(len(known)))
        below = np.minimum(place.astype(np.intp), max(len(known) - 2, 0))
        share = torch.from_numpy(place - below).to(run.start)
        states = self.states[torch.from_numpy(order)].to(run.start)
        after = np.minimum(below + 1, len(known) - 1)
        return torch.lerp(states[torch.from_numpy(below)], states[torch.from_numpy(after)], aligned(share, states))
