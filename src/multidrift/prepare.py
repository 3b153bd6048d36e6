"""Resolve and check the arguments of a run before anything is computed."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.drifts.conditioning import check_conditioning
from multidrift.drifts.drift import Drift
from multidrift.drifts.model import AnyModel, Model, as_model, process_for
from multidrift.methods.catalogue import method_from_dict
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.method import Method
from multidrift.noise.counter import Keys, Stream, check_seed
from multidrift.noise.path import BrownianPath
from multidrift.processes.process import Process
from multidrift.runs.evaluator import Evaluate, Evaluator
from multidrift.runs.guard import FiniteGuard
from multidrift.runs.marginals import MarginalGuard
from multidrift.runs.plan import Plan
from multidrift.runs.run import Run

_EXPLODED = 1e12  # a position or a velocity beyond this is no state of a chain any more


_SAMPLES = 1 << 63  # numbers of samples beyond would repeat earlier ones


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a run was asked for: the arguments of `sample` and `steps`, which say what each of them means."""

    model: AnyModel
    method: Method | Plan
    process: Process | None
    count: int | None
    seed: int | Sequence[int]
    first: int | Sequence[int]
    start: Tensor | None
    velocities: Tensor | None
    shape: Sequence[int] | None
    plan_seed: int
    conditioning: Mapping[str, object] | None
    batch_size: int | None
    memory_limit: float | None
    device: torch.device | str | None
    dtype: torch.dtype
    grad: bool
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


def _integer(name: str, value: object, least: int | None, takes: str) -> int:
    """An int from anything that is one (numpy's too), at least `least`."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what is no integer raises TypeError
    except TypeError:
        number = None
    require(number is not None and (least is None or number >= least), name, value, takes)
    assert number is not None
    return number


def prepare(given: Arguments) -> tuple[Method, Run]:
    """The run that these arguments describe, or one error that names the argument at fault."""
    model = as_model(given.model)
    _check(given)
    process = process_for(model, given.process)
    batch = _batch(given.count, given.seed, given.first, given.start)
    check_seed("plan_seed", _integer("plan_seed", given.plan_seed, None, "an integer"))
    conditioning = check_conditioning(given.conditioning, len(batch))
    made = given.method if isinstance(given.method, Plan) else None
    method = method_from_dict(made.method) if made is not None else cast("Method", given.method)
    method = method.for_model(model, process)
    levels = method.levels_of(model)
    device = _device(levels, given.start, given.device)
    times = method.grid_for(process)
    process.intervals(times[:1], times[1:2])  # a quantity that cannot be held at the first time is refused here
    shape = _shape(model, given.start, given.shape)
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
            _batch_size(given.batch_size),
            given.memory_limit,
            given.evaluate,
            grad=given.grad,
        ),
        path=BrownianPath(process, noise_keys, shape, given.dtype) if process.noisy else None,
        plan=plan,
        choices=_choices(method, given.plan_seed if plan is None else plan.seed, batch, device),
        noise_keys=noise_keys,
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
    _batch_size(given.batch_size)
    limit: object = given.memory_limit
    if limit is not None:
        good = type(limit) is not bool and isinstance(limit, Real) and float(limit) > 0
        require(good, "memory_limit", limit, "None or a number of bytes")
        require(not given.grad, "memory_limit", limit, "None with grad=True, which keeps what every call has made")
    tensor = given.start is None or isinstance(given.start, Tensor)
    require(tensor, "start", type(given.start).__name__, "a tensor [count, …]")


def _batch_size(size: int | None) -> int | None:
    return None if size is None else _integer("batch_size", size, 1, "None or a count of at least 1")


def _batch(count: int | None, seed: int | Sequence[int], first: int | Sequence[int], start: Tensor | None) -> _Batch:
    one = not _is_listed(seed)
    takes = "an integer, or a list of one for each sample"
    listed: Sequence[int] = () if one else cast("Sequence[int]", seed)
    seeds = tuple(_integer("seed", value, None, takes) for value in ((seed,) if one else listed))
    for value in seeds:
        check_seed("seed", value)
    number = len(start) if start is not None else len(seeds)
    number = _integer("count", number if count is None else count, 1, "a count of at least 1")
    require(start is None or len(start) == number, "start", _described(start), f"a first dimension of count={number}")
    if _is_listed(first):
        return _numbered(seeds, cast("Sequence[int]", first), number, one=one)
    first = _integer("first", first, 0, "an integer of at least 0, or one for each of several seeds")
    require(first + number <= _SAMPLES, "first", first, f"at most 2⁶³ − count, {_SAMPLES - number}")
    numbers = tuple(range(first, first + number))
    if one:
        return _Batch(seeds * number, numbers, numbers)
    require(len(seeds) == number, "seed", f"{len(seeds)} seeds", f"one number, or count={number} of them")
    return _Batch(seeds, (0,) * number, numbers)


def _numbered(seeds: tuple[int, ...], first: Sequence[int], number: int, *, one: bool) -> _Batch:
    """A batch of samples of several runs, each with the seed and the number that it has in its own."""
    require(not one, "first", first, "one number, unless every sample has a seed")
    numbers = tuple(_integer("first", value, 0, "integers of at least 0") for value in first)
    require(max(numbers, default=0) < _SAMPLES, "first", max(numbers, default=0), "numbers below 2⁶³")
    right = len(seeds) == len(numbers) == number
    require(right, "first", f"{len(numbers)} numbers for {len(seeds)} seeds", f"count={number} of each")
    return _Batch(seeds, numbers, numbers)


def _is_listed(value: object) -> bool:
    return isinstance(value, Sequence | Tensor | np.ndarray) and not isinstance(value, str)


def _device(levels: Mapping[str, Drift], start: Tensor | None, device: torch.device | str | None) -> torch.device:
    """The one device everything is on."""
    places = {f"level {name}": level.device for name, level in levels.items() if level.device is not None}
    if start is not None:
        places["start"] = start.device
    if device is not None:
        places["device"] = _named_device(device)
    if len({(place.type, place.index or 0) for place in places.values()}) > 1:
        listed = ", ".join(f"{name} on {place}" for name, place in places.items())
        raise MultidriftError(f"device: got {listed}; a run takes one device for all")
    return next(iter(places.values()), torch.device("cpu"))


def _named_device(device: torch.device | str) -> torch.device:
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise MultidriftError(f"device: got {device!r}; it takes cpu, cuda, cuda:1, …") from error


def _shape(model: Model, start: Tensor | None, shape: Sequence[int] | None) -> tuple[int, ...]:
    """One sample's shape, from whoever knows it; all who know must agree."""
    known: dict[str, tuple[int, ...]] = {}
    if model.shape is not None:
        known["the model"] = model.shape
    if start is not None:
        known["start"] = tuple(start.shape[1:])
    if shape is not None:
        known["shape"] = tuple(shape)
    if not known:
        raise MultidriftError("shape: got None, and the model does not know it; it takes one sample's shape")
    if len(set(known.values())) > 1:
        raise MultidriftError(f"shape: got {', '.join(f'{who} with {size}' for who, size in known.items())}")
    who, size = next(iter(known.items()))
    good = len(size) > 0 and all(isinstance(n, int) and n >= 1 for n in size)
    got = f"{size} of {who}" if who != "shape" else size
    require(good, "shape", got, "one sample's shape, of at least one dimension: (1,) where a sample is a number")
    return size


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
