"""Candidates against each other: run on a small batch against a reference, the worse half dropped, again on more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.features import featured
from multidrift.evaluation.laws import kernel_distance
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.euler import Euler
from multidrift.methods.method import Method
from multidrift.methods.multistep import Multistep
from multidrift.planning.candidates import Candidate, Quality
from multidrift.processes.process import Process
from multidrift.runs.result import Result
from multidrift.sampling import sample

Features = Callable[[Tensor], Tensor]
_FIRST = {"path": 8, "law": 32}  # samples of the first round
_PLAN_SEEDS = 8  # of shared draws
_APART = 1 << 40  # between the numbers of the samples of a law and those of its reference


@dataclass(frozen=True, eq=False)
class Measured:
    """What a candidate did: `error`, its `standard_error`, and on how many `samples`; `errors` [samples] of a path."""

    candidate: Candidate
    error: float
    standard_error: float
    samples: int
    errors: Tensor | None = None


@dataclass(eq=False)
class Judge:
    """Measures candidates on samples of one seed, against a fine run of the top level.

    - `quality`: "path", the mean squared distance per coordinate to the reference sample of the same noise, or "law",
      the kernel distance of features to a reference of other noise
    - `steps`: of the reference, by Multistep; `features`: of a law, by default the coordinates themselves;
      `plan_seed`: the first of those that draws take
    """

    ladder: Ladder
    process: Process
    quality: Quality
    steps: int
    seed: int
    features: Features | None = None
    plan_seed: int = 0
    _reference: dict[int, Tensor] = field(default_factory=dict)

    def measure(self, candidate: Candidate, count: int) -> Measured:
        """The candidate's error on `count` samples; infinite where its run fails.

        Where a batch shares its draws, the samples are drawn with several plan seeds, so many to each.
        """
        method, parts = candidate.method, 1
        if isinstance(method, DrawingMethod) and method.draws_are_shared:
            parts = max(1, min(_PLAN_SEEDS, count // 4))
        edges = [count * part // parts for part in range(parts + 1)]
        try:
            runs = [
                self.run(method, high - low, self.plan_seed + part, low).samples
                for part, (low, high) in enumerate(pairwise(edges))
            ]
        except MultidriftError:
            return Measured(candidate, float("inf"), 0.0, count)
        found = torch.cat(runs)
        reference = self._refer(count)
        if self.quality == "law":
            distance = kernel_distance(self._featured(found), self._featured(reference))
            return Measured(candidate, distance.value, distance.standard_error, count)
        errors = squared_distances(found, reference)
        spread = float(errors.std() / count**0.5) if count > 1 else float("nan")
        return Measured(candidate, float(errors.mean()), spread, count, errors)

    def run(self, method: Method, count: int, plan_seed: int = 0, first: int = 0) -> Result:
        """One run, its warnings silenced: what disappoints shows in the error."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sample(
                self.ladder, method, self.process, count=count, seed=self.seed, first=first, plan_seed=plan_seed,
                progress=False,
            )  # fmt: skip

    def _refer(self, count: int) -> Tensor:
        """The reference of the first `count` samples; what is there already is not run again."""
        if count not in self._reference:
            there = max((n for n in self._reference if n < count), default=0)
            fine: Method = Euler(self.steps) if self.process.has_velocity else Multistep(self.steps)
            first = there + (_APART if self.quality == "law" else 0)
            more = self.run(fine, count - there, first=first).samples
            self._reference[count] = torch.cat([self._reference[there], more]) if there else more
        return self._reference[count]

    def _featured(self, samples: Tensor) -> Tensor:
        return samples.flatten(1).double() if self.features is None else featured(self.features, samples)


def halving(judge: Judge, candidates: Sequence[Candidate], count: int) -> list[Measured]:
    """Successive halving: all on a few samples, the better half on twice as many, until `count`; the best first.

    Of each kind the best is kept to the end, so that it can be said by how much the others are better. Candidates that
    were dropped stand at the end, with what was measured of them.
    """
    left, dropped = list(candidates), list[Measured]()
    size = min(_FIRST[judge.quality], count)
    while True:
        found = sorted((judge.measure(candidate, size) for candidate in left), key=lambda m: m.error)
        if size >= count:
            return [*found, *reversed(dropped)]
        kept = found[: max(3, len(found) // 2)]
        kinds = {measured.candidate.kind for measured in kept}
        for measured in found[len(kept) :]:
            if measured.candidate.kind not in kinds:
                kinds.add(measured.candidate.kind)
                kept.append(measured)
            else:
                dropped.append(measured)
        left = [measured.candidate for measured in kept]
        size = min(2 * size, count)
