"""A ladder whose scaling is known: cost against error exact, the drift Lipschitz, the exact level in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multidrift.basics.checks import Settings, check_fields, checked
from multidrift.basics.errors import require
from multidrift.basics.types import Positive, Size
from multidrift.drifts.costs import Costs
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.drift import Drift
from multidrift.drifts.gradient import LangevinDrift
from multidrift.drifts.ladder import Ladder
from multidrift.schedules.schedule import Schedule

_FREQUENCY = 2.0
_MOST_EXPONENT = 512
_SMOOTH = 0.5  # standard deviation of the data


@dataclass(frozen=True)
class SyntheticLadder(Settings):
    """Levels f^k = f + a·2^{−k} sin(2x + φ_k), k = `first`, …, each 2^γ times as expensive as the one below.

    So |f^k − f| ≤ a·2^{−k} at a cost of 2^{γ(k − first)} `unit`: the scaling law that ML-EM's Theorem 1 assumes, with
    f the exact denoiser of N(0, 1/4) on a schedule, or without one the gradient −x. Every level is Lipschitz. The
    phases φ_k are fixed numbers, one a level and coordinate.

    - `gamma`: the exponent; `levels`: how many; `size`: a; `dimension`: coordinates of a sample; `unit`: seconds of
      a call of the lowest level on a batch of one

    Raises MultidriftError on settings out of range. Source: ML-EM (Jacot 2026), Assumption 1.
    """

    gamma: Positive
    levels: Size = 5
    first: int = 1
    size: Positive = 0.5
    dimension: Size = 2
    unit: Positive = 1e-3

    def __post_init__(self) -> None:
        check_fields(self)
        most = _MOST_EXPONENT
        exponent = max(self.gamma, 1.0) * (abs(self.first) + self.levels)
        require(
            exponent <= most, "gamma", self.gamma, f"gamma·levels of at most {most}: costs and errors are 2 to that"
        )

    @checked
    def exact(self, schedule: Schedule | None = None) -> Drift:
        """The drift that the levels approach."""
        return self._level(schedule, None)

    @checked
    def ladder(self, schedule: Schedule | None = None) -> Ladder:
        """The levels f1, f2, … with their costs: Denoisers on `schedule`, or drifts of Langevin dynamics."""
        drifts = [self._level(schedule, self.first + k) for k in range(self.levels)]
        seconds = {drift.name: self.unit * 2.0 ** (self.gamma * k) for k, drift in enumerate(drifts)}
        return Ladder(drifts, costs=Costs(seconds, 1, "synthetic"))

    def _level(self, schedule: Schedule | None, k: int | None) -> Drift:
        name = "exact" if k is None else f"f{k}"

        def off(x: Tensor) -> Tensor:
            if k is None:
                return torch.zeros_like(x)
            phases = 2.4 * k * torch.arange(1, self.dimension + 1, device=x.device, dtype=x.dtype)
            return self.size * 2.0**-k * torch.sin(_FREQUENCY * x + phases)

        if schedule is None:
            return LangevinDrift(lambda x: off(x) - x, name, (self.dimension,))
        at = schedule

        def data(x: Tensor, t: Tensor) -> Tensor:
            times = t.double().cpu().numpy()
            alpha, sigma = (torch.from_numpy(f(times)).to(x)[:, None] for f in (at.alpha, at.sigma))
            gain = alpha * _SMOOTH**2 / (alpha**2 * _SMOOTH**2 + sigma**2)
            return gain * x + off(x)

        return Denoiser(data, schedule, "sample", name=name, shape=(self.dimension,))
