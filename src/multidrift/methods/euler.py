"""Euler-Maruyama in straightened coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from multidrift.methods.method import GridMethod
from multidrift.runs import update
from multidrift.runs.result import State
from multidrift.runs.run import Run


@dataclass(frozen=True)
class Euler(GridMethod):
    """Hold D over every step: z ← z + Δτ·D(x, t) + ΔW. Order 1; `steps` calls of one network.

    With `Diffusion` this is DDIM (η = 0, holds="data"), DDPM with the posterior variance, which is also
    SDE-DPM-Solver++(1) (η = 1), or DPM-Solver-1 (holds="noise"); with `Overdamped` Langevin Monte Carlo, with
    `Underdamped` its exact-integrator form (Langevin: no final call). Source: Ho et al. 2020 (DDPM), Song et al. 2021
    (DDIM).
    """

    steps_are_gaussian: ClassVar[bool] = True

    def walk(self, run: Run) -> Iterator[State]:
        """z_{n+1} = z_n + Δτ_n D(x_n, t_n) + ΔW_n."""
        x = run.start
        for n, interval in enumerate(run.intervals):
            drift = run.drift(x, n)
            noise = run.noise(interval)
            z = update.increment(interval.enter(x), interval.dtau, drift, noise)
            before, x = x, interval.leave(z)
            yield run.state(n, before, drift, x, noise)
        yield from run.final(x)
