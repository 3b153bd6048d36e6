"""The tables of what `md.auto` chooses: how near to the best of everything, and how well its error is predicted."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.bootstrap import Errors, Floats, ratio
from benchmarks.frontier import settings as frontier
from benchmarks.frontier.measure import BUDGETS
from benchmarks.frontier.settings import MISSING, STATISTICS, Interval, interval, is_peer, kept, named, over
from benchmarks.multilevel.measure import ETAS
from benchmarks.multilevel.report import PROCESSES, best
from benchmarks.tables import Entry, kernel, rows


def auto(part: str = "auto") -> str:
    """What md.auto chose at each budget, what it predicted, and how near it is to the best of everything."""
    lines = []
    for process, title in PROCESSES.items():
        for e in sorted(kept(f"frontier-{process}-{part}"), key=lambda e: e["budget"]):
            if "errors" not in e:
                continue
            errors = Errors(np.array(e["errors"]))
            there = frontier.paid(process, e["budget"])
            cells = [f"{e['label']}, {e['steps']} steps", f"{e['predicted']:.2g} ± {e['standard_error']:.1g}"]
            low, high = errors.interval("mean")
            cells.append(f"{errors.of('mean'):.2g} [{low:.2g}, {high:.2g}]")
            cells += [interval(value) for value in _predicted(e, errors)]
            cells.append(named(best(there, "mean"), process))
            cells += [over(errors, best(there, s).errors, s) for s in STATISTICS]
            peers = [s for s in there if is_peer(s)]
            cells += [over(errors, best(peers, s).errors, s) for s in STATISTICS]
            lines.append([f"{title}, {e['budget']}", *cells])
    header = ["budget", "`md.auto` takes", "predicted error", "measured on 128 others"]
    header += ["predicted over measured: error", "distance", "best of all settings"]
    header += ["auto's mean error over its", "median over the best median"]
    header += ["mean over the best peer's", "median over the best peer's"]
    return rows(header, lines) if lines else MISSING


def _predicted(e: Entry, errors: Errors) -> tuple[Interval, Interval]:
    """Predicted over measured error, and distance, each with an interval of both scatters in logarithms."""
    return (
        _divided(e["predicted"], e["standard_error"], errors),
        _divided(e["distance"], e["distance_standard_error"], Errors(np.sqrt(errors.values))),
    )


def _divided(predicted: float, standard_error: float, errors: Errors) -> Interval:
    """A predicted mean over the measured one."""
    measured = errors.of("mean")
    spread = math.hypot(standard_error / predicted, float(errors.resampled("mean").std()) / measured)
    value = predicted / measured
    return value, value * math.exp(-1.96 * spread), value * math.exp(1.96 * spread)


def auto_summary(part: str = "auto") -> str:
    """How often the choice is within 15% of the best, and the prediction within 30%; how often it may be, besides."""
    near, maybe, total = dict.fromkeys(STATISTICS, 0), dict.fromkeys(STATISTICS, 0), 0
    right, perhaps = [0, 0], [0, 0]
    for process in PROCESSES:
        for e in kept(f"frontier-{process}-{part}"):
            if "errors" not in e:
                continue
            errors, total = Errors(np.array(e["errors"])), total + 1
            there = frontier.paid(process, e["budget"])
            for s in STATISTICS:
                value, low, _ = ratio(errors, best(there, s).errors, s)
                near[s] += value <= 1.15
                maybe[s] += low <= 1.15 < value
            for n, (value, low, high) in enumerate(_predicted(e, errors)):
                right[n] += 1 / 1.3 <= value <= 1.3
                perhaps[n] += not 1 / 1.3 <= value <= 1.3 and low <= 1.3 and high >= 1 / 1.3
    if not total:
        return MISSING
    return (
        f"Of {total} choices {near['mean']} are within 15% of the best setting by mean error, and {maybe['mean']} more "
        f"by the interval's lower end; by median {near['median']} and {maybe['median']}. {right[1]} predicted the mean "
        f"distance within 30%, and of {perhaps[1]} more the interval reaches there; of the mean squared error it is "
        f"{right[0]} and {perhaps[0]}."
    )


def pick(images: int = 32, draws: int = 400) -> str:
    """How near to the best a choice by so few images comes, on the images that it was not made with."""
    lines = []
    for process, title in PROCESSES.items():
        for budget in BUDGETS:
            there = [s for s in frontier.paid(process, budget) if len(s.errors.values) == 1]
            own = [s for s in there if not is_peer(s)]
            if len(own) < 2:
                continue
            cells = [str(len(own))]
            for root in (False, True):
                ratios = _picked([s.errors.values[0] for s in own], images, draws, root=root)
                cells.append(f"{np.median(ratios):.2f}, {np.quantile(ratios, 0.9):.2f}; {(ratios <= 1.15).mean():.0%}")
            lines.append([f"{title}, {budget}", *cells])
    header = ["budget", "settings", "chosen by mean squared distance", "chosen by mean distance (`md.auto`)"]
    return rows(header, lines) if lines else MISSING


def _picked(errors: list[Floats], images: int, draws: int, *, root: bool) -> Floats:
    """Mean error, on all other images, of what is best on randomly drawn ones, over the least mean error there."""
    table, rng = np.stack(errors), np.random.default_rng(0)
    found = []
    for _ in range(draws):
        order = rng.permutation(table.shape[1])
        seen, unseen = table[:, order[:images]], table[:, order[images:]]
        chosen = (np.sqrt(seen) if root else seen).mean(axis=1).argmin()
        found.append(unseen[chosen].mean() / unseen.mean(axis=1).min())
    return np.array(found)


def auto_law() -> str:
    """What md.auto chose by the law of digits' features, beside the least kernel distance of all settings."""
    lines = []
    for process, title in PROCESSES.items():
        known = [e for e in kept("multilevel-law") if e["eta"] == ETAS[process]]
        for e in sorted(kept(f"frontier-{process}-auto-law"), key=lambda e: e["budget"]):
            there = [other for other in known if other["budget"] == e["budget"]]
            if "kernel" in e and there:
                least = min(there, key=lambda other: other["kernel"][0])
                frechet = "–" if e["frechet"] is None else f"{e['frechet']:.3f}"
                cells = [f"{e['label']}, {e['steps']} steps", kernel(e), frechet]
                cells += [least["label"].removeprefix("diffusers "), kernel(least), f"{least['frechet']:.3f}"]
                lines.append([f"{title}, {e['budget']}", *cells])
    header = ["budget", "`md.auto` takes", "its kernel distance ×1000", "Fréchet", "least kernel distance of all"]
    return rows([*header, "kernel distance ×1000", "Fréchet"], lines) if lines else MISSING
