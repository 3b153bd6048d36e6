"""The tables and the plot of the frontier, from the kept errors of benchmarks.frontier and benchmarks.multilevel."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.bootstrap import Errors, Floats, Statistic, ratio
from benchmarks.frontier import timing
from benchmarks.frontier.measure import BUDGETS
from benchmarks.frontier.peers import MOST_ABOVE
from benchmarks.multilevel import report as multilevel
from benchmarks.multilevel.measure import ETAS
from benchmarks.multilevel.report import PROCESSES, Setting, best, needed
from benchmarks.record import RESULTS
from benchmarks.tables import Entry, kernel, rows
from multidrift.report.comparison import write_figure

PARTS = ("single", "ladder", "switches")
STATISTICS: tuple[Statistic, ...] = ("mean", "median")
MISSING = "Not measured yet: `python -m benchmarks.frontier`."
DETAILS = {"mean": ".4f", "median": ".5f"}
CHAIN = "Euler f5, linspace"  # step for step diffusers' DDPM and DDIM: a peer
CHAINS = {"sde": "DDPM", "ode": "DDIM"}


def kept(name: str) -> list[Entry]:
    """The entries of a record, none where it is not there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["entries"] if path.is_file() else []


def settings(process: str) -> list[Setting]:
    """All settings of one process: those of benchmarks.multilevel, and what is measured here."""
    cost, found = multilevel.seconds(), list(multilevel.settings(process))
    for part in PARTS:
        for e in kept(f"frontier-{process}-{part}"):
            price = sum(number * cost[name] for name, number in e["calls"].items() if name in cost) / cost["f5"]
            known = {key: e[key] for key in ("family", "label", "budget", "steps", "calls")}
            found.append(Setting(**known, price=price, errors=Errors(np.array(e["errors"]))))
    return found


def paid(process: str, budget: int) -> list[Setting]:
    """The settings of a budget that cost no more than it; random draws may come out dearer than they were meant."""
    return [s for s in settings(process) if s.budget == budget and s.price <= MOST_ABOVE * budget]


def is_peer(s: Setting) -> bool:
    """Whether a setting is no method of this package's own."""
    return s.family in ("peer", "switch") or s.label == CHAIN


def named(s: Setting, process: str) -> str:
    """Its label, short."""
    return CHAINS[process] + " f5" if s.label == CHAIN else s.label.removeprefix("diffusers ")


def at_each_budget() -> str:
    """Our best setting, the best peer and the best ladder peer at each budget, by mean error."""
    lines = []
    for process, title in PROCESSES.items():
        for budget in BUDGETS:
            there = paid(process, budget)
            own, peers = [s for s in there if not is_peer(s)], [s for s in there if is_peer(s)]
            switches = [s for s in peers if s.family == "switch"]
            if not own or not peers:
                continue
            mine, peer = best(own, "mean"), best(peers, "mean")
            cells = [_described(mine, process), _described(peer, process)]
            cells.append(_described(best(switches, "mean"), process) if switches else "–")
            cells += [_ratio(best(own, s).errors, best(peers, s).errors, s) for s in STATISTICS]
            lines.append([f"{title}, {budget}", *cells])
    header = ["budget", "best of ours: mean, median", "best peer", "best ladder peer"]
    return rows([*header, "ours over the best peer: mean", "median"], lines) if lines else MISSING


def gain_on_switches(process: str, budget: int, label: str, statistic: Statistic) -> float | None:
    """How many times less error a setting of ours has than the best ladder peer at a budget; None if unmeasured."""
    there = paid(process, budget)
    own, peers = [s for s in there if s.label == label], [s for s in there if s.family == "switch"]
    if not own or not peers:
        return None
    return ratio(best(peers, statistic).errors, own[0].errors, statistic)[0]


def _described(s: Setting, process: str) -> str:
    return f"{named(s, process)}: {s.errors.of('mean'):.4f}, {s.errors.of('median'):.5f}"


def _ratio(above: Errors, below: Errors, statistic: Statistic) -> str:
    return _interval(ratio(above, below, statistic))


def _interval(values: tuple[float, float, float]) -> str:
    value, low, high = values
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def at_each_error() -> str:
    """For each error that the best peer has at a budget: what it costs us over what it costs the peers."""
    lines = []
    for process, title in PROCESSES.items():
        found = settings(process)
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
    return [f"{ours:.1f}", f"{theirs:.1f}", _interval((ours / theirs, float(low), float(high)))]


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


def auto(part: str = "auto") -> str:
    """What md.auto chose at each budget, what it predicted, and how near it is to the best of everything."""
    lines = []
    for process, title in PROCESSES.items():
        for e in sorted(kept(f"frontier-{process}-{part}"), key=lambda e: e["budget"]):
            if "errors" not in e:
                continue
            errors = Errors(np.array(e["errors"]))
            there = paid(process, e["budget"])
            cells = [f"{e['label']}, {e['steps']} steps", f"{e['predicted']:.2g} ± {e['standard_error']:.1g}"]
            low, high = errors.interval("mean")
            cells.append(f"{errors.of('mean'):.2g} [{low:.2g}, {high:.2g}]")
            cells.append(_interval(_predicted(e, errors)))
            cells.append(named(best(there, "mean"), process))
            cells += [_ratio(errors, best(there, s).errors, s) for s in STATISTICS]
            peers = [s for s in there if is_peer(s)]
            cells += [_ratio(errors, best(peers, s).errors, s) for s in STATISTICS]
            lines.append([f"{title}, {e['budget']}", *cells])
    header = ["budget", "`md.auto` takes", "predicted error", "measured on 128 others", "predicted over measured"]
    header += ["best of all settings", "auto's mean error over its", "median over the best median"]
    header += ["mean over the best peer's", "median over the best peer's"]
    return rows(header, lines) if lines else MISSING


