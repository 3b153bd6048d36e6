"""What a pipeline sees in the place of its scheduler: the times at which our loop wants the network, and its states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.drifts.affine import affine
from multidrift.schedules.schedule import Schedule


class Timesteps(Tensor):
    """The times of a grid, which a pipeline counts and cuts; iterated on, the times that the walk asks for.

    Cutting off the first ones (image-to-image) is passed on. While the walk is on its way there are as many times as it
    has asked for, and the one after the round is that of the walk's next states: what inpainting mixes in lies there
    also where a step takes more than one round. Everything else gives plain tensors.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # noqa: SLF001

    first: int
    walked: Walked

    @staticmethod
    def of(times: Tensor, walked: Walked, first: int = 0) -> Timesteps:
        made = times.as_subclass(Timesteps)
        made.first, made.walked = first, walked
        return made

    def __iter__(self) -> Iterator[Tensor]:
        return self.walked.iterate(self.first)

    def __len__(self) -> int:
        done = self.walked.answered
        return done + (self.walked.ahead is not None) if done else self.shape[0]

    def __getitem__(self, key: object) -> Tensor:
        if isinstance(key, int) and key == self.walked.answered > 0 and self.walked.ahead is not None:
            return self.walked.ahead
        part: Tensor = self.as_subclass(Tensor).__getitem__(key)  # type: ignore[index]  # any key of a tensor
        if isinstance(key, slice) and key.step in (None, 1) and key.stop is None:
            return Timesteps.of(part, self.walked, self.first + range(len(self))[key].start if len(part) else 0)
        return part

    def to(self, *args: object, **kwargs: object) -> Timesteps:
        moved: Tensor = self.as_subclass(Tensor).to(*args, **kwargs)  # type: ignore[call-overload]
        return Timesteps.of(moved, self.walked, self.first)


class NoiseLevels(Tensor):
    """A scheduler's noise levels, which some pipelines look up by the number of their round: that of its one time.

    `given` interpolates them at a time; where a round has several there is no one level, and it is nan.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # noqa: SLF001

    given: Callable[[float], float]
    walked: Walked

    @staticmethod
    def of(sigmas: Tensor, timesteps: Tensor, walked: Walked) -> NoiseLevels:
        made = sigmas.as_subclass(NoiseLevels)
        times, levels = (value.double().cpu().numpy()[::-1] for value in (timesteps, sigmas[: len(timesteps)]))
        made.given, made.walked = lambda time: float(np.interp(time, times, levels)), walked
        return made

    def __getitem__(self, key: object) -> Tensor:
        now = self.walked.now
        if isinstance(key, int) and now is not None:
            return torch.tensor(self.given(now), dtype=self.dtype, device=self.device)
        found: Tensor = self.as_subclass(Tensor).__getitem__(key)  # type: ignore[index]  # any key of a tensor
        return found


class Walked(Protocol):
    """The part of a run that the pipeline's calls of its scheduler reach."""

    def set_times(self, timesteps: Tensor, mu: float | None) -> Tensor: ...
    def iterate(self, first: int) -> Iterator[Tensor]: ...
    def step(self, output: Tensor, sample: Tensor) -> Tensor: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def now(self) -> float | None: ...
    @property
    def answered(self) -> int: ...
    @property
    def ahead(self) -> Tensor | None: ...
    @property
    def unmoved(self) -> Tensor | None: ...


class SchedulerShape:
    """A scheduler in a pipeline's eyes; everything that is not here is the pipeline's own scheduler's."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, own: object, walked: Walked) -> None:
        self.own, self.walked = own, walked
        self.timesteps: Tensor = torch.empty(0)

    def __getattr__(self, name: str) -> object:
        return getattr(self.own, name)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
    ) -> None:
        """The pipeline's own times, from which the method's grid is made."""
        named = {"timesteps": timesteps, "sigmas": sigmas, "mu": mu}
        given = {name: value for name, value in named.items() if value is not None}
        if num_inference_steps is not None and "timesteps" not in given:
            given["num_inference_steps"] = num_inference_steps
        try:
            self.own.set_timesteps(device=device, **given)  # type: ignore[attr-defined]
        except TypeError as error:
            kind = type(self.own).__name__
            raise MultidriftError(f"pipe: {kind} takes none of {', '.join(given)} ({error})") from error
        times = self.walked.set_times(self.own.timesteps, mu)  # type: ignore[attr-defined]
        self.timesteps = Timesteps.of(times.to(device), self.walked)
        levels = getattr(self.own, "sigmas", None)
        if isinstance(levels, Tensor):
            self.sigmas = NoiseLevels.of(levels, self.own.timesteps, self.walked)  # type: ignore[attr-defined]
        self.num_inference_steps = len(times)

    def scale_model_input(self, sample: Tensor, timestep: object = None) -> Tensor:
        """The states as they are: the network is given them in the coordinates it was trained in."""
        del timestep
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: object,
        sample: Tensor,
        eta: float = 0.0,
        generator: object = None,
        return_dict: bool = True,
        **settings: object,
    ) -> object:
        """The prediction handed on to the walk; returns what the walk wants to know next, or at the end the sample."""
        del timestep, eta, generator, settings
        after = self.walked.step(model_output, sample)
        if not return_dict:
            return (after, after)
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        return SchedulerOutput(prev_sample=after)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """α·data + σ·noise at one time a row: where image-to-image starts, and what inpainting mixes in after a step.

        After a round that ended none, what it mixes in is in the states already, and it is given those.
        """
        unmoved = self.walked.unmoved
        if unmoved is not None and unmoved.shape == original_samples.shape:
            return unmoved
        times: Floats = np.atleast_1d(timesteps.detach().double().cpu().numpy())
        schedule = self.walked.schedule
        require(len(times) in (1, len(noise)), "timesteps", len(times), f"1 or {len(noise)} times")
        return affine(original_samples, noise, (schedule.alpha(times), schedule.sigma(times)))

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """The same as flow pipelines call it."""
        return self.add_noise(sample, noise, timestep)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Nothing: the walk knows where it is."""
