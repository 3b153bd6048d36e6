"""Networks that follow other conventions than multidrift's: EDM, k-diffusion, score_sde, flows, JAX and ONNX.

Each function takes a network as its own code base calls it and returns a `Denoiser`, or for other frameworks a network
to give to one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import dlpack

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.types import Count, Dimensions, PathLike, Positive, Takes
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.diffusers.dit import DiT
from multidrift.drifts.diffusers.family import Network as DiTNetwork
from multidrift.drifts.diffusers.sit import load_sit
from multidrift.drifts.drift import HasSample, Network
from multidrift.drifts.edm2 import load_edm2
from multidrift.schedules.continuous import VarianceExploding, VariancePreserving
from multidrift.schedules.continuous import edm as edm_schedule
from multidrift.schedules.continuous import flow as flow_schedule

Foreign: TypeAlias = Callable[..., object]  # type: ignore[explicit-any]  # arrays of another library
Values: TypeAlias = NDArray[np.generic]  # type: ignore[explicit-any]  # an array of any dtype
_UNITS_OF_VP = 999.0  # score_sde's networks of the VP process take t·999


@checked
def edm(
    net: Network,
    sigma_min: Positive = 0.002,
    sigma_max: Positive = 80.0,
    *,
    name: str = "model",
    shape: Dimensions | None = None,
    modules: Sequence[torch.nn.Module] | None = None,
) -> Denoiser:
    """A denoiser of EDM or EDM2: net(x, σ, class_labels) -> data, with its preconditioning inside.

    Labels are one-hot rows, `conditioning={"class_labels": …}`. The shape is read from `img_channels` and
    `img_resolution`. Source: Karras et al. 2022 and 2024, whose code this calls as `net(x, sigma, class_labels)`.
    """
    channels, side = getattr(net, "img_channels", None), getattr(net, "img_resolution", None)
    known = (channels, side, side) if isinstance(channels, int) and isinstance(side, int) else None
    return Denoiser(net, edm_schedule(sigma_min, sigma_max), "sample", None, name, shape or known, modules)


@checked
def k_diffusion(
    model: Network,
    sigma_min: Positive | None = None,
    sigma_max: Positive | None = None,
    *,
    name: str = "model",
    shape: Dimensions | None = None,
    modules: Sequence[torch.nn.Module] | None = None,
) -> Denoiser:
    """A denoiser as k-diffusion's samplers call it: model(x, σ, **extra_args) -> data.

    `sigma_min` and `sigma_max` are read from the model's own where it has them (`CompVisDenoiser` and others do).
    """
    low, high = (
        getattr(model, key, None) if given is None else given
        for key, given in (("sigma_min", sigma_min), ("sigma_max", sigma_max))
    )
    if low is None or high is None:
        raise MultidriftError(
            "sigma_min: got None, and the model has none of its own; it takes sigma_min and sigma_max"
        )
    return Denoiser(model, edm_schedule(float(low), float(high)), "sample", None, name, shape, modules)


@checked
def score_sde(
    model: Network,
    schedule: Annotated[VariancePreserving | VarianceExploding, Takes("md.schedules.vp() or md.schedules.ve()")],
    *,
    name: str = "model",
    shape: Dimensions | None = None,
    modules: Sequence[torch.nn.Module] | None = None,
) -> Denoiser:
    """A network of score_sde: of the VP process model(x, 999·t) -> ε, of the VE process model(x, σ) -> score.

    `schedule`: `md.schedules.vp(beta_min, beta_max)` or `ve(sigma_min, sigma_max)`, as in its config. Source: Song et
    al. 2021, `get_score_fn` with `continuous=True`.
    """
    if isinstance(schedule, VariancePreserving):
        return Denoiser(
            lambda x, t, **given: model(x, t * _UNITS_OF_VP, **given), schedule, "epsilon", None, name, shape, modules
        )
    low, ratio = schedule.smallest, schedule.largest / schedule.smallest
    return Denoiser(
        lambda x, t, **given: model(x, low * torch.pow(ratio, t), **given),
        schedule,
        "score",
        None,
        name,
        shape,
        modules,
    )


@checked
def flow(
    velocity: Network,
    data_at: Annotated[Literal[0, 1], Takes("1 (t = 0 is noise) or 0 (t = 0 is data)")],
    *,
    scale: Positive = 1.0,
    shift: Positive = 1.0,
    name: str = "model",
    shape: Dimensions | None = None,
    modules: Sequence[torch.nn.Module] | None = None,
) -> Denoiser:
    """A flow between noise and data along straight lines: velocity(x, t) = dx/dt, t from 0 to `scale`.

    `data_at=1`: t = 0 is noise and t = scale data, as in flow matching, SiT and torchcfm; `data_at=0`: the other way
    round, as in rectified flow, SD3 and Flux. `shift`: see `md.schedules.flow`.
    """
    schedule = flow_schedule(scale, shift=shift)
    if data_at == 0:
        return Denoiser(velocity, schedule, "flow", None, name, shape, modules)

    def reversed_in_time(x: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        return -_tensor(velocity(x, scale - t, **conditioning))

    return Denoiser(reversed_in_time, schedule, "flow", None, name, shape, modules)


@checked
def sit(
    path: PathLike, heads: Count | None = None, *, name: str | None = None, dtype: torch.dtype = torch.float32
) -> Denoiser:
    """SiT S, B, L or XL from its own weights: a safetensors file, or a folder with `transformer/` in it.

    Latents of Stable Diffusion's VAE, `conditioning={"class_labels": …}` [n] with 1000 for no class. The network is
    diffusers' DiT with SiT's weights; a learned variance is left out. `heads`: by default as the sizes have them.
    """
    network = load_sit(Path(path), heads, dtype)
    family = DiT(cast("DiTNetwork", network))
    label = Path(path).stem if name is None else name
    return flow(family, data_at=1, name=label, shape=family.shape, modules=[network])


@checked
def edm2(path: PathLike, *, name: str | None = None, dtype: torch.dtype = torch.float32) -> Denoiser:
    """EDM2 XS to XXL from its published safetensors: a file, or a folder with `unet/` in it.

    Latents of Stable Diffusion's VAE, whitened by EDM2's own numbers and not by 0.18215; `class_labels` [n], or one-hot
    [n, 1000], nothing for no class. The network is written from the paper, without the authors' code.
    """
    return edm(load_edm2(Path(path), dtype=dtype), name=Path(path).stem if name is None else name)


class _Foreign:
    """A network of another library, which takes and gives its arrays."""

    def __init__(self, call: Foreign, arrays: Callable[[Tensor], object], back: Callable[[object], Tensor]) -> None:
        self.call, self._arrays, self._back = call, arrays, back
        self.dtype = torch.float32

    def __call__(self, x: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        given = {name: self._given(value) for name, value in conditioning.items()}
        output = self.call(self._arrays(x.detach().contiguous()), self._arrays(t.contiguous()), **given)
        return self._back(output).to(x.device)

    def _given(self, value: object) -> object:
        return self._arrays(value.detach().contiguous()) if isinstance(value, Tensor) else value


@checked
def from_jax(function: Foreign) -> Network:
    """A JAX function f(x, t, **conditioning) as a network for `md.Denoiser`, in float32; no copy on one device.

    Arrays go over by DLPack; `jax.jit` the function first. Raises MultidriftError without jax.
    """
    try:
        from jax.dlpack import from_dlpack  # an optional extra
    except ImportError as error:
        raise MultidriftError("from_jax needs jax: pip install jax") from error
    return through_dlpack(function, from_dlpack)


@checked
def through_dlpack(function: Foreign, from_dlpack: Callable[[Tensor], object]) -> Network:
    """The same for any library whose arrays know DLPack: `from_dlpack` makes its arrays of tensors."""
    return _Foreign(function, from_dlpack, dlpack.from_dlpack)


class _Session(Protocol):
    """The part of onnxruntime.InferenceSession that is used."""

    def get_inputs(self) -> list[_Input]: ...
    def run(self, outputs: None, given: dict[str, Values]) -> list[Values]: ...


class _Input(Protocol):
    name: str
    type: str


_TYPES: Mapping[str, torch.dtype] = {
    "tensor(float16)": torch.float16,
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
}


@checked
def from_onnx(session: object) -> Network:
    """An onnxruntime InferenceSession as a network for `md.Denoiser`: its first two inputs are x and t, by numpy.

    Conditioning goes by the names of its other inputs; each input is cast to the session's own type. Raises
    MultidriftError on conditioning of other names, and on sessions with fewer than two inputs.
    """
    good = hasattr(session, "get_inputs") and hasattr(session, "run")
    require(good, "session", type(session).__name__, "an onnxruntime.InferenceSession")
    runner = cast("_Session", session)
    types = {entry.name: _TYPES.get(entry.type, torch.float32) for entry in runner.get_inputs()}
    require(len(types) >= 2, "session", list(types), "inputs for x and t")
    first, second, *others = types

    def call(x: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        require(set(conditioning) <= set(others), "conditioning", list(conditioning), f"the session's inputs {others}")
        given = {first: x, second: t, **conditioning}
        arrays = {name: torch.as_tensor(value).detach().to("cpu", types[name]).numpy() for name, value in given.items()}
        return torch.from_numpy(runner.run(None, arrays)[0]).to(x)

    return call


def _tensor(output: Tensor | HasSample) -> Tensor:
    return output if isinstance(output, Tensor) else output.sample
