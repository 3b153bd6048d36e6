"""Resolve and check the arguments of a run before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.devices import named_device
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.memory import check_size
from multidrift.basics.numbers import Floats
from multidrift.drifts.conditioning import check_conditioning
from multidrift.drifts.drift import Drift
from multidrift.drifts.model import AnyModel, Model, as_model, process_for
from multidrift.methods.catalogue import method_from_dict
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.method import Method
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
from multidrift.processes.process import Process
from multidrift.runs.evaluator import Evaluate, Evaluator
from multidrift.runs.guard import FiniteGuard
from multidrift.runs.marginals import MarginalGuard
from multidrift.runs.plan import Plan
from multidrift.runs.run import Run

_EXPLODED = 1e12  # a position or a velocity beyond this is no state of a chain any more


_MOST = 10_000_000  # samples of one run: their numbers alone take a gigabyte
_SAMPLES = 1 << 63  # numbers of samples beyond would repeat earlier ones


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a run was asked for: the arguments of `sample` and `steps`, which say what each of them means."""

    model: AnyModel
    method: Method | Plan
    process: Process | None = None
    count: int | None = None
    seed: int | Sequence[int] = 0
    first: int | Sequence[int] = 0
    start: Tensor | None = None
    velocities: Tensor | None = None
    shape: Sequence[int] | None = None
    plan_seed: int = 0
    conditioning: Mapping[str, object] | None = None
    batch_size: int | None = None
    memory_limit: float | None = None
    device: torch.device | str | None = None
    dtype: torch.dtype = torch.float32
    grad: bool = False
    evaluate: Evaluate | None = None


@dataclass(frozen=True)
class _Batch:
    """Which samples a run draws: seeds[i] and samples[i] identify sample i; its own draws belong to numbers[i]."""

    seeds: tuple[int, ...]
    samples: tuple[int, ...]
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def keys(self, stream: Stream, device: torch.device) -> Keys:
        return Keys.of(self.seeds, self.samples, stream, device)

    def names(self, kind: str) -> list[str]:
        """What to call each sample in an error."""
        own = len(set(self.seeds)) > 1
        pairs = zip(self.seeds, self.numbers, strict=True)
        return [f"{kind} {number} (seed {seed})" if own else f"{kind} {number}" for seed, number in pairs]


def prepare(given: Arguments) -> tuple[Method, Run]:
    """The run that these arguments describe, or one error that names the argument at fault."""
    model = as_model(given.model)
    _check(given)
    process = process_for(model, given.process)
    batch = _batch(given.count, given.seed, given.first, given.start)
    conditioning = check_conditioning(given.conditioning, len(batch))
    made = given.method if isinstance(given.method, Plan) else None
    method = method_from_dict(made.method) if made is not None else cast("Method", given.method)
    method = method.for_model(model, process)
    levels = method.levels_of(model)
    device = _device(levels, given.start, given.device)
    times = method.grid_for(process)
    process.intervals(times[:1], times[1:2])  # a quantity that cannot be held at the first time is refused here
    shape = _shape(model, given.start, given.shape)
    check_size(len(batch) * math.prod(shape), "count", len(batch))
    if given.batch_size is not None:
        check_size(given.batch_size * math.prod(shape), "batch_size", given.batch_size)
    _check_preconditioner(process, shape)
    if made is not None:
        fingerprints = {name: level.fingerprint for name, level in levels.items()}
        made.check(process.to_dict(), fingerprints, times.tolist(), batch.numbers)
    draws = isinstance(method, DrawingMethod)
    plan = method.plan_for(model, process, times, given.plan_seed, batch.numbers) if made is None and draws else made
    start = _start(process, float(times[0]), batch, shape, given.start, device, given.dtype)
    state = _with_velocities(process, start, given.velocities, batch)
    noise_keys = batch.keys(Stream.NOISE, device)
    names = batch.names(process.sample_is_called)
    run = Run(
        process=process,
        times=times,
        start=state if given.grad else state.detach(),
        levels=tuple(levels),
        evaluator=Evaluator(
            levels,
            len(batch),
            conditioning,
            given.batch_size,
            given.memory_limit,
            given.evaluate,
            grad=given.grad,
            times=times,
        ),
        path=_path(process, noise_keys, shape, given.dtype, method.read_at(process, times)) if process.noisy else None,
        plan=plan,
        choices=_choices(method, given.plan_seed if plan is None else plan.seed, batch, device),
        noise_keys=noise_keys,
        verification_keys=batch.keys(Stream.VERIFICATION, device),
        guard=FiniteGuard(names, times, None if process.final_calls else _EXPLODED),
        marginals=MarginalGuard(process, names, times),
    )
    if given.evaluate is not None:
        require(not given.grad, "grad", given.grad, "False with evaluate=")
        settings = {"method": method.to_dict(), "process": process.to_dict(), "count": len(batch), "seed": batch.seeds}
        numbers = {"first": batch.numbers, "plan_seed": given.plan_seed, "dtype": str(given.dtype)}
        given.evaluate.begin(levels, {**settings, **numbers, "batch_size": given.batch_size}, start)
    return method, run


