"""How many rounds a drafter will take, from its drifts and the top level's along a few paths: before the run.

A draft of step n whose D is off by δ from the top level's is accepted with probability 2Φ(−‖Δ_n‖/2), ‖Δ_n‖² = s_n‖δ‖²,
with s_n known of the process: SNR_{n+1} − SNR_n for DDPM. ‖δ‖² is a pilot's (`pilot.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats
from multidrift.drifts.drift import Drift
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import Model
from multidrift.methods.picard.forecast import Forecast, cost_ratio
from multidrift.methods.picard.front import Indices, Mask
from multidrift.methods.speculative.block import accepted_lengths
from multidrift.methods.speculative.drafters import FROZEN, Drafter
from multidrift.methods.speculative.pilot import Pilot, Squares
from multidrift.methods.speculative.windows import Windows
from multidrift.runs.transitions import StepNoise

# Rounds beyond one a window, as measured on the bundled digits; a guess for any other ladder.
_FROZEN_EXCESS, _GAUSSIAN_EXCESS, _LEVEL_EXCESS = 26.0, 33.0, 6.5
_DRAWS = 100  # of a path's acceptances, from which its rounds are counted
Window: TypeAlias = int | Sequence[int]


def expected_rounds(
    squares: Squares, strength: Floats, window: Window, *, blind: bool = False, blocks: bool = False
) -> Floats:
    """The expected number of rounds of each sample [count], from ‖δ‖² and s_n [N] (`StepNoise.per_unit`).

    `blind`: the first round drafts one step alone; `blocks`: a window is verified together. Rounds are counted over
    draws of what is accepted, each sample's window adapted as in a run.
    """
    steps, most = len(strength), window if isinstance(window, int) else window[-1]
    sizes = np.stack([_sizes(squares, strength, n, most) for n in range(steps)])  # ‖Δ‖ [N, L, count], if drafted from n
    columns = np.tile(np.arange(sizes.shape[2]), _DRAWS)
    windows, random = Windows(window, len(columns)), np.random.default_rng(0)
    at, rounds = np.zeros(len(columns), dtype=np.intp), np.zeros(len(columns))
    while (going := at < steps).any():
        lengths = np.minimum(1 if blind and not at.any() else windows.sizes, steps - at)
        drafted = np.arange(most)[:, None] < lengths
        kept = (_by_blocks if blocks else _by_steps)(sizes[np.minimum(at, steps - 1), :, columns].T, drafted, random)
        reached = np.minimum(kept + 1, lengths)
        windows.adapt(reached, lengths, kept == lengths)
        at, rounds = at + reached, rounds + going
    return np.asarray(rounds.reshape(_DRAWS, -1).mean(axis=0))


def _sizes(squares: Squares, strength: Floats, start: int, most: int) -> Floats:
    """‖Δ‖ of the steps drafted from one on [L, count], infinite behind the last."""
    drafted = np.arange(start, min(len(strength), start + most))
    found = np.sqrt(strength[drafted, None] * squares(max(start - 1, 0), drafted))
    return np.pad(found, ((0, most - len(drafted)), (0, 0)), constant_values=np.inf)


def _by_steps(sizes: Floats, drafted: Mask, random: np.random.Generator) -> Indices:
    """How many drafts are accepted of each column of ‖Δ‖ [L, m]: those before the first that is refused."""
    accepted = torch.special.erfc(torch.from_numpy(sizes / math.sqrt(8.0))).numpy()
    return np.asarray((drafted & (random.uniform(size=sizes.shape) <= accepted)).cumprod(axis=0).sum(axis=0))


def _by_blocks(sizes: Floats, drafted: Mask, random: np.random.Generator) -> Indices:
    """The same where all of a window is verified together."""
    known = np.isfinite(sizes)
    distances = np.where(known, sizes, 0.0)
    gains = np.where(known, -distances * random.normal(size=sizes.shape) - 0.5 * distances**2, -np.inf)
    return accepted_lengths(gains, sizes, drafted, random.uniform(size=sizes.shape))[0]


def forecast_rounds(
    squares: Squares, pilot: Pilot, times: Floats, window: Window, *, blind: bool = False, blocks: bool = False
) -> Floats:
    """The expected rounds [paths] along a grid, the final call not among them."""
    law = StepNoise(pilot.process, pilot.process.intervals(times[:-1], times[1:]))
    return expected_rounds(squares, law.per_unit(), window, blind=blind, blocks=blocks)


def cost_of_draft(
    model: Model, drafters: Sequence[Drafter], pilot: Pilot, times: Floats, length: float, every: int = 1
) -> float:
    """What it takes to draft so many steps, in calls of the top level: of a chain, its own rounds and those below.

    A chain's rounds come one after another, each of them drafting what is left of the length: half of it, on average.
    """
    *below, this = drafters
    ratio = 0.0 if this.level is None else cost_ratio(model, this.level)
    if not below:
        return math.ceil(length / every) * ratio
    assert this.level is not None
    level = below[-1].level
    own = pilot.of_levels(*((level,) if level else ()), this.level)
    squares = own.squares(below[-1], times, round(length))
    whole = float(forecast_rounds(squares, own, times, round(length)).mean())
    rounds = max(1.0, whole * length / (len(times) - 1))
    return rounds * (ratio + cost_of_draft(model, below, pilot, times, length * (rounds + 1.0) / (2.0 * rounds), every))


def drafted(steps: int, drafter: str, rounds: float, calls: int, cost: float, every: int = 1) -> Forecast:
    """The critical path of so many rounds: each a call of the top level after a draft of this cost."""
    return Forecast(steps, (drafter,), every, rounds, rounds, calls, rounds * (1.0 + cost) / steps, "Speculative")


def forecasts(ladder: Ladder, steps: int, window: int = 20) -> list[Forecast]:
    """The drafters of one level with the difference held, and "frozen", with the rounds that are assumed of them."""
    names = [FROZEN, *(f"{name}+held" for name in list(ladder.with_gaussian())[:-1])]
    found = []
    for name in names:
        drafter = Drafter.of(name)
        calls = 0 if drafter.level is None else window
        cost = calls * (0.0 if drafter.level is None else cost_ratio(ladder, drafter.level))
        found.append(drafted(steps, name, assumed_rounds(ladder, drafter, steps, window), calls, cost))
    return found


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
