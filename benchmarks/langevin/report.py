"""Tables and plot of `benchmarks.langevin`, for docs/langevin.md and docs/results/langevin.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.bootstrap import RESAMPLES
from benchmarks.tables import Entry, machine, results, rows
from multidrift.report.comparison import write_figure

PLOT = Path(__file__).parents[2] / "docs" / "langevin.png"
NAMES = {
    "gaussian": "unit Gaussian",
    "ill-conditioned": "Gaussian, condition 100, d = 10",
    "mixture": "mixture of two, d = 2",
    "regression": "logistic regression, d = 31",
}
STYLES = {
    "Euler": ("k", "o", "-"),
    "Poisson midpoint, independent": ("C3", "s", "-"),
    "Poisson midpoint, single": ("C1", "D", "-"),
    "Poisson midpoint, midpoint": ("C2", "^", "-"),
    "diffrax ShARK": ("C0", "v", "--"),
    "blackjax SGLD, full gradient": ("C7", "x", "--"),
    "blackjax MALA": ("C5", "+", "--"),
    "diffrax ALIGN": ("C4", "<", "--"),
    "diffrax ShOULD": ("C9", ">", "--"),
    "diffrax QUICSORT": ("C6", "*", "--"),
}
_CLEAR = 3.0  # standard errors a bias must be away from zero to count for a slope
_UNSTABLE = 0.5  # a bias above this is of steps too large to speak of an order


def curves(problem: str, process: str) -> dict[str, list[Entry]]:
    """The entries of one panel by sampler, by rising cost."""
    found: dict[str, list[Entry]] = {}
    for e in results("langevin")["entries"]:
        if e["problem"] == problem and e["process"] == process:
            found.setdefault(e["label"], []).append(e)
    return {label: sorted(entries, key=lambda e: e["calls"]) for label, entries in found.items()}


def slope(entries: list[Entry]) -> tuple[float, float] | None:
    """Order of the bias in the step, and half of its 95% interval; None without two clear biases of one sign.

    Regression of log |bias| on log calls, weighted by the errors of the logarithms; the interval is widened where the
    points scatter more than these say.
    """
    clear = [e for e in entries if _CLEAR * e["error"] < abs(e["bias"]) < _UNSTABLE]
    if len(clear) < 2 or len({math.copysign(1, e["bias"]) for e in clear}) > 1:
        return None
    x = np.log([e["calls"] for e in clear])
    y = np.log([abs(e["bias"]) for e in clear])
    weight = np.array([(e["bias"] / e["error"]) ** 2 for e in clear])
    centre = np.average(x, weights=weight)
    spread = float((weight * (x - centre) ** 2).sum())
    steepness = float((weight * (x - centre) * y).sum()) / spread
    left = y - np.average(y, weights=weight) - steepness * (x - centre)
    scatter = float((weight * left**2).sum()) / max(1, len(clear) - 2)
    return -steepness, 1.96 * math.sqrt(max(1.0, scatter) / spread)


def bias_table(problem: str) -> str:
    """Bias in percent by sampler and number of calls, and its order."""
    blocks = []
    for process in ("overdamped", "underdamped"):
        found = curves(problem, process)
        budgets = sorted({e["budget"] for entries in found.values() for e in entries})
        lines = []
        for label, entries in found.items():
            by_budget = {e["budget"]: e for e in entries}
            cells = [_cell(by_budget.get(budget)) for budget in budgets]
            order = slope(entries)
            lines.append([label, *cells, "–" if order is None else f"{order[0]:.2f} ± {order[1]:.2f}"])
        blocks.append(rows([process, *(f"{budget} calls" for budget in budgets), "order of the bias"], lines))
    return "\n\n".join(blocks)


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    if not math.isfinite(entry["bias"]) or abs(entry["bias"]) > 10:
        return "diverges"
    return f"{100 * entry['bias']:+.2f} ± {100 * entry['error']:.2f}"


def claims() -> str:
    """Variance of a unit Gaussian at the two settings the claims are about."""
    lines = []
    for process in ("overdamped", "underdamped"):
        for label, entries in curves("claims", process).items():
            e = entries[0]
            lines.append([process, label, str(e["steps"]), f"{e['calls']:.0f}", f"{_cell(e)} %"])
    return rows(["", "sampler", "steps", "calls", "variance off by"], lines)


def at_equal_bias() -> str:
    """Gradient calls for a bias of 1%, interpolated, and how many times fewer than Euler's, with 95% intervals."""
    lines = []
    for problem, title in NAMES.items():
        for process in ("overdamped", "underdamped"):
            found = curves(problem, process)
            euler = found.get("Euler", [])
            for label, entries in found.items():
                calls, least, most = _calls_for(entries, 0.01), entries[0]["calls"], entries[-1]["calls"]
                if label == "Euler":
                    written, ratio = f"≈ {_euler_calls_for(euler, 0.01):.0f}{_between(_euler_calls_for, euler)}", ""
                elif calls is None:
                    written, ratio = f"over {most:.0f}", ""
                else:
                    bound = calls <= least
                    written = f"at most {least:.0f}" if bound else f"{calls:.0f}{_between(_calls_for, entries)}"
                    ratio = f"{'over ' if bound else ''}{_fewer(euler, entries)}" if euler else ""
                lines.append([f"{title}, {process}", label, written, ratio])
    return rows(["", "sampler", "calls for 1%", "times fewer than Euler"], lines)