def _predicted(e: Entry, errors: Errors) -> tuple[float, float, float]:
    """Predicted over measured error, with an interval of both scatters in logarithms."""
    measured = errors.of("mean")
    spread = math.hypot(e["standard_error"] / e["predicted"], errors.values.std() / measured / errors.values.size**0.5)
    value = e["predicted"] / measured
    return value, value * math.exp(-1.96 * spread), value * math.exp(1.96 * spread)


def auto_summary(part: str = "auto") -> str:
    """How often the choice is within 15% of the best, and the prediction within 30%; how often it may be, besides."""
    near, right, total = dict.fromkeys(STATISTICS, 0), 0, 0
    maybe, perhaps = dict.fromkeys(STATISTICS, 0), 0
    for process in PROCESSES:
        for e in kept(f"frontier-{process}-{part}"):
            if "errors" not in e:
                continue
            errors, total = Errors(np.array(e["errors"])), total + 1
            there = paid(process, e["budget"])
            for s in STATISTICS:
                value, low, _ = ratio(errors, best(there, s).errors, s)
                near[s] += value <= 1.15
                maybe[s] += low <= 1.15 < value
            value, low, high = _predicted(e, errors)
            right += 1 / 1.3 <= value <= 1.3
            perhaps += not 1 / 1.3 <= value <= 1.3 and low <= 1.3 and high >= 1 / 1.3
    if not total:
        return MISSING
    return (
        f"Of {total} choices {near['mean']} are within 15% of the best setting by mean error, and {maybe['mean']} more "
        f"by the interval's lower end; by median {near['median']} and {maybe['median']}. {right} predicted the mean "
        f"error within 30%, and of {perhaps} more the interval reaches there."
    )


def pick(images: int = 32, draws: int = 400) -> str:
    """How near to the best a choice by so few images comes, on the images that it was not made with."""
    lines = []
    for process, title in PROCESSES.items():
        for budget in BUDGETS:
            there = [s for s in paid(process, budget) if len(s.errors.values) == 1]
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


def law() -> str:
    """Kernel and Fréchet distance of every setting in the record of benchmarks.multilevel.law."""
    lines = []
    for process, title in PROCESSES.items():
        there = [e for e in kept("multilevel-law") if e["eta"] == ETAS[process]]
        for e in sorted(there, key=lambda e: (e["budget"], e["kernel"][0])):
            whose = "peer" if "diffusers" in e["label"] else "ours"
            cells = [e["label"].removeprefix("diffusers "), whose, kernel(e)]
            lines.append([f"{title}, {e['budget']}", *cells, f"{e['frechet']:.3f}"])
    header = ["budget", "setting", "", "kernel distance ×1000", "Fréchet distance"]
    return rows(header, lines) if lines else MISSING


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


def plot(path: Path) -> None:
    """Mean and median error against cost: every setting, and the lower envelopes of ours and of the peers."""
    figure = Figure(figsize=(12, 9), dpi=100)
    for row, statistic in enumerate(STATISTICS):
        for column, (process, title) in enumerate(PROCESSES.items()):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            found = settings(process)
            for name, colour, group in (
                ("ours", "C0", [s for s in found if not is_peer(s)]),
                ("peers: diffusers' solvers on f5", "k", [s for s in found if is_peer(s) and s.family != "switch"]),
                ("ladder peers: T-Stitch, SRDiffusion", "C3", [s for s in found if s.family == "switch"]),
            ):
                _draw(axes, name, colour, group, statistic)
            chosen = [e for e in kept(f"frontier-{process}-auto") if "errors" in e]
            errors = [Errors(np.array(e["errors"])).of(statistic) for e in chosen]
            if chosen:
                axes.plot([_price(e) for e in chosen], errors, "x", color="C2", ms=9, mew=2, label="md.auto")
            axes.set(xscale="log", yscale="log", title=f"{title}: {statistic} error", xlabel="cost in calls of f5")
            axes.set_xticks(BUDGETS, map(str, BUDGETS))
            axes.minorticks_off()
            axes.grid(visible=True, alpha=0.25)
            axes.legend(fontsize=8)
    figure.tight_layout()
    write_figure(figure, path)


def _price(e: Entry) -> float:
    cost = multilevel.seconds()
    return sum(number * cost.get(name, 0.0) for name, number in e["calls"].items()) / cost["f5"]


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
    "auto": auto,
    "auto-summary": auto_summary,
    "auto-128": lambda: auto("auto-128"),
    "auto-128-summary": lambda: auto_summary("auto-128"),
    "auto-law": auto_law,
    "auto-pick": pick,
    **timing.SECTIONS,
}
