"""The tables and the plot of benchmarks.multilevel, from its kept errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.bootstrap import THRESHOLD, Errors, Statistic, ratio
from benchmarks.multilevel.families import BUDGETS, GRIDS
from benchmarks.peers import SPACINGS
from benchmarks.record import RESULTS
from benchmarks.tables import machine, rows
from multidrift.report.comparison import write_figure

PROCESSES = {"sde": "SDE", "ode": "ODE"}
PEER = "best of diffusers"
EVEN = 1.1  # costs that differ by less are called even: intervals are wider than that
MISSING = "Not measured yet: `python -m benchmarks.multilevel`."


@dataclass(frozen=True, eq=False)
class Setting:
    """One method at one budget: its errors, and its price in calls of f5."""

    family: str
    label: str
    budget: int
    steps: int
    calls: dict[str, float]
    price: float
    errors: Errors

    @property
    def group(self) -> str:
        """What competes as one: all peers, one method on all grids, one way to draw on all ladders and grids."""
        if self.family == "peer":
            return PEER
        if self.family == "multilevel":
            return f"Multilevel, {self.label.split(', ')[1]}"
        return {"euler": "Euler f5", "multistep": "Multistep f5"}.get(self.family, self.label)

    @property
    def grid(self) -> str:
        """The grid, the last word of the label."""
        return self.label.split(", ")[-1]


def records(process: str) -> list[dict[str, object]]:
    """The kept parts of one process."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"multilevel-{process}-*.json"))]


def seconds() -> dict[str, float]:
    """Seconds a call of each level: as measured apart, or as the calls were chosen by."""
    apart = RESULTS / "multilevel-costs.json"
    if apart.is_file():
        return json.loads(apart.read_text())["seconds_per_call"]
    return next((r["costs_of_calls"] for process in PROCESSES for r in records(process)), {"f5": 1.0})


@lru_cache(maxsize=4)
def settings(process: str) -> tuple[Setting, ...]:
    """All settings of one process, family by family, label by label, by budget."""
    cost = seconds()
    found = []
    for record in records(process):
        for e in record["entries"]:
            price = sum(number * cost[name] for name, number in e["calls"].items() if name in cost) / cost["f5"]
            known = {key: e[key] for key in ("family", "label", "budget", "steps", "calls")}
            found.append(Setting(**known, price=price, errors=Errors(np.array(e["errors"]))))
    order = ("peer", "multistep", "euler", "multilevel")
    place = {family: order.index(family) if family in order else len(order) for family in {s.family for s in found}}
    return tuple(sorted(found, key=lambda s: (place[s.family], s.family, s.label, s.budget)))


def best(entries: Iterable[Setting], statistic: Statistic) -> Setting:
    """The setting with the least mean or median error."""
    return min(entries, key=lambda s: s.errors.of(statistic))


def groups(process: str, budget: int) -> dict[str, list[Setting]]:
    """The settings of each group at a budget, the peers first."""
    found: dict[str, list[Setting]] = {}
    for s in settings(process):
        if s.budget == budget:
            found.setdefault(s.group, []).append(s)
    return found


def figures(s: Setting) -> list[str]:
    """Mean, median and share above the threshold, with their intervals."""
    texts = []
    for statistic, form in (("mean", ".4f"), ("median", ".5f")):
        low, high = s.errors.interval(statistic)
        texts.append(f"{s.errors.of(statistic):{form}} [{low:{form}}, {high:{form}}]")
    low, high = s.errors.interval("share")
    return [*texts, f"{s.errors.of('share'):.0%} [{low:.0%}, {high:.0%}]"]


def calls(s: Setting) -> str:
    """Calls of each level, in words."""
    return ", ".join(f"{name} {number:.0f}" for name, number in s.calls.items() if number)


FIGURES = ["mean error", "median error", f"above {THRESHOLD}"]


def budgets(wanted: Sequence[int] = BUDGETS) -> str:
    """Each group's best setting, by mean and by median where these differ, at each budget."""
    lines = []
    for process, name in PROCESSES.items():
        for budget in wanted:
            for group, entries in groups(process, budget).items():
                for s in dict.fromkeys(best(entries, statistic) for statistic in ("mean", "median")):
                    what = [f"{name}, {budget}", group, s.label.removeprefix("diffusers "), calls(s), f"{s.price:.1f}"]
                    lines.append([*what, *figures(s)])
    header = ["budget", "", "setting", "calls", "cost", *FIGURES]
    return rows(header, lines) if lines else MISSING