def _between(calls_for: Callable[[list[Entry], float], float | None], entries: list[Entry]) -> str:
    """The 95% interval of the calls for a bias of 1%."""
    low, high = _interval([calls_for(drawn, 0.01) for drawn in _redrawn(entries, 1)])
    most = f"over {entries[-1]['calls']:.0f}" if math.isinf(high) else f"{high:.0f}"
    return f" [{low:.0f}, {most}]"


def _fewer(euler: list[Entry], entries: list[Entry]) -> str:
    """How many times fewer calls than Euler's, with its 95% interval."""
    low, high = _fewer_between(euler, entries)
    most = _euler_calls_for(euler, 0.01)
    least = f"{low:.1f}" if low else f"under {most / entries[-1]['calls']:.1f}"
    return f"{most / _calls_for(entries, 0.01):.1f} [{least}, {high:.1f}]"


def _fewer_between(euler: list[Entry], entries: list[Entry]) -> tuple[float, float]:
    """The 95% interval of Euler's calls over a sampler's; 0 where it may take more than were measured."""
    both = zip(_redrawn(euler, 0), _redrawn(entries, 1), strict=True)
    return _interval([_euler_calls_for(most, 0.01) / (_calls_for(few, 0.01) or math.inf) for most, few in both])


def _redrawn(entries: list[Entry], seed: int) -> Iterator[list[Entry]]:
    """The entries with every bias drawn anew, by its standard error: what other chains would have shown."""
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        shifts = rng.standard_normal(len(entries))
        both = zip(entries, shifts, strict=True)
        yield [e | {"bias": e["bias"] + x * e["error"]} if math.isfinite(e["error"]) else e for e, x in both]


def _interval(values: list[float | None]) -> tuple[float, float]:
    """The 95% percentile interval; None is more than was measured."""
    known = [math.inf if value is None else value for value in values]
    return float(np.quantile(known, 0.025, method="lower")), float(np.quantile(known, 0.975, method="higher"))


def fewer_than_euler(label: str, process: str) -> list[tuple[float, float]]:
    """How many times fewer calls than Euler a sampler takes for a bias of 1%, of every problem; at least so many.

    With each, the lower end of its 95% interval; infinite where a resample does not reach the bias at all, and so
    bounds nothing from below.
    """
    each = [curves(problem, process) for problem in NAMES]
    both = [(found.get("Euler", []), found.get(label, [])) for found in each]
    known = [(euler, ours) for euler, ours in both if euler and _calls_for(ours, 0.01) is not None]
    return [
        (_euler_calls_for(euler, 0.01) / _calls_for(ours, 0.01), _fewer_between(euler, ours)[0] or math.inf)
        for euler, ours in known
    ]


