"""All that a Denoiser takes, from a diffusers network and its scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch

from multidrift.basics.errors import MultidriftError
from multidrift.drifts.diffusers.catalogue import family_of
from multidrift.drifts.diffusers.family import Family, Shape
from multidrift.drifts.diffusers.source import Source
from multidrift.drifts.diffusers.unet import UNet
from multidrift.drifts.diffusers.units import Preconditioned, ScoreOfSigma
from multidrift.drifts.drift import Network
from multidrift.processes.predictions import Prediction
from multidrift.schedules.continuous import KarrasEDM, VarianceExploding
from multidrift.schedules.diffusers import Scheduler, from_diffusers
from multidrift.schedules.schedule import Schedule

Clip = float | Literal["scheduler"] | None

_PREDICTIONS: dict[object, Prediction] = {
    "epsilon": "epsilon",
    "sample": "sample",
    "v_prediction": "v_prediction",
    "flow_prediction": "flow",
}


@dataclass(frozen=True)
class Reading:
    """The arguments of a Denoiser, and the modules that stand behind its network."""

    net: Network
    schedule: Schedule
    predicts: Prediction
    clip: float | None
    name: str
    shape: Shape | None
    modules: tuple[torch.nn.Module, ...]


def read(
    source: Source,
    predicts: Prediction | None = None,
    clip: Clip = "scheduler",
    shape: Shape | None = None,
    shift: float | None = None,
) -> Reading:
    """What was read of a pipeline, as the arguments of a Denoiser; see `Denoiser.from_diffusers`."""
    if source.scheduler is None:
        raise MultidriftError("scheduler: got None; a network alone takes the scheduler it was trained with")
    family = family_of(source.network)
    size = family.shape if shape is None else shape
    schedule = _schedule(family, source.scheduler, size, shift)
    kind = _prediction(source.scheduler, schedule) if predicts is None else predicts
    net, kind = _in_scheduler_units(family, source.scheduler, schedule, kind)
    return Reading(
        net=net,
        schedule=schedule,
        predicts=kind,
        clip=_clip(source.scheduler) if clip == "scheduler" else clip,
        name=source.name,
        shape=size,
        modules=(cast("torch.nn.Module", source.network),),
    )


def _schedule(family: Family, scheduler: Scheduler, shape: Shape | None, shift: float | None) -> Schedule:
    """The scheduler's schedule; of a flow that shifts by resolution, for latents of this shape."""
    if shift is not None or not scheduler.config.get("use_dynamic_shifting"):
        return from_diffusers(scheduler, shift=shift)
    if shape is None:
        raise MultidriftError(
            f"shape: got None with {type(scheduler).__name__}, which shifts by resolution; it takes one sample's "
            "latent shape, or shift="
        )
    return from_diffusers(scheduler, shift=family.shift(shape), tokens=family.tokens(shape))


def _prediction(scheduler: Scheduler, schedule: Schedule) -> Prediction:
    """What the scheduler takes the network's output for."""
    if isinstance(schedule, VarianceExploding):
        return "score"
    said = scheduler.config.get("prediction_type")
    if said is None:
        return "flow" if schedule.family == "flow" else "epsilon"
    if said not in _PREDICTIONS:
        raise MultidriftError(f"scheduler: got prediction_type={said!r}; it takes {', '.join(map(str, _PREDICTIONS))}")
    return _PREDICTIONS[said]


def _clip(scheduler: Scheduler) -> float | None:
    """The largest predicted data that the scheduler lets pass."""
    config = scheduler.config
    if config.get("thresholding"):
        raise MultidriftError(
            "scheduler: got thresholding=True, which bounds each sample by its own quantile; it takes clip=, a number "
            "or None, in its place"
        )
    bound = config.get("clip_sample_range", 1.0)
    return float(cast("float", bound)) if config.get("clip_sample") else None


def _in_scheduler_units(
    family: Family, scheduler: Scheduler, schedule: Schedule, kind: Prediction
) -> tuple[Network, Prediction]:
    """The network as the schedule's states and times reach it, and what it then predicts."""
    if isinstance(schedule, KarrasEDM):
        data = scheduler.config.get("sigma_data")
        return Preconditioned(family, float(data) if isinstance(data, int | float) else 0.5, kind), "sample"
    if isinstance(schedule, VarianceExploding):
        return ScoreOfSigma(family, schedule), kind
    if isinstance(family, UNet) and family.setting("out_channels") == family.setting("in_channels"):
        return cast("Network", family.network), kind  # it is called as it is, and can be saved in a ladder's folder
    return family, kind
