"""All settings of the frontier, read from the records of benchmarks.frontier and benchmarks.multilevel."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.bootstrap import Errors, Statistic, ratio
from benchmarks.frontier.peers import MOST_ABOVE
from benchmarks.multilevel import report as multilevel
from benchmarks.multilevel.report import Setting
from benchmarks.record import RESULTS
from benchmarks.tables import Entry

PARTS = ("single", "ladder", "switches")
STATISTICS: tuple[Statistic, ...] = ("mean", "median")
MISSING = "Not measured yet: `python -m benchmarks.frontier`."
CHAIN = "Euler f5, linspace"  # step for step diffusers' DDPM and DDIM: a peer
CHAINS = {"sde": "DDPM", "ode": "DDIM"}
Interval = tuple[float, float, float]  # a value and the ends of its interval


def kept(name: str) -> list[Entry]:
    """The entries of a record, none where it is not there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["entries"] if path.is_file() else []


def settings(process: str) -> list[Setting]:
    """All settings of one process: those of benchmarks.multilevel, and what is measured here."""
    found = list(multilevel.settings(process))
    for part in PARTS:
        for e in kept(f"frontier-{process}-{part}"):
            known = {key: e[key] for key in ("family", "label", "budget", "steps", "calls")}
            found.append(Setting(**known, price=price(e), errors=Errors(np.array(e["errors"]))))
    return found


def price(e: Entry) -> float:
    """What an entry's calls cost, in calls of f5; the Gaussian's cost nothing."""
    cost = multilevel.seconds()
    return sum(number * cost.get(name, 0.0) for name, number in e["calls"].items()) / cost["f5"]


def paid(process: str, budget: int) -> list[Setting]:
    """The settings of a budget that cost no more than it; random draws may come out dearer than they were meant."""
    return [s for s in settings(process) if s.budget == budget and s.price <= MOST_ABOVE * budget]


def is_peer(s: Setting) -> bool:
    """Whether a setting is no method of this package's own."""
    return s.family in ("peer", "switch") or s.label == CHAIN


def named(s: Setting, process: str) -> str:
    """Its label, short."""
    return CHAINS[process] + " f5" if s.label == CHAIN else s.label.removeprefix("diffusers ")


def interval(values: Interval) -> str:
    """A value with its interval, as cells of tables have it."""
    value, low, high = values
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def over(above: Errors, below: Errors, statistic: Statistic) -> str:
    """The ratio of two errors with its interval over images."""
    return interval(ratio(above, below, statistic))
