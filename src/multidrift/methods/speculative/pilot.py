"""Drifts along a few paths, from which rounds are forecast: how far a drafter's D is from the top level's.

A forecast needs ‖δ‖² for every pair of the last accepted point and a drafted one; it is recorded along the paths of a
pilot, on a coarser grid than the run's, and interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.drifts.drift import Drift
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.methods.picard.front import Indices
from multidrift.methods.speculative.difference import held_units, lag_of, ratio
from multidrift.methods.speculative.drafters import FROZEN, Drafter
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
from multidrift.processes.process import Process
from multidrift.runs import update

_LEAST_POWER, _LARGEST_POWER = 0.2, 2.0  # of the distance between two points, by which ‖δ‖² grows near 0
Squares: TypeAlias = Callable[[int, Indices], Floats]  # of the last accepted step and drafted ones: ‖δ‖² [m, count]


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

    def of_levels(self, *names: str) -> Pilot:
        """The same with the drifts of these levels, the last of them as the top one."""
        return Pilot(self.process, self.times, {name: self.drifts[name] for name in names})

    def numbers(self, times: Floats) -> Floats:
        """Where each step of a grid lies among the pilot's, as a fraction of its steps."""
        places, grid = (self.process.place(t[:-1]) for t in (self.times, times))
        for place in (places, grid):
            place[0] = max(place[0], 2.0 * place[1] - place[2])  # a start from pure noise lies at λ = −∞
        return np.asarray(np.interp(grid, places, np.arange(float(len(places)))))

    def squares(self, drafter: Drafter, times: Floats, window: int) -> Squares:
        """‖δ‖² of a drafter that is called at every step of a grid."""
        numbers, points = self.numbers(times), len(self.times) - 1
        furthest = (numbers[np.minimum(np.arange(len(numbers)) + window + 1, len(numbers) - 1)] - numbers).max()
        spacing = max((numbers[-1] - numbers[0]) / max(len(numbers) - 1, 1), 1e-9)
        lag = max(1, round(lag_of(window) * spacing))
        known = self.distances(drafter, min(points, math.ceil(furthest) + 3), lag)

        def at(last: int, steps: Indices) -> Floats:
            first = min(int(numbers[last]), points - 2)
            ahead = numbers[steps] - numbers[last]
            share = numbers[last] - first
            near, far = (_interpolated(known[first + k], ahead, power=drafter.follows is not None) for k in (0, 1))
            return np.asarray((1.0 - share) * near + share * far)

        return at

    def squares_every(self, drafter: Drafter, times: Floats, window: int, every: int) -> Squares:
        """‖δ‖² of a drafter whose level is called at every so many steps of a draft, and held between.

        What the held D has missed is taken to be at a right angle to what the called one would have.
        """
        known = self.squares(drafter, times, window)
        if every == 1 or drafter.level is None:
            return known
        held = self.of_levels(drafter.level).squares(Drafter.of(FROZEN), times, every)

        def at(last: int, steps: Indices) -> Floats:
            called = steps - (steps - steps[0]) % every
            moved = [held(int(n), np.array([m]))[0] * (n != m) for n, m in zip(called, steps, strict=True)]
            return np.asarray(known(last, steps) + np.stack(moved))

        return at

    def squares_of_sum(self, factors: Floats, times: Floats) -> Squares:
        """‖δ‖² of the estimate Σ_k c_k D^k of the levels below the top one, c [N, levels] at each step of a grid."""
        *below, top = self.drifts.values()
        drifts = torch.stack([top, *below], dim=1)  # [K, levels + 1, count, coordinates]
        products = torch.einsum("kanc,kbnc->kabn", drifts, drifts).numpy()
        numbers = self.numbers(times)
        low = np.minimum(numbers.astype(np.intp), len(products) - 2)
        share = (numbers - low)[:, None, None, None]
        there = (1.0 - share) * products[low] + share * products[low + 1]
        weights = np.concatenate((np.ones((len(factors), 1)), -factors), axis=1)
        found = np.maximum(np.einsum("na,nabc,nb->nc", weights, there, weights), 0.0)
        return lambda last, steps: found[steps]  # noqa: ARG005  # whatever the last accepted step was


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
