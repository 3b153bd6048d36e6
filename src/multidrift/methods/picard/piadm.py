"""PIADM's schedule of blocks, steps and rounds, from the dimension of the data and the accuracy that is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Count, Positive
from multidrift.methods.picard.predictor_corrector import PredictorCorrector
from multidrift.methods.picard.walk import Picard
from multidrift.processes.langevin import Underdamped
from multidrift.schedules.grids import forward_time, time_at
from multidrift.schedules.schedule import Schedule

_MOST_TIMES = 1_000_000  # beyond it the list of times alone would take seconds and gigabytes


@checked
def piadm(
    dimension: Count,
    accuracy: Positive,
    schedule: Schedule,
    *,
    ode: bool = False,
    horizon: Positive = 1.0,
    block: Positive = 1.0,
    step: Positive = 1.0,
    rounds: Positive = 1.0,
    stop: Positive = 1.0,
    corrector: Positive = 1.0,
    friction: Positive = 2.0,
) -> Picard | PredictorCorrector:
    """Parallel Picard as PIADM's theorems set it for data in d = `dimension` and a score known to δ = `accuracy`.

    In the forward time s of the Ornstein-Uhlenbeck process dx = −x/2 ds + dB, where s = log(1 + e^(−2λ)), the run
    goes from s = T down to s = η, with L = log(d/δ²):

    - T = `horizon`·L, and η = `stop`·δ²/d, at which the data has moved by about δ (2-Wasserstein)
    - N = ⌈(T − η)/`block`⌉ blocks, all of length h = (T − η)/N
    - in all blocks but the last M = ⌈h/ε⌉ equal steps, ε = `step`·δ²/(d·L); for the ODE ε = `step`·δ/(√d·L)
    - in the last one no step is above ε·min(1, s at its end): they shrink in proportion to s from s = 1 on
    - K = ⌈`rounds`·log(d·T/δ²)⌉ rounds a block, whatever they have reached (`Picard.rounds`), as the theorem's error
      has a term d·T·e^(−K); none of them needs a tolerance

    It is returned as a `Picard` with these `times`, `blocks` and `rounds`. With `ode=True` that is the predictor of a
    `PredictorCorrector`, whose underdamped Langevin dynamics after each block run over `corrector` units of time (of
    x/σ, as its `dynamics` do) with `friction`, in one block of ⌈`corrector`·√d·L/δ⌉ steps, at least 2, and K rounds.

    The paper's processes are `md.Diffusion(schedule, 1, "score")`, and with `ode=True` `md.Diffusion(schedule, 0,
    "score")`; any other runs on the same times. The theorems bound the distance to the data noised up to s = η: KL by
    O(δ²) for the SDE, total variation by O(δ) for the ODE. The last call, which predicts the data from there, is ours,
    as in every method here.

    What the theorems leave open: they state orders alone, so that every factor (`horizon` to `friction`) is ours. They
    assume data of about unit variance and blocks short enough for the score: h = O(1/Λ²) with its Lipschitz constant Λ,
    which `block` sets. T and η never leave the schedule: T is at most the forward time at `schedule.t_max`, η at least
    that at `schedule.t_min`. ε, M, K, the shrinking of the last block and all of the ODE's were taken from an account
    of the paper and not checked against its text.

    Raises MultidriftError where d/δ² is below e, and where there would be more than a million steps.

    Source: PIADM (Chen et al. 2024), section 3, Theorems 3.3 (SDE) and 3.5 (ODE).
    """
    largest = math.sqrt(dimension / math.e)
    require(accuracy <= largest, "accuracy", accuracy, f"a positive number of at most {largest:.3g} = √(d/e)")
    log = math.log(dimension / accuracy**2)
    reach = forward_time(schedule.log_snr(np.array([schedule.t_max, schedule.t_min])))
    first = min(horizon * log, float(reach[0]))
    last = max(stop * accuracy**2 / dimension, float(reach[1]))
    require(last < first, "stop", stop, f"less: the run would stop at s = {last:.3g}, before it starts at {first:.3g}")
    per_unit = math.sqrt(dimension) * log / accuracy if ode else dimension * log / accuracy**2
    blocks = _Blocks(first, last, math.ceil((first - last) / block), step / per_unit)
    most = _MOST_TIMES
    takes = f"a larger one or a larger step=: this asks for {blocks.least:.2g} steps, above {most:,}"
    require(blocks.least <= most, "accuracy", accuracy, takes)
    times, ends = (time_at(schedule, forward) for forward in (blocks.points, blocks.ends))
    if first == reach[0]:
        times[0] = schedule.t_max  # exactly, whatever rounding the inverse did
    if last == reach[1]:
        times[-1] = schedule.t_min
    number = math.ceil(rounds * math.log(dimension * first / accuracy**2))
    if not bool(np.all(np.diff(times) < 0)):
        raise MultidriftError(f"accuracy: got {accuracy}; it takes a larger one: its times coincide on this schedule")
    predictor = Picard(
        times=times.tolist(), grid="piadm", blocks=ends.tolist() if blocks.number > 1 else 1, rounds=number
    )
    if not ode:
        return predictor
    steps = max(2, math.ceil(corrector * math.sqrt(dimension) * log / accuracy))
    return PredictorCorrector(predictor, Picard(steps, rounds=number), Underdamped(corrector, friction=friction))


@dataclass(frozen=True)
class _Blocks:
    """Blocks of equal length from forward time `first` down to `last`, in steps of at most `step`."""

    first: float
    last: float
    number: int
    step: float

    @property
    def least(self) -> float:
        """How many steps there are at least: without the shrinking of the last block."""
        return max((self.first - self.last) / self.step, float(self.number))

    @property
    def ends(self) -> Floats:
        """Where all blocks but the last end."""
        return np.linspace(self.first, self.last, self.number + 1)[1:-1]

    @property
    def points(self) -> Floats:
        """All points, decreasing."""
        start = self.last + (self.first - self.last) / self.number
        uniform = _steps(start - self.last, self.step) * (self.number - 1)
        level = max(min(start, 1.0), self.last)  # where steps begin to shrink
        equal = _steps(start - level, self.step)
        shrinking = _steps(math.log(level / self.last), math.log1p(self.step))
        parts = (
            np.linspace(self.first, start, uniform + 1),
            np.linspace(start, level, equal + 1)[1:],
            np.geomspace(level, self.last, shrinking + 1)[1:],
        )
        return np.concatenate(parts)


def _steps(length: float, step: float) -> int:
    """The least number of equal steps of at most `step`, but for rounding."""
    return math.ceil(length / step - 1e-9)
