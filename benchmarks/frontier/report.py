"""The tables and the plot of the frontier, from the kept errors of benchmarks.frontier and benchmarks.multilevel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.bootstrap import Errors, Floats, Statistic, ratio
from benchmarks.frontier import choices, timing
from benchmarks.frontier import settings as frontier
from benchmarks.frontier.measure import BUDGETS
from benchmarks.frontier.settings import MISSING, STATISTICS, interval, is_peer, named, over
from benchmarks.multilevel.measure import ETAS
from benchmarks.multilevel.report import PROCESSES, Setting, best, needed
from benchmarks.tables import kernel, rows
from multidrift.report.comparison import write_figure

DETAILS = {"mean": ".4f", "median": ".5f"}


def at_each_budget() -> str:
    """Our best setting, the best peer and the best ladder peer at each budget, by mean error."""
    lines = []
    for process, title in PROCESSES.items():
        for budget in BUDGETS:
            there = frontier.paid(process, budget)
            own, peers = [s for s in there if not is_peer(s)], [s for s in there if is_peer(s)]
            switches = [s for s in peers if s.family == "switch"]
            if not own or not peers:
                continue
            mine, peer = best(own, "mean"), best(peers, "mean")
            cells = [_described(mine, process), _described(peer, process)]
            cells.append(_described(best(switches, "mean"), process) if switches else "–")
            cells += [over(best(own, s).errors, best(peers, s).errors, s) for s in STATISTICS]
            lines.append([f"{title}, {budget}", *cells])
    header = ["budget", "best of ours: mean, median", "best peer", "best ladder peer"]
    return rows([*header, "ours over the best peer: mean", "median"], lines) if lines else MISSING


def gain_on_switches(process: str, budget: int, label: str, statistic: Statistic) -> float | None:
    """How many times less error a setting of ours has than the best ladder peer at a budget; None if unmeasured."""
    there = frontier.paid(process, budget)
    own, peers = [s for s in there if s.label == label], [s for s in there if s.family == "switch"]
    if not own or not peers:
        return None
    return ratio(best(peers, statistic).errors, own[0].errors, statistic)[0]


def _described(s: Setting, process: str) -> str:
    return f"{named(s, process)}: {s.errors.of('mean'):.4f}, {s.errors.of('median'):.5f}"


def at_each_error() -> str:
    """For each error that the best peer has at a budget: what it costs us over what it costs the peers."""
    lines = []
    for process, title in PROCESSES.items():
        found = frontier.settings(process)
        own, peers = [s for s in found if not is_peer(s)], [s for s in found if is_peer(s)]
        for statistic in STATISTICS:
            for budget in BUDGETS:
                there = [s for s in peers if s.budget == budget]
                if not there:
                    continue
                level = best(there, statistic).errors.of(statistic)
                cells = _costs_of(level, own, peers, statistic)
                if cells:
                    lines.append([f"{title}, {statistic} {level:{DETAILS[statistic]}}", *cells])
    header = ["error to be reached", "ours: cost", "peers: cost", "ours over theirs"]
    return rows(header, lines) if lines else MISSING


def _costs_of(level: float, own: list[Setting], peers: list[Setting], statistic: Statistic) -> list[str]:
    """Our cost of an error, the peers', and their ratio; where our cheapest is below the error, bounds of them."""
    theirs, cheapest = needed(peers, statistic, level), min(own, key=lambda s: s.price)
    if theirs is None:
        return []
    if cheapest.errors.of(statistic) <= level:
        return [f"below {cheapest.price:.1f}", f"{theirs:.1f}", f"below {cheapest.price / theirs:.2f}"]
    ours, shares = needed(own, statistic, level), _resampled(own, peers, statistic, level)
    if ours is None or not len(shares):
        return []
    low, high = np.percentile(shares, [2.5, 97.5])
    return [f"{ours:.1f}", f"{theirs:.1f}", interval((ours / theirs, float(low), float(high)))]


