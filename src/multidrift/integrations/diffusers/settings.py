"""What a run of a pipeline is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.ladder import Ladder
from multidrift.methods.method import Method


@dataclass(frozen=True)
class Settings:
    """What a run is made of: `like` is the pipeline's network as a Denoiser; `seed` draws the seeds of so many samples.

    `final_signal`: ᾱ that the pipeline's own scheduler ends at without noise, 1 for clean data. `doubles`: whether the
    pipeline holds every state twice where it guides, as DiT's does. `one_time`: why no round may hold states of several
    times, None where it may.
    """

    method: Method
    networks: Mapping[str, torch.nn.Module]
    ladder: Ladder | None
    like: Denoiser
    eta: float
    plan_seed: int
    seed: Callable[[int], int | Sequence[int]]
    training_steps: float
    final_signal: float
    doubles: bool
    one_time: str | None
