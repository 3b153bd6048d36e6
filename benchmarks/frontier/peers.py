"""Peers that use a ladder: one level up to a time, another after it.

T-Stitch (Pan et al. 2024) takes the small network first, SRDiffusion (Cheng et al. 2025) the large one first. Both are
a solver on a network that changes once. Of caches in the network, diffusers' TaylorSeer and FirstBlock need transformer
blocks, which a UNet2DModel has none of: they have no row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

import multidrift as md

SHARES = (0.25, 0.5, 0.75)  # of the steps that the small level takes


@dataclass(frozen=True)
class Switch:
    """One level for the first steps and another for the rest, with Multistep."""

    label: str
    small: str
    share: float  # of the steps, taken by the small level
    small_first: bool

    def steps(self, ladder: md.Ladder, budget: float) -> int:
        """As many as cost so many calls of the top level."""
        seconds = ladder.costs.seconds
        price = self.share * seconds[self.small] / seconds[ladder.top] + 1.0 - self.share
        return max(2, int(budget / price))

    def run(self, ladder: md.Ladder, process: md.Diffusion, steps: int, count: int, batch: int) -> md.Result:
        """Samples of seed 0."""
        small, top = ladder[self.small], ladder[ladder.top]
        times = md.grid_times(ladder.schedule, steps, "blend")
        number = min(max(round(self.share * steps), 1), steps - 1)
        edge = times[number - 1 : number + 1] if self.small_first else times[steps - number - 1 : steps - number + 1]
        middle = float(np.mean(edge))

        def net(x: Tensor, t: Tensor) -> Tensor:
            early = float(t[0]) > middle
            return (small if early == self.small_first else top).predict(x, t.double().cpu().numpy(), "epsilon", {})

        model = md.Denoiser(net, ladder.schedule, "epsilon", name="switch", shape=ladder.shape)
        return md.sample(model, md.Multistep(steps, "blend"), process, count=count, batch_size=batch)


def switches(ladder: md.Ladder) -> list[Switch]:
    """Small then large, and large then small, with every small level and share."""
    kinds = {"T-Stitch": True, "SRDiffusion": False}
    return [
        Switch(f"{kind} {name}, {share:.0%} small", name, share, first)
        for kind, first in kinds.items()
        for name in ladder.names[:-1]
        for share in SHARES
    ]
