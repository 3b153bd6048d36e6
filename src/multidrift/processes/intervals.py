"""Straightened coordinates over given intervals of time: all a sampler needs to take a step.

In the coordinate z and on the clocks τ (drift) and v (noise) every process reads dz = D dτ + dW(v), exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats, moved

Factor = float | Tensor


@dataclass(frozen=True)
class Interval:
    """One step from time `t` to time `s`, in coordinates scaled so that nothing over- or underflows.

    z(t) = enter(x(t)); z(s) = z(t) + dtau·D + std·(the path's increment from `low` to `high`); x(s) = leave(z(s)).
    Factors are numbers, or tensors with one entry a row of the states, shaped to multiply them.
    """

    t: float
    s: float
    low: float
    high: float
    enter_factor: Factor
    leave_factor: Factor
    dtau: Factor
    std: Factor

    def enter(self, x: Tensor) -> Tensor:
        """The coordinate z of states x."""
        return self.enter_factor * x

    def leave(self, z: Tensor) -> Tensor:
        """The states x at the end of the step, from z."""
        return self.leave_factor * z


@dataclass(frozen=True)
class PhaseInterval(Interval):
    """A step of position u and velocity w, the last axis of the states: z = (u + w/γ, e^{γ(t − anchor)} w).

    `dtau` and `std` have an entry for each of the two on their last axis.
    """

    friction: float

    def enter(self, x: Tensor) -> Tensor:
        position, velocity = x.unbind(-1)
        return torch.stack((position + velocity / self.friction, self.enter_factor * velocity), dim=-1)

    def leave(self, z: Tensor) -> Tensor:
        velocity = self.leave_factor * z[..., 1]
        return torch.stack((z[..., 0] - velocity / self.friction, velocity), dim=-1)


@dataclass(frozen=True)
class Intervals:
    """Many intervals, one entry of each array per interval; see `Interval`.

    Of a process with velocities (`friction` given) `dtau` and `std` are [n, 2], all else [n].
    """

    t: Floats
    s: Floats
    low: Floats
    high: Floats
    enter_factor: Floats
    leave_factor: Floats
    dtau: Floats
    std: Floats
    friction: float | None = None

    def __len__(self) -> int:
        return len(self.t)

    def each(self, like: Tensor) -> Iterator[Interval]:
        """One by one, to multiply states of the dtype and on the device of `like`."""
        ends = (self.t, self.s, self.low, self.high, self.enter_factor, self.leave_factor)
        numbers: list[list[float]] = np.stack(ends, axis=-1).tolist()
        if self.friction is None:
            for (t, s, low, high, enter, leave), dtau, std in zip(
                numbers, self.dtau.tolist(), self.std.tolist(), strict=True
            ):
                yield Interval(t, s, low, high, enter, leave, dtau, std)
            return
        pairs = zip(_tensor(self.dtau, like), _tensor(self.std, like), strict=True)
        for (t, s, low, high, enter, leave), (dtau, std) in zip(numbers, pairs, strict=True):
            yield PhaseInterval(t, s, low, high, enter, leave, dtau, std, self.friction)

    def together(self, like: Tensor) -> Interval:
        """All at once, each a row of states [n, …] as `like` is; its own times and places are those of the first."""
        rows = (-1,) + (1,) * (like.ndim - 1)
        t, s, low, high = (float(column[0]) for column in (self.t, self.s, self.low, self.high))
        enter, leave = (_tensor(v, like) for v in (self.enter_factor, self.leave_factor))
        dtau, std = (_tensor(v, like) for v in (self.dtau, self.std))
        if self.friction is None:
            return Interval(t, s, low, high, enter.view(rows), leave.view(rows), dtau.view(rows), std.view(rows))
        singles, pairs = rows[:-1], (*rows[:-1], 2)  # the states' last axis holds the pair
        return PhaseInterval(
            t, s, low, high, enter.view(singles), leave.view(singles), dtau.view(pairs), std.view(pairs), self.friction
        )


def _tensor(values: Floats, like: Tensor) -> Tensor:
    return moved(values, like)