def _resampled(own: list[Setting], peers: list[Setting], statistic: Statistic, level: float) -> Floats:
    """Our cost over the peers' for an error, of each resample of the images in which both reach it."""
    costs = [_costs(curve, statistic, level) for curve in (own, peers)]
    shares = costs[0] / costs[1]
    return np.asarray(shares[np.isfinite(shares)])


def _costs(curve: list[Setting], statistic: Statistic, level: float) -> Floats:
    """What an error costs on the lower envelope of a curve, in each resample; NaN outside it."""
    prices = sorted({s.price for s in curve})
    drawn = np.stack([np.min([s.errors.resampled(statistic) for s in curve if s.price == p], axis=0) for p in prices])
    falling = -np.log(np.minimum.accumulate(np.maximum(drawn, 1e-300), axis=0))
    found = np.full(drawn.shape[1], np.nan)
    for n, errors in enumerate(falling.T):
        if errors[0] <= -math.log(level) <= errors[-1]:
            found[n] = np.exp(np.interp(-math.log(level), errors, np.log(prices)))
    return found


def law() -> str:
    """Kernel and Fréchet distance of every setting in the record of benchmarks.multilevel.law."""
    lines = []
    for process, title in PROCESSES.items():
        there = [e for e in frontier.kept("multilevel-law") if e["eta"] == ETAS[process]]
        for e in sorted(there, key=lambda e: (e["budget"], e["kernel"][0])):
            whose = "peer" if "diffusers" in e["label"] else "ours"
            cells = [e["label"].removeprefix("diffusers "), whose, kernel(e)]
            lines.append([f"{title}, {e['budget']}", *cells, f"{e['frechet']:.3f}"])
    header = ["budget", "setting", "", "kernel distance ×1000", "Fréchet distance"]
    return rows(header, lines) if lines else MISSING


def plot(path: Path) -> None:
    """Mean and median error against cost: every setting, and the lower envelopes of ours and of the peers."""
    figure = Figure(figsize=(12, 9), dpi=100)
    for row, statistic in enumerate(STATISTICS):
        for column, (process, title) in enumerate(PROCESSES.items()):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            found = frontier.settings(process)
            for name, colour, group in (
                ("ours", "C0", [s for s in found if not is_peer(s)]),
                ("peers: diffusers' solvers on f5", "k", [s for s in found if is_peer(s) and s.family != "switch"]),
                ("ladder peers: T-Stitch, SRDiffusion", "C3", [s for s in found if s.family == "switch"]),
            ):
                _draw(axes, name, colour, group, statistic)
            chosen = [e for e in frontier.kept(f"frontier-{process}-auto") if "errors" in e]
            errors = [Errors(np.array(e["errors"])).of(statistic) for e in chosen]
            if chosen:
                axes.plot([frontier.price(e) for e in chosen], errors, "x", color="C2", ms=9, mew=2, label="md.auto")
            axes.set(xscale="log", yscale="log", title=f"{title}: {statistic} error", xlabel="cost in calls of f5")
            axes.set_xticks(BUDGETS, map(str, BUDGETS))
            axes.minorticks_off()
            axes.grid(visible=True, alpha=0.25)
            axes.legend(fontsize=8)
    figure.tight_layout()
    write_figure(figure, path)


def _draw(axes: object, name: str, colour: str, group: Iterable[Setting], statistic: Statistic) -> None:
    """Points of all settings, and the best at each price and below."""
    points = sorted((s.price, s.errors.of(statistic)) for s in group)
    if points:
        prices, errors = map(np.array, zip(*points, strict=True))
        axes.plot(prices, errors, "o", ms=3, alpha=0.35, color=colour)
        axes.plot(prices, np.minimum.accumulate(errors), drawstyle="steps-post", color=colour, label=name)


SECTIONS: dict[str, Callable[[], str]] = {
    "frontier": at_each_budget,
    "frontier-levels": at_each_error,
    "frontier-law": law,
    "auto": choices.auto,
    "auto-summary": choices.auto_summary,
    "auto-128": lambda: choices.auto("auto-128"),
    "auto-128-summary": lambda: choices.auto_summary("auto-128"),
    "auto-law": choices.auto_law,
    "auto-pick": choices.pick,
    **timing.SECTIONS,
}
