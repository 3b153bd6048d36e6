"""The loops that are compared: bare network calls, diffusers' schedulers, `md.sample`, pipelines with and without."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import diffusers
import torch
from torch import Tensor

import multidrift as md

Network = Callable[..., Tensor]
Loop = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """A network on batches of states [batch, *shape] along `steps` times; `module`: what diffusers' loops call."""

    name: str
    network: torch.nn.Module | Network
    shape: tuple[int, ...]
    batch: int
    steps: int
    device: torch.device

    @property
    def times(self) -> tuple[float, ...]:
        """The times of DDIM's and DDPM's leading grid."""
        return tuple(float(n * (1000 // self.steps)) for n in reversed(range(self.steps)))

    def start(self) -> Tensor:
        """The same states for every loop."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn((self.batch, *self.shape), generator=generator).to(self.device)


OPTIONS = {
    "as it is": {},
    "channels-last": {"channels_last": True},
    "parts of 64": {"rows": 64},
    "parts of 16": {"rows": 16},
    "channels-last in parts of 64": {"channels_last": True, "rows": 64},
    "compiled": {"compiled": True},
    "compiled: reduce-overhead": {"compiled": "reduce-overhead"},  # CUDA graphs on a GPU
}


def with_options(setting: Setting, options: Sequence[str]) -> dict[str, Loop]:
    """`md.sample` with a network of its own for each of the options."""
    found = {}
    for name in options:
        network = copy.deepcopy(setting.network)
        denoiser = md.Denoiser(network, md.schedules.ddpm(), shape=setting.shape).optimized(**OPTIONS[name])
        found[name] = partial(_sampled, setting, denoiser, 1.0)
    return found


def loops(setting: Setting) -> dict[str, Loop]:
    """Every loop of a setting, by name."""
    found = {
        "bare calls": lambda: bare(setting),
        "diffusers DDIM": lambda: scheduled(setting, diffusers.DDIMScheduler(clip_sample=False)),
        "diffusers DDPM": lambda: scheduled(setting, diffusers.DDPMScheduler(clip_sample=False)),
        "multidrift, ODE": lambda: ours(setting, 0.0),
        "multidrift, SDE": lambda: ours(setting, 1.0),
    }
    if isinstance(setting.network, diffusers.UNet2DModel):
        found["pipeline, its own loop"] = lambda: piped(setting, accelerated=False)
        found["pipeline, our loop"] = lambda: piped(setting, accelerated=True)
    return found


@torch.no_grad()
def bare(setting: Setting) -> Tensor:
    """The network called as often, on the same state, and nothing else."""
    x = setting.start()
    for t in setting.times:
        found = _prediction(setting.network(x, torch.full((setting.batch,), t, device=setting.device)))
    return found


@torch.no_grad()
def scheduled(setting: Setting, scheduler: diffusers.DDIMScheduler | diffusers.DDPMScheduler) -> Tensor:
    """The loop of diffusers' documentation."""
    x = setting.start()
    scheduler.set_timesteps(setting.steps, device=setting.device)
    for t in scheduler.timesteps:
        x = scheduler.step(_prediction(setting.network(x, t.expand(setting.batch))), t, x).prev_sample
    return x


def ours(setting: Setting, eta: float) -> Tensor:
    """`md.sample` on the same times."""
    return _sampled(setting, md.Denoiser(setting.network, md.schedules.ddpm(), shape=setting.shape), eta)


def _sampled(setting: Setting, denoiser: md.Denoiser, eta: float) -> Tensor:
    process, method = md.Diffusion(denoiser.schedule, eta), md.Euler(times=setting.times)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", md.RunWarning)  # the free network is no network
        return md.sample(denoiser, method, process, start=setting.start(), progress=False).samples


def piped(setting: Setting, *, accelerated: bool) -> object:
    """A DDIM pipeline in pixels, with its own loop or ours."""
    pipe = diffusers.DDIMPipeline(setting.network, diffusers.DDIMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    call = {"batch_size": setting.batch, "num_inference_steps": setting.steps, "output_type": "pt"}
    if not accelerated:
        return pipe(**call)
    with md.integrations.diffusers.accelerate(pipe, md.Euler(setting.steps)):
        return pipe(**call)


def _prediction(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else output.sample
