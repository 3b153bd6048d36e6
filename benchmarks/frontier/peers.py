"""Peers that use a ladder: one level up to a time, another after it.

T-Stitch (Pan et al. 2024) takes the small network first, SRDiffusion (Cheng et al. 2025) the large one first. Both are
a solver on a network that changes once; here diffusers' best one for the process at few calls. Of caches in the
network, diffusers' TaylorSeer and FirstBlock need transformer blocks, which a UNet2DModel has none of: no row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

import multidrift as md
from benchmarks.peers import Peer, run_peer

SMALL = "f2"  # the level that LadderMultistep takes, too
SHARES = (0.25, 0.5, 0.75)  # of the steps that the small level takes
SOLVERS = {
    1.0: Peer("SDE-DPM-Solver++(2M), linspace", "sde-dpm", "linspace"),
    0.0: Peer("UniPC, linspace", "unipc", "linspace"),
}
MOST_ABOVE = 1.02  # a setting of a budget costs at most so many times as much
KINDS = {"T-Stitch": True, "SRDiffusion": False}  # the small level first?


@dataclass(frozen=True)
class Switch:
    """One level for the first steps and another for the rest."""

    kind: str
    share: float  # of the steps, taken by the small level

    @property
    def label(self) -> str:
        """Name, levels and share."""
        return f"{self.kind} {SMALL}+f5, {self.share:.0%} {SMALL}"

    def steps(self, ladder: md.Ladder, budget: float) -> int:
        """The most that cost no more than so many calls of the top level, within what all others may be above it."""
        assert ladder.costs is not None
        seconds = ladder.costs.seconds
        most = int(budget * seconds[ladder.top] / seconds[SMALL]) + 1

        def price(steps: int) -> float:
            return sum(seconds[level] * number for level, number in self.calls(steps).items()) / seconds[ladder.top]

        return max((n for n in range(3, most + 1) if price(n) <= MOST_ABOVE * budget), default=2)

    def calls(self, steps: int) -> dict[str, float]:
        """Of each level; half a step is the small one's."""
        small = min(max(math.floor(self.share * steps + 0.5), 1), steps - 1)
        return {SMALL: float(small), "f5": float(steps - small)}

    def run(self, ladder: md.Ladder, start: Tensor, eta: float, steps: int, batch: int) -> Tensor:
        """Samples from these starts, of seed 0."""
        solver = SOLVERS[eta]
        scheduler = solver.scheduler()
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.double()
        first = int(self.calls(steps)[SMALL if KINDS[self.kind] else "f5"])
        middle = float(times[first - 1] + times[first]) / 2.0
        early, late = (SMALL, "f5") if KINDS[self.kind] else ("f5", SMALL)

        def net(x: Tensor, t: Tensor) -> Tensor:
            level = ladder[early if float(t.flatten()[0]) > middle else late]
            return level.predict(x, t.double().cpu().numpy(), "epsilon", {})

        model = md.Denoiser(net, ladder.schedule, "epsilon", name="switch", shape=ladder.shape)
        return run_peer(solver, model, start, steps, seed=0, batch_size=batch)


def switches() -> list[Switch]:
    """Small then large, and large then small, with every share."""
    return [Switch(kind, share) for kind in KINDS for share in SHARES]
