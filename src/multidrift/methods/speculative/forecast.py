"""How many rounds a drafter will take, from its drifts and the top level's along a few paths: before the run.

A draft of step n whose D is off by δ from the top level's is accepted with probability 2Φ(−‖Δ_n‖/2), ‖Δ_n‖² = s_n‖δ‖²,
with s_n known of the process: SNR_{n+1} − SNR_n for DDPM. What is not known is ‖δ‖² for every pair of the last accepted
point and the drafted one: it is recorded along the paths of a pilot, and interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.drifts.drift import Drift
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import Model
from multidrift.methods.picard.forecast import Forecast, cost_ratio
from multidrift.methods.picard.front import Indices
from multidrift.methods.speculative.difference import held_units, lag_of, ratio
from multidrift.methods.speculative.drafters import FROZEN, Drafter
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
from multidrift.processes.process import Process
from multidrift.runs import update
from multidrift.runs.transitions import StepNoise

# Rounds beyond one a window, as measured on the bundled digits; a guess for any other ladder.
_FROZEN_EXCESS, _GAUSSIAN_EXCESS, _LEVEL_EXCESS = 26.0, 33.0, 6.5
_LEAST_POWER, _LARGEST_POWER = 0.2, 2.0  # of the distance between two points, by which ‖δ‖² grows near 0


@dataclass(frozen=True)
class Pilot:
    """Drifts of some levels, the top one last, along paths of the top level.

    - `times` [K + 1]: the pilot's grid; `drifts`: of each level [K, count, coordinates], float64, over the root of the
      preconditioner, so that they are compared as the noise compares them
    """

    process: Process
    times: Floats
    drifts: Mapping[str, Tensor]

    @staticmethod
    def of(
        process: Process, levels: Mapping[str, Drift], shape: tuple[int, ...], times: Floats, count: int, seed: int
    ) -> Pilot:
        """Euler's paths of the top level along `times`, the samples 0 to count − 1 of `seed`, in float32."""
        top = list(levels)[-1]
        device = levels[top].device or torch.device("cpu")
        keys = {s: Keys.of((seed,) * count, range(count), s, device) for s in Stream}
        x = keys[Stream.START].normals([0], shape, torch.float32)[0] * process.start_std(float(times[0]))
        if process.has_velocity:
            normals = keys[Stream.VELOCITY].normals([0], shape, torch.float32)[0]
            x = process.joined(x, normals * torch.as_tensor(process.velocity_std).to(normals))
        path = BrownianPath(process, keys[Stream.NOISE], shape, x.dtype, process.place(times))
        weight = process.preconditioning
        root = None if weight is None else torch.from_numpy(np.sqrt(weight)).to(x)
        found: dict[str, list[Tensor]] = {name: [] for name in levels}
        with torch.no_grad(), evaluation_mode(levels.values()):
            for n, interval in enumerate(process.intervals(times[:-1], times[1:]).each(x)):
                t, states = float(times[n]), process.position(x)
                for name, level in levels.items():
                    drift = level.predict(states, t, process.drift_is, {})
                    drift = drift if root is None else drift * root
                    found[name].append(drift.flatten(1).double().cpu())
                drift = process.lift(drift if root is None else drift * root, t)
                noise = path.increment(interval.low, interval.high) * interval.std
                if root is not None:
                    noise = noise * (root if process.components == 1 else root[..., None])
                x = interval.leave(update.increment(interval.enter(x), interval.dtau, drift, noise))
        return Pilot(process, times, {name: torch.stack(values) for name, values in found.items()})

    def distances(self, drafter: Drafter, most: int, lag: int) -> Floats:
        """‖δ‖² at the m-th point after the last accepted one, point i: [K, most, count]; the last one's at the end.

        A difference is held in the unit in which that of the point `lag` before would have served better.
        """
        top = list(self.drifts.values())[-1]
        own = torch.zeros_like(top) if drafter.level is None else self.drifts[drafter.level]
        held, points = top - own, len(top)
        units = held_units(self.process, self.times[:-1])
        units = np.ones_like(units[:1]) if drafter.level is None else units
        found = np.zeros((len(units), points, most, top.shape[1]))
        for unit, factors in enumerate(units):
            for m in range(most):
                last = np.minimum(np.arange(points) + m, points - 1)
                factor = torch.from_numpy(ratio(factors, factors[last]))[:, None, None] if drafter.follows else 0.0
                found[unit, :, m] = (held[torch.from_numpy(last)] - factor * held).square().sum(2).numpy()
        better = np.zeros((points, top.shape[1]), dtype=np.intp)
        if len(units) > 1 and drafter.follows and lag < points:
            missed = []
            for factors in units:
                moved = torch.from_numpy(ratio(factors[:-lag], factors[lag:]))[:, None, None] * held[:-lag]
                missed.append((held[lag:] - moved).square().sum(2).numpy())
            better[lag:] = np.argmin(missed, axis=0)
        return np.asarray(np.take_along_axis(found, better[None, :, None], axis=0)[0])

    def squares(self, drafter: Drafter, times: Floats, window: int) -> Callable[[int, Indices], Floats]:
        """A function (a, n) of the last accepted step a and drafted steps n of a grid: ‖δ‖² [len(n), count]."""
        places, grid = (self.process.place(t[:-1]) for t in (self.times, times))
        for place in (places, grid):
            place[0] = max(place[0], 2.0 * place[1] - place[2])  # a start from pure noise lies at λ = −∞
        points = len(places)
        numbers = np.interp(grid, places, np.arange(float(points)))
        furthest = (numbers[np.minimum(np.arange(len(grid)) + window + 1, len(grid) - 1)] - numbers).max()
        spacing = max((numbers[-1] - numbers[0]) / max(len(grid) - 1, 1), 1e-9)
        lag = max(1, round(lag_of(window) * spacing))
        known = self.distances(drafter, min(points, math.ceil(furthest) + 3), lag)

        def at(last: int, steps: Indices) -> Floats:
            first = min(int(numbers[last]), points - 2)
            ahead = numbers[steps] - numbers[last]
            share = numbers[last] - first
            near, far = (_interpolated(known[first + k], ahead, power=drafter.follows is not None) for k in (0, 1))
            return np.asarray((1.0 - share) * near + share * far)

        return at


