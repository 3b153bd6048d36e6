"""diffusers' solvers as peers, run from the same start and fed the same Brownian path as ours."""

from __future__ import annotations

import itertools
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from unittest import mock

import diffusers
import numpy as np
import torch
from torch import Tensor

import multidrift as md
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
from multidrift.schedules.schedule import Schedule

SPACINGS: dict[str, dict[str, object]] = {
    "linspace": {"timestep_spacing": "linspace"},
    "logsnr": {"timestep_spacing": "linspace", "use_lu_lambdas": True},
    "karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
}
# The fourth is our default grid, handed to the scheduler as it is. (diffusers' own "trailing" is "linspace" within a
# training step, and its "beta" spacing is laid out in σ: errors a hundred times as large.)
FOUR_SPACINGS: dict[str, dict[str, object]] = SPACINGS | {"blend": {"timestep_spacing": "linspace"}}


@dataclass(frozen=True)
class Peer:
    """One of diffusers' schedulers with one spacing."""

    label: str
    kind: str  # "dpm", "sde-dpm", "unipc" or "sa" (the SDE: tau = 1 at every time)
    spacing: str

    def scheduler(self) -> diffusers.SchedulerMixin:
        """A fresh scheduler: they keep state between steps."""
        settings = FOUR_SPACINGS[self.spacing]
        if self.kind in ("unipc", "sa"):
            settings = {k: v for k, v in settings.items() if k != "use_lu_lambdas"}
            if self.spacing == "logsnr":
                settings["use_exponential_sigmas"] = True  # their name for equal steps of log σ
        if self.kind == "unipc":
            return diffusers.UniPCMultistepScheduler(final_sigmas_type="zero", **settings)
        if self.kind == "sa":
            return diffusers.SASolverScheduler(tau_func=lambda _: 1, **settings)
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
    if peer.spacing == "blend":
        _hand_over(scheduler, md.grid_times(denoiser.schedule, steps, "blend"), denoiser.schedule)
    noises = _noises(peer, denoiser, scheduler, start, seed)
    x = start
    for t, noise in zip(scheduler.timesteps.tolist(), noises, strict=True):
        with torch.no_grad():
            parts = x.split(batch_size or len(x))
            epsilon = torch.cat([denoiser.predict(p, np.full(len(p), float(t)), "epsilon", {}) for p in parts])
        extra = {"variance_noise": noise} if peer.kind in ("dpm", "sde-dpm") else {}
        with _drawing(peer, noise):
            x = scheduler.step(epsilon, t, x, **extra).prev_sample
    # Off equal steps of t SA-Solver ends with a step of no length; its last prediction of the data is the better end.
    ends_still = peer.kind == "sa" and scheduler.sigmas[-1] == scheduler.sigmas[-2]
    return scheduler.model_outputs[-1] if ends_still else x


def _hand_over(scheduler: diffusers.SchedulerMixin, times: np.ndarray, schedule: Schedule) -> None:
    """Replace the scheduler's times, and its σ/α with the last one (0, or SA-Solver's step of no length) kept."""
    sigmas = np.exp(-schedule.log_snr(times))
    last = sigmas[-1] if isinstance(scheduler, diffusers.SASolverScheduler) else 0.0
    scheduler.timesteps = torch.from_numpy(times)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, last)).float()


def _drawing(peer: Peer, noise: Tensor | None) -> AbstractContextManager[object]:
    """SA-Solver takes no noise as an argument, only draws it itself: what it draws is the path's."""
    if peer.kind != "sa":
        return nullcontext()
    return mock.patch("diffusers.schedulers.scheduling_sasolver.randn_tensor", return_value=noise)


def _noises(
    peer: Peer, denoiser: md.Denoiser, scheduler: diffusers.SchedulerMixin, start: Tensor, seed: int
) -> list[Tensor | None]:
    """One unit normal a step, over the interval of λ = −log(σ/α) that the peer's sigmas say it crosses; the last: 0."""
    steps = len(scheduler.timesteps)
    if peer.kind not in ("sde-dpm", "sa"):
        return [None] * steps
    keys = Keys.of((seed,) * len(start), range(len(start)), Stream.NOISE, start.device)
    path = BrownianPath(md.Diffusion(denoiser.schedule, 1.0), keys, start.shape[1:], start.dtype)
    lam = [-math.log(s) for s in scheduler.sigmas[:steps].tolist()]
    return [*(path.increment(low, high) for low, high in itertools.pairwise(lam)), torch.zeros_like(start)]
