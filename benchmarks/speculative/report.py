"""The tables of docs/speculative.md and docs/results/speculative.md, from what `benchmarks.speculative` measured."""

from __future__ import annotations

from benchmarks.tables import Entry, machine, results, rows

ASKED = ("f1+held, window 20", "f2+held, window 20", "frozen, window 20", "gaussian+held, window 20")


def entries(problem: str) -> list[Entry]:
    """The entries of a problem, by steps, the fewest rounds first."""
    found = [e for e in results("speculative")["entries"] if e["problem"] == problem]
    return sorted(found, key=lambda e: (e["steps"], e["median"]))


def _line(e: Entry, top: str) -> list[str]:
    rounds = sorted(e["rounds"])
    ahead = f"{e['forecast']:.1f}" if "forecast" in e else "–"
    return [
        str(e["steps"]),
        e["label"],
        str(e["images"]),
        f"{e['median']:g} ({rounds[0]} to {rounds[-1]})",
        f"{_mean(e):.1f}",
        ahead,
        f"{e['acceptance']:.3f}",
        f"{e['predicted']:.3f}",
        f"{e['calls'][top]:.0f}",
        f"{e['critical_path']:.3f}",
    ]


def _mean(e: Entry) -> float:
    return sum(e["rounds"]) / len(e["rounds"])


def table(problem: str, labels: tuple[str, ...] | None = None) -> str:
    """Rounds, calls and critical path of every choice, or of those with these labels."""
    header = [
        *("steps", "drafter", "samples", "rounds, median (range)", "mean", "forecast", "accepted", "predicted"),
        *("calls of the top", "critical path"),
    ]
    chosen = [e for e in entries(problem) if labels is None or e["label"] in labels]
    if not chosen:
        return "Not measured yet: `python -m benchmarks.speculative --resume` does."
    return rows(header, [_line(e, "f5" if problem == "digits" else "top") for e in chosen])


def beside() -> str:
    """Speculative and Picard's choices on the SDE at 1000 steps: rounds, rows at once and critical path."""
    lines = []
    for e in entries("digits"):
        if e["steps"] == 1000:
            at_once = e["calls"]["f5"] / _mean(e)
            found = [f"{e['median']:g}", f"{at_once:.0f}", e["critical_path"]]
            lines.append(["`Speculative`", e["label"], "exact law", *found, str(e["images"])])
    for e in results("parallel")["entries"]:
        short = e["reached"]["0.001"]
        if (e["steps"], e["eta"]) == (1000, 1.0) and short is not None:
            name = "`Picard`" if e["family"] == "ours" else "peer"
            found = [str(short["rounds"]), f"{short['calls'] / short['rounds']:.0f}", short["critical_path"]]
            lines.append([name, e["label"], "path to 1e-3", *found, str(e["images"])])
    lines.sort(key=lambda line: line[5])
    header = ["method", "choice", "what it gives", "rounds", "rows of f5 a round", "critical path", "samples"]
    return rows(header, [[*line[:5], f"{line[5]:.3f}", line[6]] for line in lines])


def misses() -> str:
    """How far forecasts of rounds were from the mean, over all problems."""
    away = {}
    for problem in _PROBLEMS:
        for e in entries(problem):
            if "forecast" in e:
                away[problem, e["steps"], e["label"]] = e["forecast"] / _mean(e) - 1.0
    if not away:
        return "No forecasts yet: `python -m benchmarks.speculative.forecasts` makes them."
    worst = max(away, key=lambda key: abs(away[key]))
    beyond = sum(abs(value) > 0.15 for value in away.values())
    problem, steps, label = worst
    return (
        f"{len(away)} forecasts: {len(away) - beyond} within 15% of the mean, the furthest {away[worst]:+.0%} "
        f"({problem}, {steps} steps, {label})."
    )


def about() -> str:
    """What was measured where."""
    record = results("speculative")
    pilot, paths = record["pilot"]
    return f"Forecasts are from pilots of {pilot} steps and {paths} paths. {machine(record)}."


_PROBLEMS = ("digits", "2 dimensions", "16 dimensions")
SECTIONS = {
    "speculative-digits": lambda: table("digits", ASKED),
    "speculative-digits-all": lambda: table("digits"),
    "speculative-beside": beside,
    "speculative-2": lambda: table("2 dimensions"),
    "speculative-16": lambda: table("16 dimensions"),
    "speculative-misses": misses,
    "speculative-about": about,
}