def ratios(wanted: str = "", grids: Sequence[str] = GRIDS) -> str:
    """The best peer's error over that of each group (that begins so), each at its best setting by that statistic.

    `grids`: those that peers may take.
    """
    lines = []
    for process, name in PROCESSES.items():
        named = dict.fromkeys(s.group for s in settings(process) if s.group != PEER and s.group.startswith(wanted))
        for statistic in ("median", "mean"):
            for group in named:
                cells = [_ratio(process, budget, group, statistic, grids) for budget in BUDGETS]
                lines.append([f"{name}, {statistic}", group, *cells])
    header = ["best peer's error over that of", "", *map(str, BUDGETS)]
    return rows(header, lines) if lines else MISSING


def _ratio(process: str, budget: int, group: str, statistic: Statistic, grids: Sequence[str]) -> str:
    found = groups(process, budget)
    peers = [s for s in found.get(PEER, []) if s.grid in grids]
    if not peers or group not in found:
        return "–"
    peer, own = best(peers, statistic), best(found[group], statistic)
    value, low, high = ratio(peer.errors, own.errors, statistic)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def gain(process: str, budget: int, group: str, statistic: Statistic) -> tuple[float, float, float] | None:
    """How many times less a group errs than the best peer at the same budget, and its 95% interval.

    None where it was not measured.
    """
    found = groups(process, budget)
    if PEER not in found or group not in found:
        return None
    peer, own = (best(found[key], statistic) for key in (PEER, group))
    return ratio(peer.errors, own.errors, statistic)


def needed(curve: Sequence[Setting], statistic: Statistic, error: float) -> float | None:
    """The price at which settings reach an error, the best at each price, interpolated in logarithms; None outside."""
    by_price: dict[float, float] = {}
    for s in curve:
        by_price[s.price] = min(by_price.get(s.price, np.inf), s.errors.of(statistic))
    prices = np.array(sorted(by_price))
    errors = np.minimum.accumulate([by_price[p] for p in prices])
    if len(prices) < 2 or not errors[-1] <= error <= errors[0]:
        return None
    return float(np.exp(np.interp(-np.log(error), -np.log(errors), np.log(prices))))


def speed_ups(process: str, statistic: Statistic, rival: Callable[[Setting], list[Setting]]) -> dict[str, list[float]]:
    """Price of the rival at equal error over the own, of every setting of ladders whose error the rival spans."""
    found: dict[str, list[float]] = {}
    for s in settings(process):
        if s.family in ("peer", "euler", "multistep"):
            continue
        price = needed(rival(s), statistic, s.errors.of(statistic))
        found.setdefault(s.group, [])
        if price is not None:
            found[s.group].append(price / s.price)
    return found


def speed_up() -> str:
    """Against the best peer of any grid first, then against Euler on the same grid."""
    texts = []
    for title, rival in (
        ("the best of diffusers' solvers on any grid", lambda _, own: [s for s in own if s.family == "peer"]),
        ("Euler at f5 on the same grid", lambda t, own: [s for s in own if s.label == f"Euler f5, {t.grid}"]),
    ):
        lines = []
        for process, name in PROCESSES.items():
            own = settings(process)
            by = {
                statistic: speed_ups(process, statistic, lambda s, own=own, rival=rival: rival(s, own))
                for statistic in ("mean", "median")
            }
            for group in by["mean"]:
                cells = [_spread(by[statistic][group]) for statistic in ("mean", "median")]
                number = sum(s.group == group for s in own)
                lines.append([name, group, *cells, f"{len(by['mean'][group])}, {len(by['median'][group])} of {number}"])
        header = ["", f"cost of {title} at equal error, over that of", "by mean error", "by median", "in range"]
        texts.append(rows(header, lines) if lines else MISSING)
    return "\n\n".join(dict.fromkeys(texts))


def _spread(found: list[float]) -> str:
    return f"{np.median(found):.2f}× ({min(found):.2f} to {max(found):.2f})" if found else "–"


def verdict() -> str:
    """One sentence on the paper's own draws."""
    found = speed_ups("sde", "mean", lambda _: [s for s in settings("sde") if "SDE-DPM-Solver" in s.label])
    own = found.get("Multilevel, independent", [])
    if not own:
        return MISSING
    middle = float(np.median(own))
    word = "loses to" if middle < 1 / EVEN else "is ahead of" if middle > EVEN else "comes out even with"
    below = sum(f < 1 for f in own)
    return (
        f"The paper's own, independent draw {word} SDE-DPM-Solver++(2M) on this ladder: at equal mean error the solver "
        f"costs {middle:.2f} times as much (median of {len(own)} settings; below 1 in {below} of them)."
    )


