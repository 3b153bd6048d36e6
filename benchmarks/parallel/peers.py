"""Other parallel samplers, driven as their authors drive them: ParaDiGMS through diffusers' schedulers, and SRDS."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import diffusers
import torch
from torch import Tensor

import multidrift as md


@dataclass(frozen=True)
class Progress:
    """After one iteration: calls one after another, rows evaluated per image, and the state at the last time."""

    sequential: int
    calls: float
    x: Tensor


def scheduler(name: str, steps: int) -> diffusers.DDPMParallelScheduler | diffusers.DDIMParallelScheduler:
    """The DDPMParallelScheduler ("ddpm") or DDIMParallelScheduler ("ddim") on the chain of the digits ladder."""
    betas = list(md.schedules.ddpm().betas)
    settings = {"num_train_timesteps": len(betas), "trained_betas": betas, "clip_sample": False}
    kind = {"ddpm": diffusers.DDPMParallelScheduler, "ddim": diffusers.DDIMParallelScheduler}[name]
    made = kind(**settings, timestep_spacing="leading")
    made.set_timesteps(steps)
    return made


class Paradigms:
    """The loop of diffusers' ParaDiGMS pipeline (Shih et al. 2023) for one scheduler and one set of noises."""

    def __init__(self, network: torch.nn.Module, name: str, start: Tensor, steps: int) -> None:
        self.network, self.scheduler, self.start = network, scheduler(name, steps), start
        self.times = self.scheduler.timesteps
        self.steps = len(self.times)  # diffusers gives one more than asked for where they do not divide the chain
        generator = torch.Generator().manual_seed(1)
        scale = torch.tensor([self.scheduler._get_variance(int(t)) ** 0.5 for t in self.times])  # noqa: SLF001
        noise = torch.randn((self.steps, *start.shape), generator=generator)
        noise[-1] = 0.0  # as its pipeline does
        noisy = name == "ddpm"
        self.noise = noise * scale.clamp(min=0).view(-1, *(1,) * start.ndim) if noisy else torch.zeros_like(noise)
        self.scale = scale.clamp(min=1e-6)

    def image(self, number: int) -> Paradigms:
        """The same for one of the images: in a batch, each waits for all."""
        one = copy(self)
        one.start, one.noise = self.start[number : number + 1], self.noise[:, number : number + 1]
        return one

    def _moves(self, x: Tensor, first: int) -> Tensor:
        """Φ_j(x_j) − x_j for the steps from `first` on, x [n, count, …], in one call."""
        n, count = x.shape[:2]
        times = self.times[first : first + n].repeat_interleave(count)
        rows = x.flatten(0, 1)
        noise = self.network(rows, times).sample
        return (self.scheduler.batch_step_no_noise(noise, times, rows) - rows).view_as(x)

    def sequential(self) -> Tensor:
        """Step by step, with the same noises."""
        x = self.start
        for n in range(self.steps):
            x = x + self._moves(x[None], n)[0] + self.noise[n]
        return x

    def run(self, window: int, tolerance: float) -> Progress:
        """The sliding window, until its end has passed the last step."""
        path = self.start[None].repeat(self.steps + 1, *(1,) * self.start.ndim)
        begin, end, iterations, calls = 0, min(window, self.steps), 0, 0
        while begin < self.steps:
            moves = self._moves(path[begin:end], begin) + self.noise[begin:end]
            new = path[begin] + moves.cumsum(0)
            error = (new - path[begin + 1 : end + 1]).square().flatten(2).mean(2)
            # The change of point m is measured by the noise of the step that leads to it, as the pipeline does.
            failed = (error > tolerance**2 * self.scale[begin:end, None] ** 2).any(1)
            stride = int(failed.int().argmax()) + 1 if bool(failed.any()) else end - begin
            iterations, calls = iterations + 1, calls + (end - begin)
            path[begin + 1 : end + 1] = new
            new_begin, new_end = begin + stride, min(begin + stride + window, self.steps)
            path[end + 1 : new_end + 1] = path[end]
            begin, end = new_begin, new_end
        return Progress(iterations, calls, path[-1])


class Parareal:
    """SRDS (Selvam et al. 2024): the coarse step is one step of the same network over a block of √N fine ones. ODE."""

    def __init__(self, model: md.Denoiser, start: Tensor, times: list[float]) -> None:
        self.model, self.start, self.times = model, start, torch.tensor(times, dtype=torch.float64).numpy()
        self.process = md.Diffusion(model.schedule, 0.0)
        steps = len(times) - 1
        self.block = math.isqrt(steps - 1) + 1
        self.ends = [*range(0, steps, self.block), steps]

    def _step(self, x: Tensor, t: list[int], s: list[int]) -> Tensor:
        """One DDIM step of every row [n, count, …] from time number t[i] to s[i], in one call."""
        count = x.shape[1]
        first, last = (self.times[i].repeat(count) for i in (t, s))
        rows = x.flatten(0, 1)
        step = self.process.intervals(first, last).together(rows)
        data = self.model.predict(rows, first, "sample", {})
        return step.leave(step.enter(rows) + step.dtau * data).view_as(x)

    def run(self) -> Iterator[Progress]:
        """Parareal: x_{i+1} ← F(old x_i) + G(new x_i) − G(old x_i)."""
        starts, ends = self.ends[:-1], self.ends[1:]
        path = [self.start]
        for first, last in zip(starts, ends, strict=True):
            path.append(self._step(path[-1][None], [first], [last])[0])
        sequential = rows = len(starts)
        coarse = torch.stack(path[1:])
        yield Progress(sequential, rows, path[-1])
        for _ in starts:
            fine = torch.stack(path[:-1])
            for offset in range(self.block):
                going = [i for i, (a, b) in enumerate(zip(starts, ends, strict=True)) if a + offset < b]
                times = [starts[i] + offset for i in going]
                fine[going] = self._step(fine[going], times, [n + 1 for n in times])
                rows += len(going)
            new = [self.start]
            for i, (first, last) in enumerate(zip(starts, ends, strict=True)):
                again = self._step(new[-1][None], [first], [last])[0]
                new.append(fine[i] + again - coarse[i])
                coarse[i] = again
            path = new
            sequential, rows = sequential + self.block + len(starts), rows + len(starts)
            yield Progress(sequential, rows, path[-1])