def _interpolated(known: Floats, ahead: Floats, *, power: bool) -> Floats:
    """‖δ‖² at distances `ahead` from values [most, count] at 0, 1, …: a line between two, a power between 0 and 1."""
    low = np.minimum(ahead.astype(np.intp), len(known) - 2)
    share = (ahead - low)[:, None]
    found = (1.0 - share) * known[low] + share * known[low + 1]
    if not power:
        return np.asarray(found)
    good = (known[1] > 0) & (known[2] > 0)
    power_of = np.log2(np.where(good, known[2], 2.0) / np.where(good, known[1], 1.0))
    grown = known[1] * np.maximum(ahead, 1e-12)[:, None] ** np.clip(power_of, _LEAST_POWER, _LARGEST_POWER)
    return np.asarray(np.where(ahead[:, None] < 1.0, grown, found))


def expected_rounds(
    squares: Callable[[int, Indices], Floats], strength: Floats, window: int, count: int, *, blind: bool
) -> Floats:
    """The expected number of rounds of each sample [count], from ‖δ‖² and s_n [N] (`StepNoise.per_unit`).

    `blind`: the first round drafts one step alone.

    E_n = 1 + Σ_j P(the j-th draft from n is the first not accepted) E_{n+j+1} + P(all are) E_{n+window}, backwards.
    """
    steps = len(strength)
    expected = np.zeros((steps + 1, count))
    for n in range(steps - 1, -1, -1):
        drafted = np.arange(n, min(steps, n + window))
        sizes = np.sqrt(strength[drafted, None] * squares(max(n - 1, 0), drafted))
        accepted = torch.special.erfc(torch.from_numpy(sizes / math.sqrt(8.0))).numpy()
        alive, total = np.ones(count), np.ones(count)
        for j, n_j in enumerate(drafted):
            total += alive * (1.0 - accepted[j]) * expected[n_j + 1]
            alive = alive * accepted[j]
        expected[n] = total + alive * expected[drafted[-1] + 1]
    return np.asarray(1.0 + expected[1] if blind else expected[0])


def forecast_rounds(drafter: Drafter, window: int, pilot: Pilot, times: Floats) -> Floats:
    """The expected rounds [count] along a grid, the final call not among them."""
    require(len(pilot.times) >= 4, "pilot", len(pilot.times), "at least 4 times")
    law = StepNoise(pilot.process, pilot.process.intervals(times[:-1], times[1:]))
    count = next(iter(pilot.drifts.values())).shape[1]
    return expected_rounds(
        pilot.squares(drafter, times, window), law.per_unit(), window, count, blind=drafter.level is None
    )


def drafted(model: Model, steps: int, drafter: str, rounds: int, window: int) -> Forecast:
    """The critical path of so many rounds: each a call of the top level after `window` calls of the drafter's."""
    level = Drafter.of(drafter).level
    calls = 0 if level is None else window
    path = (rounds + rounds * calls * (cost_ratio(model, level) if level else 0.0)) / steps
    return Forecast(steps, (drafter,), 1, rounds, rounds, calls, path, "Speculative")


def forecasts(ladder: Ladder, steps: int, window: int = 20) -> list[Forecast]:
    """The drafters of one level with the difference held, and "frozen", with the rounds that are assumed of them."""
    names = [FROZEN, *(f"{name}+held" for name in list(ladder.with_gaussian())[:-1])]
    rounds = {name: assumed_rounds(ladder, Drafter.of(name), steps, window) for name in names}
    return [drafted(ladder, steps, name, number, window) for name, number in rounds.items()]


def assumed_rounds(model: Model, drafter: Drafter, steps: int, window: int) -> int:
    """One round a window, and what comes on top of that, at most one a step.

    That hardly depends on the steps: with "frozen" it was 17 to 29 rounds from 60 to 1000 steps of the bundled digits.
    With a level it falls with its cost c as c^(−2/5).
    """
    ratio = 0.0 if drafter.level is None else cost_ratio(model, drafter.level)
    excess = _FROZEN_EXCESS if drafter.level is None else _GAUSSIAN_EXCESS
    excess = _LEVEL_EXCESS * ratio**-0.4 if ratio else excess
    return min(math.ceil(steps / window + excess), steps)


def known_shape(levels: Mapping[str, Drift], shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """One sample's shape, given or known of a level."""
    known = shape or next((level.shape for level in levels.values() if level.shape is not None), None)
    if known is None:
        raise MultidriftError("shape: got None, and no level knows it; it takes one sample's shape")
    return tuple(known)
