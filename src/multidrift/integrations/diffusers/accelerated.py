"""A pipeline of diffusers whose denoise loop is any method of the package, until it is undone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Annotated, Self, cast

import torch

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.types import NotNegative, Seed, Takes
from multidrift.drifts.guider import Guider
from multidrift.drifts.ladder import Ladder
from multidrift.integrations.diffusers.guider import LevelGuider
from multidrift.integrations.diffusers.inputs import inputs, seeds, with_callback
from multidrift.integrations.diffusers.levels import LEVELS, SECOND, as_denoiser, check_like, named_networks, network_of
from multidrift.integrations.diffusers.loop import Loop
from multidrift.integrations.diffusers.network import StandIn, cast_to_dtype
from multidrift.integrations.diffusers.regrid import with_steps
from multidrift.integrations.diffusers.rounds import STEP_BY_STEP, one_time, refuse_by_rounds
from multidrift.integrations.diffusers.scheduler import SchedulerShape
from multidrift.integrations.diffusers.settings import Settings
from multidrift.methods.method import Method
from multidrift.runs.result import State
from multidrift.schedules.diffusers import Scheduler, is_scheduler

_NOISY = (
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
)
_DOUBLED = ("DiTPipeline",)
_LAST = "maybe_free_model_hooks"  # a pipeline's last act: it takes hooks off its parts and puts them on again
_NO_PART_OF = ("denoising_end", "denoising_start")  # a part of the noise levels alone: SDXL with its refiner


@checked
def accelerate(
    pipe: object,
    method: Annotated[Method, Takes("a method, such as md.Euler(steps=50)")],
    ladder: Annotated[Ladder | Sequence[object] | None, Takes(LEVELS)] = None,
    *,
    eta: NotNegative | None = None,
    plan_seed: Seed = 0,
) -> Accelerated:
    """Let a pipeline of diffusers denoise with `method`; `pipe(…)` stays the call, `.undo()` takes it back.

    - `pipe`: a pipeline, classic or modular, with one network and one scheduler in its loop. Encoding, guidance,
      control and the VAE stay its own; so do `generator` (one, or one a sample), `callback_on_step_end`,
      `num_images_per_prompt`, `strength`, `output_type`, offloading and dtypes
    - `method`: where it names no grid, it runs on the times of the pipeline's scheduler; `num_inference_steps=` in a
      call takes the place of its steps, and its `calls` follow in proportion
    - `ladder`: an `md.Ladder` whose top level is the pipeline's network; or networks, pipelines or Denoisers below it,
      cheapest first. Every level is given the pipeline's conditioning
    - `eta`: the amount of noise; by default 1 where the pipeline's scheduler adds noise (DDPM, ancestral, SDE solvers),
      else 0; an `eta=` of the call comes first

    States are float32 between steps, whatever the networks compute in. With one generator sample i depends on what it
    draws and on i, with a list on its own generator alone. Raises MultidriftError on pipelines, schedulers, levels and
    caches that cannot be, naming them.
    """
    require(
        not isinstance(getattr(pipe, "scheduler", None), SchedulerShape), "pipe", "one that is running", "one at rest"
    )
    if getattr(type(pipe), "_accelerated", None) is not None:
        raise MultidriftError("pipe: is accelerated already; undo() that first")
    return Accelerated(pipe, method, ladder, eta, plan_seed)


class Accelerated:
    """What `accelerate` gives: `undo()` restores the pipeline, also at the end of a `with` block.

    - `calls`: of the last run, rows passed to each level per sample, without the pipeline's own rows for guidance
    - `state`: its last state, the sample in `x`
    """

    def __init__(
        self,
        pipe: object,
        method: Method,
        ladder: Ladder | Sequence[object] | None,
        eta: float | None,
        plan_seed: int,
    ) -> None:
        self.pipe, self.method, self.eta, self.plan_seed = pipe, method, eta, plan_seed
        self.part, self.network = network_of(pipe)
        like = as_denoiser(self.scheduler)  # a scheduler that cannot be is refused now
        self.networks, self.ladder = named_networks(pipe, self.network, like, ladder)
        self.state: State | None = None
        self._kind = type(pipe)
        pipe.__class__ = _with_call(self._kind, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def undo(self) -> None:
        """Give the pipeline its own loop back; harmless a second time."""
        if type(self.pipe) is not self._kind:
            self.pipe.__class__ = self._kind

    @property
    def calls(self) -> Mapping[str, float]:
        """Rows passed to each level per sample in the last run; {} before the first."""
        return {} if self.state is None else self.state.calls

    @property
    def scheduler(self) -> Scheduler:
        """The pipeline's own."""
        own = getattr(self.pipe, "scheduler", None)
        require(is_scheduler(own), "pipe", type(self.pipe).__name__, "a pipeline with a scheduler of its own")
        return cast("Scheduler", own)

    def _check_levels(self) -> None:
        """What a pipeline may have got since it was accelerated: an IP-Adapter, another device."""
        offloaded = hasattr(self.network, "_hf_hook")
        device = getattr(self.pipe, "_execution_device", None) if offloaded else None
        for name, network in self.networks.items():
            check_like(name, network, self.network, device)

    def called(self, *args: object, **kwargs: object) -> object:
        """`pipe(…)`: the pipeline's own call, with our scheduler and network in it for as long as it runs."""
        call = inspect.signature(self._kind.__call__).bind(self.pipe, *args, **kwargs)
        given, takes = inputs(self.pipe, call)
        own = self.scheduler
        for name in _NO_PART_OF:
            require(given.get(name) is None, name, given.get(name), "None: the loop runs to clean data")
        number = given.get("num_inference_steps")
        method = with_steps(self.method, number) if isinstance(number, int) else self.method
        refuse_by_rounds(self.pipe, method, self.networks, given)
        self._check_levels()
        if "num_inference_steps" in takes and "timesteps" not in given and "sigmas" not in given:
            given["num_inference_steps"] = method.number_of_evaluations
        loop = Loop(self._settings(own, method, given))
        with_callback(given, takes, loop)
        try:
            with self._in_place(own, loop):
                return self._kind.__call__(*call.args, **call.kwargs)
        except RuntimeError as error:
            if not loop.at_many_times:
                raise
            message = "pipe: its loop does not take states of several times, or of some samples, at once"
            raise MultidriftError(f"{message}; {STEP_BY_STEP} ({error})") from error
        finally:
            loop.close()
            self.state = loop.state

    def _settings(self, own: Scheduler, method: Method, given: Mapping[str, object]) -> Settings:
        eta = given.get("eta", self.eta)
        if eta is None:
            sde = str(own.config.get("algorithm_type", "")).startswith("sde") or own.config.get("stochastic_sampling")
            eta = 1.0 if sde or type(own).__name__ in _NOISY else 0.0
        final = getattr(own, "final_alpha_cumprod", 1.0)
        return Settings(
            method=method,
            networks=self.networks,
            ladder=self.ladder,
            like=as_denoiser(own),
            eta=float(cast("float", eta)),
            plan_seed=self.plan_seed,
            seed=functools.partial(seeds, given.get("generator")),
            training_steps=float(cast("float", own.config.get("num_train_timesteps", 1000))),
            final_signal=float(final),
            doubles=any(base.__name__ in _DOUBLED for base in self._kind.__mro__),
            one_time=one_time(self.pipe),
        )

    @contextmanager
    def _in_place(self, own: Scheduler, loop: Loop) -> Iterator[None]:
        """The pipeline with our parts, and afterwards with its own, past its own bookkeeping of parts."""
        parts: dict[str, object] = {"scheduler": SchedulerShape(own, loop)}
        for name in (self.part, *SECOND):
            network = getattr(self.pipe, name, None)
            if isinstance(network, torch.nn.Module):
                parts[name] = StandIn(network, loop.called)
        guider = getattr(self.pipe, "guider", None)
        if isinstance(guider, Guider):
            parts["guider"] = LevelGuider(guider, loop)
        kept = {name: getattr(self.pipe, name) for name in parts}
        control = getattr(self.pipe, "controlnet", None)
        try:
            for name, part in parts.items():
                object.__setattr__(self.pipe, name, part)
            object.__setattr__(self.pipe, _LAST, lambda: None)
            with cast_to_dtype(control):
                yield
        finally:
            object.__delattr__(self.pipe, _LAST)
            for name, part in kept.items():
                object.__setattr__(self.pipe, name, part)
        if hasattr(self.pipe, _LAST):
            getattr(self.pipe, _LAST)()


def _with_call(kind: type, accelerated: Accelerated) -> type:
    """The pipeline's class with our call, of the same name, so that saving and loading see no difference."""

    @functools.wraps(kind.__call__)
    def call(pipe: object, *args: object, **kwargs: object) -> object:
        del pipe
        return accelerated.called(*args, **kwargs)

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {"__call__": call, "_accelerated": accelerated, **names})
