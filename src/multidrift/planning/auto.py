"""The best method for a budget: tried on a small batch, its error measured on noise that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.types import Count, Four, Index, Positive, ShortSeed, Steps
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import process_for
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.methods.method import Method
from multidrift.planning.calibrate import calibrate
from multidrift.planning.calibration import Calibration
from multidrift.planning.candidates import Candidate, Prices, Quality, candidates, least_seconds, parallel
from multidrift.planning.nodes import least_nodes
from multidrift.planning.reason import reason
from multidrift.planning.trial import Features, Judge, Measured, References, halving
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.process import Process

SELECTION, _VALIDATION = 1 << 40, 1 << 41  # seeds far from those that users take
_FINER = 12  # steps of the reference over those that the budget pays for
_REFERENCE_STEPS = (64, 512)  # the least and the most of them
_TIE = 0.03  # of the error: within it the simpler method is taken
_MOST_CALLS = 512  # of the top level, that a target error is looked for with
_REFINEMENTS = 3
_LEAST_SHARE = 1e-3  # of a call of the top level: the least budget tried, where a cheapest level costs nothing


@dataclass(frozen=True, eq=False)
class Choice:
    """What `md.auto` chose: `md.sample(ladder, choice.method, process)`.

    - `reason`: why, in one paragraph
    - `error`: mean squared distance per coordinate to a fine run of the top level with the same noise (of a law the
      kernel distance), measured on samples that no choice was made with; `standard_error`: its own
    - `distance`: the mean of the roots of those squares, which settings are ranked by, and its standard error: the
      figure to rely on, since a few samples that become another picture decide a mean of squares
    - `seconds` of a sample at the calibration's batch, by its costs
    - `tried`: all that was measured on the way, the best first; `calibration`: what prices are taken from
    """

    method: Method
    reason: str
    error: float
    seconds: float
    standard_error: float
    distance: float
    distance_standard_error: float
    tried: tuple[Measured, ...]
    calibration: Calibration


@checked
def auto(
    ladder: Ladder,
    process: Process | None = None,
    *,
    calls: Positive | None = None,
    seconds: Positive | None = None,
    error: Positive | None = None,
    latency: Positive | None = None,
    calibration: Calibration | None = None,
    batch: Count | None = None,
    quality: Quality = "path",
    features: Features | None = None,
    samples: Four = 32,
    reference_steps: Steps | None = None,
    evaluations: Index = 0,
    seed: ShortSeed = 0,
    force: bool = False,
) -> Choice:
    """The best method, levels, grid and plan for a budget, out of all methods of the package.

    One of: `seconds` a sample, `calls` (as much time as so many steps of the top level), `error` (the cheapest method
    that reaches it) or `latency` (seconds until a batch is done; Picard is tried, too).

    - `calibration`: of this ladder, process, machine and batch; by default taken now, with batches of `batch` (64).
      `force` uses one of something else, with a warning
    - `quality`: "path", the distance to the top level's own path, or "law", the kernel distance of the samples'
      `features` [n, d] (by default the coordinates) to those of a fine run, drawn with the same noise
    - `samples`: how many the last candidates are compared on, and as many unseen ones give `error`; `reference_steps`:
      of the fine run, by default 12 times what the budget pays for, from 64 to 512
    - `evaluations`: runs of half of the samples that search the nodes of the best LadderMultistep (`md.search_nodes`):
      30 take about as long as everything else. Few samples mislead: take 128

    No model of the error is trusted: every candidate that the budget pays for is run on a few samples, the better half
    on twice as many, and so on (successive halving). Paths are ranked by their mean distance, the root of the squared
    one, which a few samples determine better, laws by theirs plus a standard error; within 3% (of a law another
    standard error) the simpler method is taken. It costs about as much as 500
    samples by the method found, and those of the reference. Raises MultidriftError on a budget below one call of
    the top level, an error that is not reached within 512 calls, and a calibration of something else.
    """
    given = {"calls": calls, "seconds": seconds, "error": error, "latency": latency}
    named = {name: value for name, value in given.items() if value is not None}
    require(len(named) == 1, "calls, seconds, error, latency", sorted(named), "one of them")
    (what, value), *_ = named.items()
    process = process_for(ladder, process)
    _check(quality, samples)
    if calibration is None:
        calibration = calibrate(ladder, process, 64 if batch is None else batch)
    else:
        _check_calibration(calibration, ladder, process, batch, force=force)
    search = _Search(ladder, process, calibration, quality, features, samples, reference_steps, evaluations, seed)
    if what == "error":
        return search.reach(value)
    batches = calibration.batch
    budget = {"calls": value * search.one, "seconds": value, "latency": value / batches}[what]
    if budget < search.one * (1 - 1e-9):
        unit = {"calls": "", "seconds": f", {search.one:.4g}", "latency": f", {search.one * batches:.4g}"}[what]
        raise MultidriftError(f"{what}: got {value:g}; it takes at least one call of {ladder.top}{unit}")
    return search.choose(budget, f"{what}={value:g}", in_parallel=what == "latency")


def auto_each(
    ladder: Ladder,
    process: Process,
    calibration: Calibration,
    calls: Sequence[float],
    *,
    quality: Quality = "path",
    features: Features | None = None,
    samples: int = 32,
    reference_steps: int | None = None,
    evaluations: int = 0,
    seed: int = 0,
    batch: int | None = None,
    force: bool = False,
) -> Iterator[Choice]:
    """What `auto` chooses for each of several budgets in calls of the top level, against one reference: the finest."""
    _check(quality, samples)
    _check_calibration(calibration, ladder, process, batch, force=force)
    for number in calls:
        require(number >= 1, "calls", number, f"at least one call of {ladder.top}")
    steps = reference_steps or _fine(max(calls))
    search = _Search(ladder, process, calibration, quality, features, samples, steps, evaluations, seed)
    for number in calls:
        yield search.choose(number * search.one, f"calls={number:g}")


def _check(quality: Quality, samples: int) -> None:
    require(quality in ("path", "law"), "quality", quality, "'path' or 'law'")
    require(type(samples) is int and samples >= 4, "samples", samples, "an integer of at least 4")


def _check_calibration(
    calibration: Calibration, ladder: Ladder, process: Process, batch: int | None, *, force: bool
) -> None:
    """Refuse one of something else, and a ladder that leaves no choice."""
    require(len(ladder) >= 2, "ladder", ladder, "at least two levels; of one network there is nothing to choose from")
    calibration.check(ladder, process, batch=batch, force=force)
    require(calibration.cost(ladder.top) > 0, "calibration", 0.0, f"a cost of {ladder.top} above 0")


def _fine(calls: float) -> int:
    """Steps of a reference for so many calls of the top level."""
    low, high = _REFERENCE_STEPS
    return round(min(max(_FINER * calls, low), high))


@dataclass(frozen=True, eq=False)
class _Search:
    """One question to a ladder: what is tried, and on which samples."""

    ladder: Ladder
    process: Process
    calibration: Calibration
    quality: Quality
    features: Features | None
    samples: int
    reference_steps: int | None
    evaluations: int
    seed: int
    references: References = field(default_factory=dict)

    @property
    def one(self) -> float:
        """Seconds a sample of one step of the top level."""
        return (self.calibration.cost(self.ladder.top) + self.calibration.overhead) / self.calibration.batch

    def choose(self, budget: float, asked: str, *, in_parallel: bool = False) -> Choice:
        """The best for so many seconds a sample."""
        ranked = self.rank(budget, in_parallel=in_parallel)
        return self.validated(_preferred(ranked), ranked, asked, budget)

    def rank(self, budget: float, *, in_parallel: bool = False) -> list[Measured]:
        """All candidates, the best first."""
        judge = self.judge(budget, SELECTION)
        found = candidates(self.ladder, self.process, self.calibration, budget, self.quality)
        if in_parallel:
            found += self.in_time(judge, budget)
        return self.searched(judge, halving(judge, found, self.samples))

    def searched(self, judge: Judge, ranked: list[Measured]) -> list[Measured]:
        """The same with what a search finds for the nodes of the best LadderMultistep, of those run to the end.

        It comes first where it is better than the first, on all samples and on those that it was not searched on.
        """
        last = [m for m in ranked if m.samples == ranked[0].samples]
        found = next((m for m in last if isinstance(m.candidate.method, LadderMultistep)), None)
        if not self.evaluations or found is None or not isinstance(self.process, Diffusion):
            return ranked
        candidate, paths = found.candidate, replace(judge, quality="path")
        assert isinstance(candidate.method, LadderMultistep)
        fitted = self.samples // 2
        least = least_nodes(paths, candidate.method, fitted, self.evaluations)
        method = replace(candidate.method, nodes=least.nodes)
        better = replace(candidate, label=f"{candidate.label}, nodes searched", method=method)
        measured = judge.measure(better, found.samples)
        first, rest = ranked[0], sorted([*last[1:], measured], key=lambda m: m.score)
        if measured.score < first.score and _score_after(measured, fitted) < _score_after(first, fitted):
            first, rest = measured, last
        return [first, *rest, *ranked[len(last) :]]

    def judge(self, budget: float, stream: int) -> Judge:
        """Samples of one stream of seeds, with a reference that is fine beside what the budget pays for."""
        steps = self.reference_steps or _fine(budget / self.one)
        seed = stream + self.seed
        return Judge(self.ladder, self.process, self.quality, steps, seed, self.features, stream, self.references)

    def in_time(self, judge: Judge, budget: float) -> list[Candidate]:
        """Parallel methods that have a batch done in time; each is run once to know."""
        prices, found = Prices(self.ladder, self.process, self.calibration), []
        batch, known = self.calibration.batch, self.calibration
        for candidate in parallel(self.ladder, self.process, 2 * max(2, int(budget / self.one))):
            result = judge.run(candidate.method, batch)
            # Where costs are given and not measured, every invocation counts as one call: an ideal device.
            ideal = sum(n * prices.calibration.cost(name) for name, n in result.batches.items())
            spent = (result.seconds if known.spread else ideal) / batch
            if spent <= budget:
                found.append(Candidate(candidate.label, "parallel", candidate.method, spent))
        return found

    def validated(
        self, best: Measured, ranked: Sequence[Measured], asked: str, budget: float, target: float | None = None
    ) -> Choice:
        """The choice with its error on samples that nothing was chosen with; `target`: the error asked for."""
        unseen = self.judge(budget, _VALIDATION).measure(best.candidate, self.samples)
        return Choice(
            method=best.candidate.method,
            reason=reason(best, ranked, unseen, self.ladder.top, asked, target),
            error=unseen.error,
            seconds=best.candidate.seconds,
            standard_error=unseen.standard_error,
            distance=unseen.distance,
            distance_standard_error=unseen.distance_standard_error,
            tried=tuple(ranked),
            calibration=self.calibration,
        )

    def reach(self, error: float) -> Choice:
        """The cheapest of all that have at most this error on what they are chosen with, its budget found to a tenth.

        Budgets double from two calls of the cheapest level on.
        """
        least, most = least_seconds(self.ladder, self.process, self.calibration), _MOST_CALLS * self.one
        low, high = 0.0, max(least, _LEAST_SHARE * self.one)
        while True:
            ranked = self.rank(high)
            there = _reaching(ranked, error)
            if there is not None:
                break
            if high >= most:
                best = f"; the best had {min(m.error for m in ranked):.3g}"
                raise MultidriftError(f"error: got {error:g}; nothing reaches it within {_MOST_CALLS} calls{best}")
            low, high = high, min(2.0 * high, most)
        for _ in range(_REFINEMENTS if low > 0 else 0):
            middle = math.sqrt(low * high)
            found = self.rank(middle)
            cheaper = _reaching(found, error)
            if cheaper is None:
                low = middle
            else:
                high, ranked, there = middle, found, cheaper
        return self.validated(there, ranked, f"error={error:g}", high, error)


def _score_after(measured: Measured, first: int) -> float:
    """The score on all samples but the first so many; of a law, to which no nodes are fitted, on all."""
    return measured.score if measured.errors is None else float(measured.errors[first:].sqrt().mean())


def _reaching(ranked: Sequence[Measured], error: float) -> Measured | None:
    """The cheapest of those run to the end that have at most this error; of a law with a standard error on top."""
    final = [m for m in ranked if m.samples == ranked[0].samples]
    there = [m for m in final if (m.error if m.features is None else m.score) <= error]
    return min(there, key=lambda m: m.candidate.seconds, default=None)


def _preferred(ranked: Sequence[Measured]) -> Measured:
    """The best; where the top level alone does as well within 3% (a law: a standard error), that: it is simpler."""
    best = ranked[0]
    tied = best.score + max(_TIE * abs(best.score), 0.0 if best.errors is not None else best.standard_error)
    for measured in ranked:
        same = measured.samples == best.samples and measured.score <= tied
        if measured.candidate.kind == "top" and same:
            return measured
    return best
