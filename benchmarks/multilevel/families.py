"""What benchmarks.multilevel measures: families of methods, each given as many calls as a budget pays for.

A budget is a number of calls of f5; a cheap call costs its share of one. To add a method, add a line to `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeAlias

import multidrift as md
from benchmarks.peers import FOUR_SPACINGS, Peer
from multidrift.methods.method import Method
from multidrift.methods.multilevel.draws import DRAWS, Draws
from multidrift.schedules.grids import Grid

BUDGETS = (5, 8, 10, 15, 20, 30, 40)
PLAN_SEEDS = (0, 1, 2)
GRIDS: tuple[Grid, ...] = ("linspace", "blend", "logsnr", "karras")
STEPS_PER_TOP_CALL = 4  # of Multilevel, about
PEERS = {
    1.0: {"sde-dpm": "SDE-DPM-Solver++(2M)", "sa": "SA-Solver"},
    0.0: {"dpm": "DPM-Solver++(2M)", "unipc": "UniPC"},
}

Make: TypeAlias = Callable[[md.Ladder, int], Method | Peer]  # (ladder with costs, budget) -> what to run


@dataclass(frozen=True)
class Family:
    """Settings of one name over the budgets; `part` is the run they belong to, `eta` None: both processes."""

    part: str
    family: str
    label: str
    make: Make
    budgets: Sequence[int] = BUDGETS
    plan_seeds: Sequence[int] = (0,)
    eta: float | None = None


def price(ladder: md.Ladder, method: Method) -> float:
    """What the expected calls of a method cost, in calls of the top level."""
    assert ladder.costs is not None
    seconds = ladder.costs.seconds
    return sum(n * seconds.get(name, 0.0) for name, n in method.expected_calls(ladder).items()) / seconds[ladder.top]


def most_steps(make: Callable[[int], Method], ladder: md.Ladder, budget: int, fewest: int = 3) -> Method:
    """The method with the most `steps` (calls of the top level, say) that the budget pays for."""
    method = make(fewest)
    while price(ladder, more := make(fewest + 1)) <= budget:
        method, fewest = more, fewest + 1
    return method


def multilevel(names: tuple[str, ...], draws: Draws, grid: Grid, ladder: md.Ladder, budget: int) -> md.Multilevel:
    """The cheapest level at every step, a middle one twice as often as the top, some four steps to a call of the top.

    All draws have the same steps and expected calls, those that `independent` draws can pay.
    """

    def made(steps: int, top: int) -> md.Multilevel:
        calls = (float(steps), *(min(2.0 * top, steps) for _ in names[1:-1]), float(top))
        return md.Multilevel(steps, grid, levels=names, calls=calls, draws="independent")

    paid = [top for top in range(3, budget) if price(ladder, made(top + 1, top)) <= budget]
    found = [most_steps(lambda steps, top=top: made(steps, top), ladder, budget, top + 1) for top in paid]
    best = min(found, key=lambda m: abs(m.number_of_evaluations / m.calls[-1] - STEPS_PER_TOP_CALL))
    return replace(best, draws=draws)


def _single(method: type[Method], grid: Grid, _: md.Ladder, budget: int) -> Method:
    return method(budget, grid)


def _peer(peer: Peer, _: md.Ladder, __: int) -> Peer:
    return peer


# (η, levels, substeps): what substeps=None is, and 3 without noise, which was tried.
LADDERS = (
    *((1.0, names, 3) for names in (("f2", "f5"), ("f5",), ("gaussian", "f5"))),
    *((0.0, names, 1) for names in (("f2", "f5"), ("f5",), ("gaussian", "f5"))),
    (0.0, ("f2", "f5"), 3),
)


def _ladder_multistep(levels: tuple[str, ...], substeps: int, ladder: md.Ladder, budget: int) -> Method:
    """As many calls of the top level as the budget pays for, with the coefficients that the ladder keeps."""
    return most_steps(lambda steps: md.LadderMultistep(steps, levels=levels, substeps=substeps), ladder, budget)


# Nodes without noise that were best in a search on seed 777, for as many calls of f5 as a budget pays for.
SEARCHED = {
    12: md.CellNodes(-4.2, 2.5, 0.2),
    16: md.CellNodes(-4.1, 2.9, 0.1),
    25: md.CellNodes(-4.55, 3.2, 0.15),
    33: md.CellNodes(-4.6, 3.4, 0.2),
}


def _searched(ladder: md.Ladder, budget: int) -> Method:
    """LadderMultistep on the nodes found for so many calls."""
    method = _ladder_multistep(("f2", "f5"), 1, ladder, budget)
    return replace(method, nodes=SEARCHED[method.number_of_evaluations])


@cache
def _calibration(ladder: md.Ladder) -> md.Calibration:
    """Of the SDE, on eight paths of another seed than that of the tables, with the ladder's own costs."""
    return md.calibrate(ladder, md.Diffusion(ladder.schedule), costs=ladder.costs, paths=8, seed=777)


def _allocated(ladder: md.Ladder, budget: int) -> md.Multilevel:
    """Levels, steps and probabilities that md.allocate gives the budget, by noise level."""
    known = _calibration(ladder)
    seconds = budget * known.cost(ladder.top) / known.batch
    return md.allocate(ladder, known, md.Diffusion(ladder.schedule), rule="time", seconds=seconds).method


def families() -> list[Family]:
    """Every family, in the order in which a part measures them."""
    found = []
    for eta, kinds in PEERS.items():
        for kind, name in kinds.items():
            for spacing in FOUR_SPACINGS:
                peer = Peer(f"diffusers {name} f5, {spacing}", kind, spacing)
                found.append(Family("peers", "peer", peer.label, partial(_peer, peer), eta=eta))
    for method in (md.Multistep, md.Euler):
        for grid in GRIDS:
            name = method.__name__
            found.append(Family("single", name.lower(), f"{name} f5, {grid}", partial(_single, method, grid)))
    ladders: list[tuple[tuple[str, ...], Grid]] = [
        (("f2", "f5"), "linspace"),
        (("f2", "f5"), "blend"),
        (("f1", "f3", "f5"), "blend"),
    ]
    for names, grid in ladders:
        for draws in DRAWS:
            label = f"Multilevel {'+'.join(names)}, {draws}, {grid}"
            seeds = (0,) if draws == "midpoint" else PLAN_SEEDS
            make = partial(multilevel, names, draws, grid)
            budgets = (10, 20) if draws == "cells" else (10, 20, 40)
            if draws != "cells" or names == ("f2", "f5"):
                found.append(Family("multilevel", "multilevel", label, make, budgets, seeds))
    label = "Multilevel allocated by time, systematic"
    found.append(Family("multilevel", "allocated", label, _allocated, (30,), PLAN_SEEDS, eta=1.0))
    for eta, names, substeps in LADDERS:
        label = f"LadderMultistep {'+'.join(names)}" + (f", {substeps} substeps" if not eta and substeps > 1 else "")
        make = partial(_ladder_multistep, names, substeps)
        found.append(Family("ladder", "laddermultistep", label, make, eta=eta))
    label = "LadderMultistep f2+f5, nodes searched"
    found.append(Family("ladder", "laddermultistep", label, _searched, (15, 20, 30, 40), eta=0.0))
    return found


FAMILIES = families()
PARTS = tuple(dict.fromkeys(family.part for family in FAMILIES))
