"""diffusers' solvers as peers, run from the same start and fed the same Brownian path as ours."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import diffusers
import numpy as np
import torch
from torch import Tensor

import multidrift as md
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath

SPACINGS: dict[str, dict[str, object]] = {
    "linspace": {"timestep_spacing": "linspace"},
    "logsnr": {"timestep_spacing": "linspace", "use_lu_lambdas": True},
    "karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
}


@dataclass(frozen=True)
class Peer:
    """One of diffusers' schedulers with one spacing."""

    label: str
    kind: str  # "dpm", "sde-dpm" or "unipc"
    spacing: str

    def scheduler(self) -> diffusers.SchedulerMixin:
        """A fresh scheduler: they keep state between steps."""
        settings = SPACINGS[self.spacing]
        if self.kind == "unipc":
            settings = {k: v for k, v in settings.items() if k != "use_lu_lambdas"}
            if self.spacing == "logsnr":
                settings["use_exponential_sigmas"] = True  # UniPC's name for equal steps of log σ
            return diffusers.UniPCMultistepScheduler(final_sigmas_type="zero", **settings)
        algorithm = "sde-dpmsolver++" if self.kind == "sde-dpm" else "dpmsolver++"
        return diffusers.DPMSolverMultistepScheduler(
            algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero", **settings
        )


def run_peer(
    peer: Peer, denoiser: md.Denoiser, start: Tensor, steps: int, seed: int, batch_size: int | None = None
) -> Tensor:
    """The peer's samples [count, …] from `start`; stochastic ones read the path of (seed, i), as ours do.

    `batch_size`: rows of one network call, by default all.
    """
    scheduler = peer.scheduler()
    scheduler.set_timesteps(steps)
    noises = _noises(peer, denoiser, scheduler, start, seed)
    x = start
    for t, noise in zip(scheduler.timesteps.tolist(), noises, strict=True):
        with torch.no_grad():
            parts = x.split(batch_size or len(x))
            epsilon = torch.cat([denoiser.predict(p, np.full(len(p), float(t)), "epsilon", {}) for p in parts])
        extra = {} if peer.kind == "unipc" else {"variance_noise": noise}
        x = scheduler.step(epsilon, t, x, **extra).prev_sample
    return x


def _noises(
    peer: Peer, denoiser: md.Denoiser, scheduler: diffusers.SchedulerMixin, start: Tensor, seed: int
) -> list[Tensor | None]:
    """One unit normal a step, over the interval of λ = −log(σ/α) that the peer's sigmas say it crosses."""
    steps = len(scheduler.timesteps)
    if peer.kind != "sde-dpm":
        return [None] * steps
    keys = Keys.of((seed,) * len(start), range(len(start)), Stream.NOISE, start.device)
    path = BrownianPath(md.Diffusion(denoiser.schedule, 1.0), keys, start.shape[1:], start.dtype)
    lam = [-math.log(s) for s in scheduler.sigmas.tolist() if s > 0]
    return [*(path.increment(low, high) for low, high in itertools.pairwise(lam)), torch.zeros_like(start)]