def _check(given: Arguments) -> None:
    """Refuse what no run takes, whatever the model is."""
    known = isinstance(given.method, Method | Plan)
    require(known, "method", given.method, "a method, such as md.Euler(steps=50), or a plan")
    require(given.dtype in (torch.float32, torch.float64), "dtype", given.dtype, "torch.float32 or torch.float64")
    able = given.evaluate is None or (callable(given.evaluate) and callable(getattr(given.evaluate, "begin", None)))
    require(able, "evaluate", type(given.evaluate).__name__, "None, or md.distributed.spread()")
    limit = given.memory_limit
    require(
        limit is None or not given.grad, "memory_limit", limit, "None with grad=True, which keeps every call's work"
    )
    for name, tensor in (("start", given.start), ("velocities", given.velocities)):
        if tensor is not None:
            dense = tensor.layout is torch.strided and tensor.ndim > 0 and tensor.dtype.is_floating_point
            require(
                dense, name, f"{tensor.dtype}, {tensor.layout}", "a dense tensor [count, …] of floating-point numbers"
            )


def _batch(count: int | None, seed: int | Sequence[int], first: int | Sequence[int], start: Tensor | None) -> _Batch:
    listed = np.asarray(seed, dtype=object)  # an array or a tensor of seeds serves as a list does
    one = listed.ndim == 0
    seeds = tuple(int(value) for value in listed.ravel())
    number = len(start) if start is not None else len(seeds)
    number = int(number if count is None else count)
    require(1 <= number <= _MOST, "count", number, f"1 to {_MOST:,} samples in one run; first= continues it in another")
    require(start is None or len(start) == number, "start", _described(start), f"a first dimension of count={number}")
    given = np.asarray(first, dtype=object)
    if given.ndim > 0:
        return _numbered(seeds, tuple(int(value) for value in given.ravel()), number, one=one)
    first = int(given.item())
    require(first + number <= _SAMPLES, "first", first, f"at most 2⁶³ − count, {_SAMPLES - number}")
    numbers = tuple(range(first, first + number))
    if one:
        return _Batch(seeds * number, numbers, numbers)
    require(len(seeds) == number, "seed", f"{len(seeds)} seeds", f"one number, or count={number} of them")
    return _Batch(seeds, (0,) * number, numbers)


def _numbered(seeds: tuple[int, ...], numbers: tuple[int, ...], number: int, *, one: bool) -> _Batch:
    """A batch of samples of several runs, each with the seed and the number that it has in its own."""
    require(not one, "first", numbers, "one number, unless every sample has a seed")
    require(max(numbers, default=0) < _SAMPLES, "first", max(numbers, default=0), "numbers below 2⁶³")
    right = len(seeds) == len(numbers) == number
    require(right, "first", f"{len(numbers)} numbers for {len(seeds)} seeds", f"count={number} of each")
    return _Batch(seeds, numbers, numbers)


