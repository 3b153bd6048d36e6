"""Networks that stand in for a pipeline's own, and how a method's walk asks for their predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.diffusers.catalogue import FAMILIES
from multidrift.drifts.diffusers.facts import facts_of
from multidrift.drifts.diffusers.family import Network, class_of
from multidrift.drifts.diffusers.read import _clip, _prediction
from multidrift.drifts.diffusers.source import Source
from multidrift.drifts.diffusers.traps import check_levels
from multidrift.drifts.drift import Bound, Conditioning, Drift
from multidrift.drifts.ladder import Ladder
from multidrift.processes.predictions import Prediction
from multidrift.schedules.diffusers import Scheduler, from_diffusers, is_scheduler

PARTS = ("transformer", "unet", "prior")  # what pipelines call the network that their loop evaluates
LEVELS = "an md.Ladder, or a list of networks, pipelines or Denoisers below the pipeline's own"  # what `ladder` takes
SECOND = ("transformer_2",)  # networks for a part of the noise levels
# What a network's config must have in common with the pipeline's own, which it is called like.
_ALIKE = (
    *("in_channels", "cross_attention_dim", "joint_attention_dim", "pooled_projection_dim", "caption_channels"),
    *("text_dim", "text_embed_dim"),
    "encoder_hid_dim_type",  # of an IP-Adapter: a network without one would not see its picture, and say nothing
)


@dataclass(frozen=True, eq=False)
class Question:
    """What the walk wants to know: the guided prediction of `level` at states x [n, …] of the samples `rows` [n].

    `times` [1], or [n] where states differ in it; `whole`: all samples in order at one time.
    """

    level: str
    x: Tensor
    times: Floats
    rows: Tensor
    whole: bool


Ask = Callable[[Question], Tensor]


def network_of(pipe: object) -> tuple[str, torch.nn.Module]:
    """The name and the network of a pipeline; raises on what is none."""
    for name in PARTS:
        network = getattr(pipe, name, None)
        if isinstance(network, torch.nn.Module):
            return name, network
    kind = type(pipe).__name__
    raise MultidriftError(f"pipe: got {kind}; it takes a pipeline of diffusers with one of {', '.join(PARTS)}")


def as_denoiser(scheduler: Scheduler, name: str = "model") -> Denoiser:
    """The network beside a scheduler as a Denoiser: its schedule, what it predicts, how far that is clipped."""
    dynamic = bool(scheduler.config.get("use_dynamic_shifting"))
    schedule = from_diffusers(scheduler, shift=1.0 if dynamic else None)  # the pipeline itself says how it shifts
    if schedule.family == "variance_exploding":
        kind = type(scheduler).__name__
        raise MultidriftError(f"scheduler: got {kind}, of unscaled data; it takes a training chain or a flow")
    predicts = _prediction(scheduler, schedule)
    return Denoiser(_by_asking, schedule, predicts, _clip(scheduler), name, modules=())


def named_networks(
    pipe: object, own: torch.nn.Module, like: Denoiser, ladder: Ladder | Sequence[object] | None
) -> tuple[dict[str, torch.nn.Module], Ladder | None]:
    """The networks by level, cheapest first, the pipeline's own at the top; and the ladder they came from.

    `like`: the pipeline's own network as a Denoiser.
    """
    if ladder is None:
        return {"model": own}, None
    listed = list(ladder) if isinstance(ladder, Sequence | Ladder) else []
    require(bool(listed), "ladder", ladder, LEVELS)
    names = [level.name if isinstance(level, Drift) else f"f{i + 1}" for i, level in enumerate(listed)]
    for name, level in zip(names, listed, strict=True):
        if isinstance(level, Denoiser):
            _check_kind(level, like)
        elif not isinstance(level, torch.nn.Module):
            _check_pipeline(name, level, pipe, like)
    if isinstance(ladder, Ladder):
        networks = {level.name: _module(level) for level in ladder}
        top = networks[ladder.top] is own
        require(top, "ladder", f"{ladder.top} as its top level", "one whose top level is the pipeline's own network")
        kept = ladder
    else:
        modules = [module for module in (_module(level) for level in listed) if module is not own]
        networks = dict(zip(names, modules, strict=False)) | {"model": own}
        require(len(networks) == len(modules) + 1, "ladder", names, "levels of different names, none of them 'model'")
        kept = None
    for name, module in networks.items():
        check_like(name, module, own)
    return networks, kept


def _module(level: object) -> torch.nn.Module:
    """The network of a level that was given as one, as a pipeline or as a Denoiser."""
    if isinstance(level, Denoiser):
        require(not level.layers, f"level {level.name}", "guidance or a transform", "none: guidance is the pipeline's")
        require(bool(level.modules), f"level {level.name}", type(level.net).__name__, "a network of diffusers")
        return level.modules[0]
    if isinstance(level, torch.nn.Module):
        return level
    return network_of(level)[1]


def _check_kind(level: Denoiser, like: Denoiser) -> None:
    """Refuse a Denoiser that says something else than the pipeline's network, or at other noise levels."""
    if not like.schedule.has_noise_of(level.trained_on):
        raise MultidriftError(f"level {level.name}: was trained on another noise schedule than the pipeline's network")
    said = f"predicts={level.predicts!r}"
    require(
        level.predicts == like.predicts, f"level {level.name}", said, f"{like.predicts!r}, as the pipeline's network"
    )


