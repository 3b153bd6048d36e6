"""Schedules read from diffusers' schedulers: the noise a network was trained with, not the solver's steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, TypeGuard

import numpy as np
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Count, Positive
from multidrift.schedules.chain import Discrete
from multidrift.schedules.continuous import edm, flow, ve
from multidrift.schedules.schedule import Schedule

_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
_EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
_DISTILLED = ("LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "SCMScheduler", "FlowMatchLCMScheduler")
# ᾱ that a scheduler changed after its betas (CogVideoX) is far from theirs; 2⁻²⁴ in the place of 0 is not.
_CHANGED = 1e-4
# The line of log-shift over tokens of Flux and its relatives, where a config does not give its own.
_DYNAMIC = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}


class Scheduler(Protocol):
    """The part of a diffusers scheduler that is read."""

    config: Mapping[str, object]


def is_scheduler(value: object) -> TypeGuard[Scheduler]:
    """Whether something is a scheduler of diffusers, by what it has."""
    return hasattr(value, "config") and hasattr(value, "set_timesteps")


@checked
def from_diffusers(scheduler: object, *, shift: Positive | None = None, tokens: Count | None = None) -> Schedule:
    """The schedule of a diffusers scheduler, from its config and tables.

    - `shift`: of a flow, in the place of the scheduler's own
    - `tokens`: the length of the image's sequence in the network, which gives the shift of a flow that shifts by
      resolution (Flux: a sixteenth of the latent's pixels times four)

    Training chains become `Discrete` with the scheduler's betas (rescaled to zero terminal signal, or shifted in SNR,
    where it does that), flows `Flow` with its shift, EDM's and score_sde's `KarrasEDM` and `VarianceExploding`. Times
    are those the scheduler passes on. Raises MultidriftError, naming it, on a scheduler with none of these.
    """
    require(is_scheduler(scheduler), "scheduler", type(scheduler).__name__, "a scheduler of diffusers")
    assert is_scheduler(scheduler)
    name, config = type(scheduler).__name__, scheduler.config
    _refuse(name, config)
    if name in _FLOW or config.get("use_flow_sigmas"):
        scale = _number(config, "num_train_timesteps", 1000)
        return flow(scale, shift=_shift(scheduler, tokens) if shift is None else shift)
    require(shift is None, "shift", shift, f"None with {name}, which is no flow")
    if name in _EDM:
        return edm(_number(config, "sigma_min", 0.002), _number(config, "sigma_max", 80.0))
    if name == "ScoreSdeVeScheduler":
        return ve(_number(config, "sigma_min", 0.01), _number(config, "sigma_max", 1348.0))
    return Discrete(tuple(_betas(name, scheduler).tolist()))


def _refuse(name: str, config: Mapping[str, object]) -> None:
    """Raise on schedulers that are no noise schedule of a network that predicts at every noise level."""
    if name in _DISTILLED:
        raise MultidriftError(
            f"scheduler: got {name}, made for networks distilled to a few fixed steps, which have no drift between "
            "them; it takes the scheduler of the undistilled model"
        )
    if config.get("invert_sigmas"):
        raise MultidriftError(f"scheduler: got {name} with invert_sigmas=True, which runs from data to noise")
    if config.get("timestep_type") == "continuous":
        raise MultidriftError(
            f"scheduler: got {name} with timestep_type='continuous'; it takes the network with its preconditioning as "
            "a denoiser of σ, md.conventions.edm"
        )


def _shift(scheduler: Scheduler, tokens: int | None) -> float:
    """The shift of a flow: fixed, or by resolution on the scheduler's line."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        own = getattr(scheduler, "_shift", None)  # what `set_shift` has set since
        return float(own) if own is not None else _number(config, "flow_shift", _number(config, "shift", 1.0))
    if tokens is None:
        raise MultidriftError(
            f"scheduler: {type(scheduler).__name__} shifts by resolution; it takes tokens=, the length of the image's "
            "sequence, or shift="
        )
    low, high, first, last = (_number(config, key, value) for key, value in _DYNAMIC.items())
    mu = low + (high - low) * (tokens - first) / (last - first)
    return mu if config.get("time_shift_type") == "linear" else math.exp(mu)


def _betas(name: str, scheduler: Scheduler) -> Floats:
    """β of the training chain, from the scheduler's ᾱ where that is not what its betas give."""
    betas, cumulative = getattr(scheduler, "betas", None), getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(betas, Tensor) or not isinstance(cumulative, Tensor):
        raise MultidriftError(
            f"scheduler: got {name}, whose noise cannot be told from its config; it takes one with a training chain "
            "(DDPM, DDIM, PNDM, Euler, DPM-Solver, UniPC, …), of a flow, of EDM or of score_sde"
        )
    own, kept = betas.double().cpu().numpy(), cumulative.double().cpu().numpy()
    if np.abs(np.cumprod(1.0 - own) - kept).max() < _CHANGED:
        return np.asarray(own)
    return np.asarray(1.0 - kept / np.append(1.0, kept[:-1]))


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    value = config.get(key)
    return float(value) if isinstance(value, int | float) else default