def draws_compared() -> str:
    """The three draws on one ladder, grid and budget, and how much less than independent draws the others err."""
    lines = []
    for process, name in PROCESSES.items():
        own = [s for s in settings(process) if s.family == "multilevel"]
        independent = {(s.label.split(", ")[0], s.grid, s.budget): s for s in own if ", independent, " in s.label}
        for s in sorted(own, key=lambda s: (s.label.split(", ")[0], s.grid, s.budget)):
            base = independent.get((s.label.split(", ")[0], s.grid, s.budget))
            less = []
            for statistic in ("mean", "median"):
                value, low, high = ratio(base.errors, s.errors, statistic) if base else (np.nan,) * 3
                less.append(f"{value:.1f} [{low:.1f}, {high:.1f}]" if base not in (None, s) else "")
            what = s.label.removeprefix("Multilevel ").split(", ")
            lines.append([f"{name}, {what[0]}, {s.grid}, {s.budget}", what[1], *figures(s), *less])
    header = ["ladder, grid, budget", "draws", *FIGURES, "mean: times less than independent", "median"]
    return rows(header, lines) if lines else MISSING


def every_setting(process: str) -> str:
    """All entries of one process."""
    lines = [[s.label, str(s.budget), str(s.steps), calls(s), f"{s.price:.1f}", *figures(s)] for s in settings(process)]
    header = ["method", "budget", "steps", "calls", "cost", *FIGURES]
    return rows(header, lines) if lines else MISSING


def where() -> str:
    """What the figures were measured on."""
    first = {process: records(process)[0] for process in PROCESSES if records(process)}
    if not first:
        return MISSING
    record = next(iter(first.values()))
    cost = seconds()
    shares = ", ".join(f"{name} {cost[name] / cost['f5']:.3f}" for name in cost)
    steps = {"sde": "steps of the DDPM chain", "ode": "steps of second order"}
    references = "; ".join(f"{PROCESSES[p]}: {r['reference_steps']} {steps[p]} of f5" for p, r in first.items())
    text = (
        f"{machine(record)}; {record['count']} images (seed 0), references: {references}. Calls in calls of f5: "
        f"{shares}. […, …] are 95% intervals, images and plan seeds resampled together."
    )
    apart = RESULTS / "multilevel-costs.json"
    if not apart.is_file():
        return text
    timed = json.loads(apart.read_text())
    whole = "; ".join(
        f"{c['label']}: {c['measured']:.1f} s measured, {c['predicted']:.1f} s predicted" for c in timed["entries"]
    )
    return (
        f"{text} Costs: {machine(timed)}, batches of {timed['batch']}; whole runs of {timed['batch']} images: {whole}."
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "summary": lambda: budgets((10, 20, 40)),
    "budgets": budgets,
    "ratios": ratios,
    "ladder-ratios": lambda: ratios("LadderMultistep"),
    "ladder-ratios-own-grids": lambda: ratios("LadderMultistep", list(SPACINGS)),
    "speed-up": speed_up,
    "verdict": verdict,
    "draws": draws_compared,
    "machine": where,
    "ddpm": lambda: every_setting("sde"),
    "ddim": lambda: every_setting("ode"),
}


def plot(path: Path) -> None:
    """Median and mean error of each group's best setting against the budget, with intervals."""
    figure = Figure(figsize=(12, 9), dpi=100)
    for row, statistic in enumerate(("median", "mean")):
        for column, (process, name) in enumerate(PROCESSES.items()):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            for number, group in enumerate(dict.fromkeys(s.group for s in settings(process))):
                at = [groups(process, b)[group] for b in BUDGETS if group in groups(process, b)]
                chosen = [best(entries, statistic) for entries in at]
                middle, prices = [s.errors.of(statistic) for s in chosen], [s.price for s in chosen]
                low, high = zip(*(s.errors.interval(statistic) for s in chosen), strict=True)
                style = {"color": "k", "lw": 2.5} if group == PEER else {"color": f"C{number}", "lw": 1.5}
                axes.plot(prices, middle, marker="o", ms=4, label=group, **style)
                axes.fill_between(prices, low, high, color=style["color"], alpha=0.12, lw=0)
            axes.set(xscale="log", yscale="log", title=f"{name}: {statistic} error", xlabel="cost in calls of f5")
            axes.set_xticks(BUDGETS, map(str, BUDGETS))
            axes.minorticks_off()
            axes.grid(visible=True, alpha=0.25)
            if axes.lines:
                axes.legend(fontsize=8)
    figure.tight_layout()
    write_figure(figure, path)
