"""What is to be generated: its samples in shards, what makes it the same job again, and the run of one shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.drifts.conditioning import Shared, check_conditioning, part_of_conditioning
from multidrift.drifts.model import AnyModel, as_model
from multidrift.generation.formats import Format
from multidrift.generation.rows import Encoder, Rows
from multidrift.methods.method import Method
from multidrift.prepare import Arguments, prepare
from multidrift.processes.process import Process
from multidrift.runs.plan import Plan
from multidrift.runs.result import Result, State
from multidrift.sampling import sample

FORMAT = 2  # 1 had no digest
KIND = "multidrift samples"
_BATCHES = 64  # at most in a shard, unless its size is given
_MOST_SHARDS = 1_000_000  # files of one job
_SHARDS = 100  # about so many of them, where there are samples for it


@dataclass(frozen=True)
class Shard:
    """Samples first … first + count − 1 of a job, the `number`-th range of them."""

    number: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """What its file is called, without the ending; sorted by name, shards are in order."""
        return f"{self.first:012d}"


def shards_of(first: int, count: int, size: int) -> tuple[Shard, ...]:
    """Samples first … first + count − 1 cut into ranges of `size`, the last one shorter."""
    starts = range(0, count, size)
    return tuple(Shard(number, first + start, min(size, count - start)) for number, start in enumerate(starts))


@dataclass(frozen=True, kw_only=True)
class Job:
    """Samples `first` … `first + count − 1` of one method on one model; arguments as `generate` says."""

    model: AnyModel
    method: Method | Plan
    process: Process | None
    count: int
    seed: int
    first: int
    plan_seed: int
    rows: Rows | None
    encode: Encoder | None
    conditioning: Mapping[str, object]
    shape: tuple[int, ...] | None
    batch_size: int
    shard_size: int | None
    format: Format
    device: torch.device | str | None
    dtype: torch.dtype

    def __post_init__(self) -> None:
        most = self._size * _MOST_SHARDS
        require(self.count <= most, "count", self.count, f"at most {most:,}, which is {_MOST_SHARDS:,} files")
        if self.rows is not None:
            require(
                len(self.rows) == self.count, "rows", f"{len(self.rows)} rows", f"a row a sample, count={self.count}"
            )
        check_conditioning(self.conditioning, self.count)
        self.format.check(self.settings_of_a_sample[1])

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The ranges of samples; they depend on the job alone, never on who works at it."""
        return shards_of(self.first, self.count, self._size)

    @property
    def _size(self) -> int:
        """Samples of a shard."""
        batches = min(max(self.count // (self.batch_size * _SHARDS), 1), _BATCHES)
        return self.shard_size or self.batch_size * batches

    @cached_property
    def settings_of_a_sample(self) -> tuple[dict[str, object], tuple[int, ...]]:
        """Method, process and ladder as plain values, and one sample's shape; raises on what no run takes."""
        one = Shard(0, self.first, 1)
        with torch.no_grad():
            method, run = prepare(self._arguments(one))
        ladder = {name: level.fingerprint for name, level in run.evaluator.levels.items()}
        settings = {"method": method.to_dict(), "process": run.process.to_dict(), "ladder": ladder}
        return settings, tuple(run.process.position(run.start).shape[1:])

    def settings(self, version: str) -> dict[str, object]:
        """All that the samples depend on, as plain values: another job with these makes the same files."""
        of_a_sample, shape = self.settings_of_a_sample
        plan = None if not isinstance(self.method, Plan) else _hash(json.dumps(self.method.to_dict(), sort_keys=True))
        values = {
            "kind": KIND, "format": FORMAT, "version": version, "count": self.count, "seed": self.seed,
            "first": self.first, "plan_seed": self.plan_seed, **of_a_sample, "plan": plan,
            "rows": None if self.rows is None else self.rows.fingerprint,
            "conditioning": _fingerprint(self.conditioning) if self.conditioning else None,
            "shape": list(shape), "dtype": str(self.dtype), "batch_size": self.batch_size,
            "shard_size": self.shards[0].count, "files": self.format.name,
        }  # fmt: skip
        return cast("dict[str, object]", json.loads(json.dumps(values)))  # tuples are lists, as they will be read

    def run(self, shard: Shard, callback: Callable[[State], bool | None]) -> Result:
        """The samples of one shard, the same bits whoever draws them."""
        given = self._arguments(shard)
        return sample(
            given.model, given.method, given.process, count=given.count, seed=given.seed, first=given.first,
            shape=given.shape, plan_seed=given.plan_seed, conditioning=given.conditioning,
            batch_size=given.batch_size, device=given.device, dtype=given.dtype, callback=callback, progress=False,
        )  # fmt: skip

    def _arguments(self, shard: Shard) -> Arguments:
        start = shard.first - self.first
        method, seeds, conditioning = (
            self.method,
            None,
            dict(part_of_conditioning(self.conditioning, self.count, torch.arange(start, start + shard.count))),
        )
        if isinstance(method, Plan) and method.samples is not None:
            method = _of_samples(method, shard)
        if self.rows is not None:
            rows = self.rows.part(start, shard.count)
            conditioning |= rows.conditioning(self.encode)
            seeds = rows.seeds
        return Arguments(
            model=as_model(self.model), method=method, process=self.process, count=shard.count,
            seed=self.seed if seeds is None else seeds, first=shard.first, start=None, velocities=None,
            shape=self.shape, plan_seed=self.plan_seed, conditioning=conditioning or None, batch_size=self.batch_size,
            memory_limit=None, device=self.device, dtype=self.dtype, grad=False,
        )  # fmt: skip


def _of_samples(plan: Plan, shard: Shard) -> Plan:
    """The draws of a shard, of a plan that has one a sample."""
    assert plan.samples is not None
    wanted = range(shard.first, shard.first + shard.count)
    places = {sample: place for place, sample in enumerate(plan.samples)}
    if not all(sample in places for sample in wanted):
        raise MultidriftError(
            f"plan: made for samples {plan.samples[0]} to {plan.samples[-1]}, with a draw each; not for {wanted[0]} to "
            f"{wanted[-1]}"
        )
    chosen = [places[sample] for sample in wanted]
    weights = plan.weights if len(plan.weights) == 1 else plan.weights[chosen]
    return replace(plan, weights=weights, samples=tuple(wanted))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(value: object) -> str:
    """A hash of conditioning: of the values of tensors and arrays, within whatever holds them."""
    if isinstance(value, Shared):
        return _hash("shared" + _fingerprint(value.value))
    if isinstance(value, Tensor | np.ndarray):
        array = value.detach().float().cpu().numpy() if isinstance(value, Tensor) else value
        return _hash(f"{array.shape}{hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}")
    if isinstance(value, Mapping):
        return _hash("".join(f"{key}{_fingerprint(inner)}" for key, inner in value.items()))
    if isinstance(value, list | tuple):
        return _hash("".join(_fingerprint(inner) for inner in value))
    return _hash(repr(value))
