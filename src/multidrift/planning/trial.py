"""Candidates against each other: run on a small batch against a reference, the worse half dropped, again on more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import weighted_mean
from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.features import featured
from multidrift.evaluation.laws import KernelDistance, average_distance, kernel_distance
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.euler import Euler
from multidrift.methods.method import Method
from multidrift.methods.multistep import Multistep
from multidrift.planning.candidates import Candidate, Quality
from multidrift.processes.process import Process
from multidrift.runs.result import Result
from multidrift.sampling import sample

Features = Callable[[Tensor], Tensor]
References = dict[tuple[int, int], dict[int, Tensor]]  # (seed, steps) -> number of samples -> their reference
_FIRST = {"path": 8, "law": 32}  # samples of the first round
_FEWEST = 3  # samples of a run that have a kernel distance
_SHOWN, _SHOWN_NUMBERS = 8, 1 << 20  # samples that are kept to be shown, and numbers in them
_GROUP = 4  # samples of a run with draws of its own, at least


@dataclass(frozen=True, eq=False)
class Measured:
    """What a candidate did, each figure with its standard error, and on how many `samples`.

    - `error`: of paths the mean squared distance per coordinate, of a law the kernel distance
    - `distance`: of paths the mean of the roots of each sample's squared one, which has no heavy tails (a sample that
      becomes another digit decides a mean of squares); of a law the same as `error`
    - `errors` [samples] of a path, `features` [samples, d] of a law; neither where its run failed
    - `shown`: its first samples, eight at most and fewer where they are large
    """

    candidate: Candidate
    error: float
    standard_error: float
    distance: float
    distance_standard_error: float
    samples: int
    errors: Tensor | None = None
    features: Tensor | None = None
    shown: Tensor | None = None

    @property
    def score(self) -> float:
        """What candidates are ranked by: the distance of paths; infinite where the run failed.

        Of a law its distance plus a standard error: of many that are near zero the least is one that was lucky, and
        luck is greatest where the scatter is, as with plans.
        """
        return self.distance if self.features is None else self.distance + self.distance_standard_error


@dataclass(eq=False)
class Judge:
    """Measures candidates on samples of one seed, against a fine run of the top level.

    - `quality`: "path", the mean squared distance per coordinate to the reference sample of the same noise, or "law",
      the kernel distance of features to those of the reference samples, which are of the same noise; of methods whose
      samples share one plan, the mean over plans of what each is off by
    - `steps`: of the reference, by Multistep; `features`: of a law, by default the coordinates themselves;
      `plan_seed`: the first of those that draws take
    - `references`: what was run already, kept here: judges that share it run no reference twice
    """

    ladder: Ladder
    process: Process
    quality: Quality
    steps: int
    seed: int
    features: Features | None = None
    plan_seed: int = 0
    references: References = field(default_factory=dict)

    def measure(self, candidate: Candidate, count: int, before: Measured | None = None) -> Measured:
        """The candidate's error on `count` samples; infinite where its run fails.

        - `before`: what it did on fewer of them, which are not run again

        Where all samples of a run share the luck of one plan, they are drawn in several runs with plans of their own.
        """
        if before is not None and before.errors is None and before.features is None:
            before = None  # it failed
        method, first = candidate.method, 0 if before is None else before.samples
        shared = isinstance(method, DrawingMethod) and method.luck_is_shared
        edges = _groups(count) if shared else [0, count]
        try:
            runs = [
                self.run(method, high - max(low, first), self.plan_seed + group, max(low, first)).samples
                for group, (low, high) in enumerate(pairwise(edges))
                if high > first
            ]
        except MultidriftError:
            return Measured(candidate, float("inf"), 0.0, float("inf"), 0.0, count)
        found, reference = torch.cat(runs), self._refer(count)
        shown = _first_few(found) if before is None else before.shown
        if self.quality == "law":
            features = self._featured(found)
            if before is not None and before.features is not None:
                features = torch.cat([before.features, features])
            found_law = _distance(features, self._featured(reference), edges)
            law = found_law.value, found_law.standard_error
            return Measured(candidate, *law, *law, count, features=features, shown=shown)
        errors = squared_distances(found, reference[first:]).cpu()
        if before is not None and before.errors is not None:
            errors = torch.cat([before.errors, errors])
        return Measured(candidate, *_mean(errors, edges), *_mean(errors.sqrt(), edges), count, errors, shown=shown)

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
        kept = self.references.setdefault((self.seed, self.steps), {})
        if count not in kept:
            there = max((n for n in kept if n < count), default=0)
            fine: Method = Euler(self.steps) if self.process.has_velocity else Multistep(self.steps)
            more = self.run(fine, count - there, first=there).samples
            kept[count] = torch.cat([kept[there], more]) if there else more
        return kept[count]

    def _featured(self, samples: Tensor) -> Tensor:
        return samples.flatten(1).double() if self.features is None else featured(self.features, samples)


def _first_few(samples: Tensor) -> Tensor:
    """What is shown of samples: so few that a long list of settings keeps little memory."""
    return samples[: max(1, min(_SHOWN, _SHOWN_NUMBERS // samples[0].numel()))].cpu()


def _distance(features: Tensor, reference: Tensor, edges: Sequence[int]) -> KernelDistance:
    """The kernel distance of runs with a plan of its own each, [low, high) of the samples."""
    runs = [(low, high) for low, high in pairwise(edges) if high - low >= _FEWEST]
    found = [kernel_distance(features[low:high], reference[low:high], coupled=True) for low, high in runs]
    return found[0] if len(found) == 1 else average_distance(found, [high - low for low, high in runs])


def _mean(values: Tensor, edges: Sequence[int]) -> tuple[float, float]:
    """Mean and its standard error; samples of a run with a plan of its own, [low, high), are not independent."""
    mean = float(values.mean())
    if len(edges) == 2:
        return mean, float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
    runs = list(pairwise(edges))
    means = [float(values[low:high].mean()) for low, high in runs]
    return mean, weighted_mean(means, [high - low for low, high in runs])[1]


def _groups(count: int) -> list[int]:
    """Edges of the runs that have a plan of their own: two of each size, the same however many samples follow."""
    edges = [0]
    while edges[-1] < count:
        edges.append(min(count, edges[-1] + max(_GROUP, 1 << max(0, edges[-1].bit_length() - 2))))
    return edges


def halving(judge: Judge, candidates: Sequence[Candidate], count: int) -> list[Measured]:
    """Successive halving: all on a few samples, the better half on twice as many, until `count`; the best first.

    Of each kind the best is kept to the end, so that it can be said by how much the others are better. Candidates that
    were dropped stand at the end, with what was measured of them.
    """
    left: list[tuple[Candidate, Measured | None]] = [(candidate, None) for candidate in candidates]
    dropped = list[Measured]()
    size = min(_FIRST[judge.quality], count)
    while True:
        found = sorted((judge.measure(one, size, before) for one, before in left), key=lambda m: m.score)
        if size >= count:
            return [*found, *reversed(dropped)]
        kept = found[: max(3, len(found) // 2)]
        kinds, losers = {measured.candidate.kind for measured in kept}, list[Measured]()
        for measured in found[len(kept) :]:
            if measured.candidate.kind not in kinds:
                kinds.add(measured.candidate.kind)
                kept.append(measured)
            else:
                losers.append(measured)
        dropped += reversed(losers)  # in the end all of them are turned about
        left = [(measured.candidate, measured) for measured in kept]
        size = min(2 * size, count)
