"""The model of a run: one drift, or a ladder of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch

from multidrift.basics.errors import MultidriftError, require
from multidrift.drifts.drift import Drift, Network
from multidrift.drifts.ladder import Ladder, as_drift
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.process import Process

Model: TypeAlias = Drift | Ladder
AnyModel: TypeAlias = Model | Network  # a plain function is the gradient of a log-density


def as_model(model: AnyModel) -> Model:
    """The model as it is; a plain function as the gradient of a log-density."""
    plain_module = isinstance(model, torch.nn.Module) or not callable(model)
    if not isinstance(model, Drift | Ladder) and plain_module:
        kind = type(model).__name__
        raise MultidriftError(
            f"model: got {kind!r}; it takes an md.Denoiser or an md.Ladder, or for Langevin dynamics a function that "
            "gives the gradient of a log-density"
        )
    return model if isinstance(model, Ladder) else as_drift(model)


def final_calls(model: Model) -> int:
    """Evaluations after the last step: one for diffusion, none for Langevin dynamics."""
    return 0 if model.schedule is None else 1


def process_for(model: Model, process: Process | None) -> Process:
    """The process of a run: the reverse SDE by default, of flows the ODE, else the given one if it suits the model."""
    if process is None:
        if model.schedule is None:
            raise MultidriftError("process: got None; a model without a schedule takes md.Overdamped or md.Underdamped")
        return Diffusion(model.schedule, eta=0.0 if model.schedule.family == "flow" else 1.0)  # what flows are used as
    require(isinstance(process, Process), "process", process, "an md.Diffusion, md.Overdamped or md.Underdamped")
    if process.model_schedule != model.schedule:
        if process.model_schedule is None or model.schedule is None:
            kinds = (
                "a gradient of a log-density" if process.model_schedule is None else "a Denoiser or a Ladder of them"
            )
            raise MultidriftError(f"process: got {type(process).__name__}, which takes {kinds} as its model")
        raise MultidriftError("process: its schedule is not the model's; take md.Diffusion(model.schedule, …)")
    return process


def seconds_of(model: Model, calls: Mapping[str, float]) -> float | None:
    """What so many calls of each level take, where the ladder's costs were measured."""
    measured = model.costs if isinstance(model, Ladder) else None
    if measured is None:
        return None
    # What is not measured is the closed-form Gaussian, which costs nothing beside a network.
    return sum(n * measured.seconds.get(name, 0.0) for name, n in calls.items()) / measured.batch