def _device(levels: Mapping[str, Drift], start: Tensor | None, device: torch.device | str | None) -> torch.device:
    """The one device everything is on."""
    places = {f"level {name}": level.device for name, level in levels.items() if level.device is not None}
    if start is not None:
        places["start"] = start.device
    if device is not None:
        places["device"] = named_device(device)
    if len({(place.type, place.index or 0) for place in places.values()}) > 1:
        listed = ", ".join(f"{name} on {place}" for name, place in places.items())
        raise MultidriftError(f"device: got {listed}; a run takes one device for all")
    return next(iter(places.values()), torch.device("cpu"))


def _shape(model: Model, start: Tensor | None, shape: Sequence[int] | None) -> tuple[int, ...]:
    """One sample's shape, from whoever knows it; all who know must agree."""
    known: dict[str, tuple[int, ...]] = {}
    if model.shape is not None:
        known["the model"] = model.shape
    if start is not None:
        known["start"] = tuple(start.shape[1:])
    if shape is not None:
        known["shape"] = tuple(int(n) for n in shape)
    if not known:
        raise MultidriftError("shape: got None, and the model does not know it; it takes one sample's shape")
    if len(set(known.values())) > 1:
        raise MultidriftError(f"shape: got {', '.join(f'{who} with {size}' for who, size in known.items())}")
    who, size = next(iter(known.items()))
    good = len(size) > 0 and all(n >= 1 for n in size)
    got = f"{size} of {who}" if who != "shape" else size
    require(good, "shape", got, "one sample's shape, of at least one dimension: (1,) where a sample is a number")
    return size


def _check_preconditioner(process: Process, shape: tuple[int, ...]) -> None:
    """Factors on coordinates are as many as a sample has, or repeat over its first dimensions."""
    factors = process.preconditioning
    if factors is not None:
        ends = shape[len(shape) - factors.ndim :]
        fits = factors.ndim <= len(shape) and all(n in (1, m) for n, m in zip(factors.shape, ends, strict=True))
        require(fits, "preconditioner", f"shape {factors.shape}", f"one factor a coordinate of samples {shape}")


def _with_velocities(process: Process, positions: Tensor, velocities: Tensor | None, batch: _Batch) -> Tensor:
    """The state: positions alone, or beside velocities that are given or drawn from their equilibrium, N(0, M/β)."""
    if not process.has_velocity:
        require(velocities is None, "velocities", _described(velocities), "None for a process without velocities")
        return positions
    if velocities is None:
        normal = batch.keys(Stream.VELOCITY, positions.device).normals([0], positions.shape[1:], positions.dtype)[0]
        std = process.velocity_std
        velocities = normal * (std if isinstance(std, float) else torch.from_numpy(std).to(normal))
    right = velocities.shape == positions.shape and bool(torch.isfinite(velocities).all())
    require(right, "velocities", _described(velocities), f"finite values of the shape {tuple(positions.shape)}")
    return process.joined(positions, velocities.to(positions))


def _path(process: Process, keys: Keys, shape: Sequence[int], dtype: torch.dtype, read_at: Floats) -> BrownianPath:
    return BrownianPath(process, keys, shape, dtype, process.place(read_at))


def _choices(method: Method, seed: int, batch: _Batch, device: torch.device) -> Keys:
    """The keys of the random choices of each sample, or of all alike where draws are shared."""
    own = isinstance(method, DrawingMethod) and not method.draws_are_shared
    numbers = [number + 1 for number in batch.numbers] if own else [0] * len(batch)
    return Keys.of([seed] * len(batch), numbers, Stream.DRAWS, device)


def _start(
    process: Process,
    time: float,
    batch: _Batch,
    shape: tuple[int, ...],
    start: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """The given start in the run's dtype, or one drawn as the trained pipeline draws it."""
    if start is not None:
        require(bool(torch.isfinite(start).all()), "start", "values that are not finite", "finite values")
        return start.to(dtype)
    normal = batch.keys(Stream.START, device).normals([0], shape, dtype)[0]
    return normal * process.start_std(time)


def _described(tensor: Tensor | None) -> str:
    return "None" if tensor is None else f"a tensor of shape {tuple(tensor.shape)}"