def _euler_calls_for(entries: list[Entry], level: float) -> float | None:
    """Euler's calls for a bias of `level`; beyond the last setting by its first order, bias · calls = constant."""
    if not entries:
        return None
    return _calls_for(entries, level) or entries[-1]["calls"] * abs(entries[-1]["bias"]) / level


def _calls_for(entries: list[Entry], level: float) -> float | None:
    """Calls from which the bias stays below `level`, interpolated in logarithms; None where it never does."""
    above = [i for i, e in enumerate(entries) if abs(e["bias"]) > level]
    if not above:
        return entries[0]["calls"] if entries else None
    if above[-1] + 1 == len(entries):
        return None
    before, after = entries[above[-1]], entries[above[-1] + 1]
    low, high = (math.log(max(abs(e["bias"]), e["error"])) for e in (after, before))
    share = (high - math.log(level)) / (high - low)
    return math.exp((1 - share) * math.log(before["calls"]) + share * math.log(after["calls"]))


def where() -> str:
    """What it was measured on."""
    found = results("langevin")
    minutes = sum(e["seconds"] for e in found["entries"]) / 60
    return (
        f"{machine(found)}. The runs took {minutes:.0f} minutes; "
        f"compiling the peers comes on top. Seconds are kept but not compared."
    )


def plot() -> None:
    """|bias| against gradient calls, a row for each process, a column for each problem."""
    figure = Figure(figsize=(16, 8.4), dpi=90, facecolor="white")
    seen: dict[str, object] = {}
    for row, process in enumerate(("overdamped", "underdamped")):
        for column, (problem, title) in enumerate(NAMES.items()):
            axes = figure.add_subplot(2, len(NAMES), row * len(NAMES) + column + 1)
            for label, entries in curves(problem, process).items():
                seen.setdefault(label, _curve(axes, label, entries))
            axes.set(xscale="log", yscale="log", ylim=(2e-4, 1.5))
            budgets = sorted({e["budget"] for entries in curves(problem, process).values() for e in entries})
            axes.set_xticks(budgets, [str(budget) for budget in budgets])
            axes.minorticks_off()
            axes.grid(visible=True, alpha=0.2)
            if row == 0:
                axes.set_title(title, fontsize=10)
            else:
                axes.set_xlabel("gradient calls a chain")
            if column == 0:
                axes.set_ylabel(f"{process}\n|relative error of second moments|")
    figure.legend(seen.values(), seen.keys(), loc="lower center", ncol=5, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    write_figure(figure, PLOT)


def _curve(axes: Axes, label: str, entries: list[Entry]) -> object:
    """One sampler; hollow points are biases within two standard errors of zero."""
    colour, marker, line = STYLES[label]
    usable = [e for e in entries if math.isfinite(e["bias"])]
    calls = [e["calls"] for e in usable]
    sizes = [max(abs(e["bias"]), 1e-6) for e in usable]
    errors = [e["error"] for e in usable]
    drawn = axes.errorbar(calls, sizes, yerr=errors, color=colour, marker=marker, ls=line, lw=1.2, ms=5, capsize=2)
    for x, size, error in zip(calls, sizes, errors, strict=True):
        if size < 2 * error:
            axes.plot(x, size, marker=marker, ms=5, mfc="white", mec=colour, zorder=5)
    return drawn


SECTIONS: dict[str, Callable[[], str]] = {
    "langevin-claims": claims,
    "langevin-equal": at_equal_bias,
    "langevin-machine": where,
    **{f"langevin-{problem}": partial(bias_table, problem) for problem in NAMES},
}
