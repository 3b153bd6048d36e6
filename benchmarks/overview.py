"""The table of five rows: what to use, what it gains at equal quality, and when to take something else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.frontier.report import gain_on_switches
from benchmarks.langevin.report import NAMES, fewer_than_euler
from benchmarks.multilevel.report import gain
from benchmarks.parallel.report import shorter
from benchmarks.poisson.report import calls_to_the_reference
from benchmarks.tables import rows

_HEADER = ["what I have and want", "what to use", "what it gains at equal quality (measured)", "when not"]


LADDER = "LadderMultistep f2+f5"
MIDPOINT = "Poisson midpoint, single"
BY_LAW = "as near to real digits, and not told from its samples, as 1000 calls of DDPM"


def five_rows(pages: str) -> str:
    """One row a use; `pages`: the folder of the docs."""
    ddpm, midpoint = calls_to_the_reference("DDPM"), calls_to_the_reference(MIDPOINT)
    few, with_noise = (calls_to_the_reference(f"Multistep, η = {eta}") for eta in (0, 1))
    fewer, surely = (math.floor(min(each)) for each in zip(*fewer_than_euler(MIDPOINT, "underdamped"), strict=True))
    targets = f"{len(NAMES)} targets"
    ode, sde = (shorter("gaussian, secant", steps=60, eta=eta) for eta in (0.0, 1.0))
    images = " and ".join(dict.fromkeys(f"{each.images}" for each in (ode, sde)))
    return rows(
        _HEADER,
        [
            [
                "one network; good images in few calls",
                f"[`md.Multistep`]({pages}euler-and-multistep.md)",
                f"{both(few)} calls at η = 0, {both(with_noise)} at η = 1, where DDPM takes {both(ddpm)}: {BY_LAW}",
                "you need the path of a fine SDE; diffusers' solvers do as well",
            ],
            [
                "networks of several sizes; this very path, ODE or SDE, in few calls of the big one",
                f"[`md.LadderMultistep`]({pages}ladder-multistep.md)",
                ladder_gain(),
                "a cheap level that costs more than an eighth; the ODE from 15 calls on, unless its nodes are searched",
            ],
            [
                "one network and a fine chain; samples of the chain's law",
                f"[`md.PoissonMidpoint`]({pages}poisson.md)",
                f"{both(midpoint)} calls where DDPM takes {both(ddpm)}, with intervals as wide as that: {BY_LAW}",
                "good images are all you want: the first row",
            ],
            [
                "a log-density or its gradient; samples by Langevin dynamics",
                f"[`md.Underdamped` with `md.PoissonMidpoint`]({pages}langevin.md)",
                f"a bias of 1% in at least {fewer} times fewer gradients than Euler ({targets}; {surely} by intervals)",
                "no bias is allowed (NUTS, MALA); a smooth density in jax (diffrax)",
            ],
            [
                "an idle device; one urgent sample",
                f"[`md.Picard`]({pages}picard.md)",
                f"a chain of calls {ode} (ODE) and {sde} (SDE) times shorter at 60 steps ({images} images of one seed)",
                "throughput; a processor; a device that a batch already fills",
            ],
        ],
    )


def ladder_gain() -> str:
    """What LadderMultistep gains at the cost of ten calls of the top level: on diffusers' solvers, on ladder peers."""
    every = {name: gain(process, 10, LADDER, "median") for process, name in (("sde", "SDE"), ("ode", "ODE"))}
    found = {name: value for name, value in every.items() if value is not None}
    cells = [f"{v:.1f} [{low:.1f}, {high:.1f}] ({name})" for name, (v, low, high) in found.items()]
    switched = [gain_on_switches(process, 10, LADDER, "median") for process in ("sde", "ode")]
    beside = " and ".join(f"{value:.1f}" for value in switched if value is not None)
    return (
        f"{' and '.join(cells)} times less median error than the best solver of diffusers at 10 calls' cost; {beside} "
        "times less than its best switch from one level to another (T-Stitch, SRDiffusion)"
    )


def both(calls: Sequence[float]) -> str:
    """Calls by the two criteria of the law."""
    return " and ".join(f"{number:.0f}" for number in calls)