def _check_pipeline(name: str, level: object, pipe: object, like: Denoiser) -> None:
    """Refuse a pipeline of another schedule, another prediction or other latents, by its scheduler and its VAE."""
    scheduler = getattr(level, "scheduler", None)
    if is_scheduler(scheduler):
        _check_kind(as_denoiser(scheduler, name), like)
    pipelines = {name: level, "model": pipe}
    networks = {key: network_of(pipeline)[1] for key, pipeline in pipelines.items()}
    known = {listed for family in FAMILIES for listed in family.classes}
    if all(class_of(network) in known for network in networks.values()):
        sources = {n: Source(cast("Network", networks[n]), None, n, pipeline=pipelines[n]) for n in pipelines}
        facts = {key: replace(facts_of(source), shape=None) for key, source in sources.items()}
        check_levels(facts, same_vae=False)


def _setting(network: torch.nn.Module, key: str) -> object:
    """A value of a network's config; adapters set the attribute alone, which goes before what was saved."""
    config = getattr(network, "config", {})
    return getattr(config, key, None) or config.get(key)


def check_like(name: str, module: torch.nn.Module, own: torch.nn.Module, device: torch.device | None = None) -> None:
    """Refuse a network that cannot be called as the pipeline calls its own, on `device` or where that lies."""
    for key in _ALIKE:
        one, other = _setting(module, key), _setting(own, key)
        inner = key == "cross_attention_dim" and _setting(own, "caption_channels") is not None  # PixArt's, Sana's width
        if one != other and not inner:
            raise MultidriftError(
                f"level {name}: has {key}={one}, the pipeline's network {other}; it takes networks for one"
            )
    if hasattr(module, "_hf_hook") or (device is None and hasattr(own, "_hf_hook")):
        return  # an offloaded network is elsewhere until it is called
    place, wanted = (next((p.device for p in network.parameters()), None) for network in (module, own))
    wanted = wanted if device is None else device
    if place is not None and wanted is not None and (place.type, place.index or 0) != (wanted.type, wanted.index or 0):
        raise MultidriftError(f"level {name}: is on {place}, the pipeline runs on {wanted}; move one of them")


class AskedLevel(Denoiser):
    """A level whose predictions come from the pipeline's loop, guided there."""

    def __init__(self, ask: Ask, like: Denoiser, name: str) -> None:
        super().__init__(_by_asking, like.schedule, like.predicts, like.clip, name, like.shape, modules=())
        self.ask = ask

    def bind(self, conditioning: Conditioning, count: int) -> Bound:
        return _Asked(self, conditioning, count, self.ask)


def _by_asking(x: Tensor, t: Tensor) -> Tensor:
    raise AssertionError(x, t)  # such a level is always bound to a run, where the pipeline calls its network


@dataclass(frozen=True, eq=False)
class _Asked(Bound):
    ask: Ask

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        level = cast("AskedLevel", self.drift)
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))
        whole = len(x) == self.count and len(times) == 1
        raw = self.ask(Question(level.name, x, times, rows, whole))
        return level.converted(x, level.checked(raw, x), times, target)


def walked_model(
    networks: Mapping[str, torch.nn.Module], ladder: Ladder | None, ask: Ask, like: Denoiser
) -> Denoiser | Ladder:
    """What a method walks along: the same levels, each of which asks."""
    levels = [AskedLevel(ask, like, name) for name in networks]
    if len(levels) == 1:
        return levels[0]
    if ladder is None:
        return Ladder(levels)
    gaussian = ladder.gaussian if ladder.gaussian is not None and ladder.gaussian.schedule == like.schedule else None
    return Ladder(levels, costs=ladder.costs, gaussian=gaussian)
