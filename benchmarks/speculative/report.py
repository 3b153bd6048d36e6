"""The tables of docs/speculative.md, from what `benchmarks.speculative` has measured."""

from __future__ import annotations

from benchmarks.tables import Entry, machine, results, rows


def entries(problem: str) -> list[Entry]:
    """The entries of a problem, by steps, the fewest rounds first."""
    found = [e for e in results("speculative")["entries"] if e["problem"] == problem]
    return sorted(found, key=lambda e: (e["steps"], e["median"]))


def _line(e: Entry, top: str) -> list[str]:
    rounds = sorted(e["rounds"])
    mean = sum(rounds) / len(rounds)
    ahead = f"{e['forecast']}" if "forecast" in e else "–"
    return [
        str(e["steps"]),
        e["label"],
        f"{e['median']:g} ({rounds[0]} to {rounds[-1]})",
        f"{mean:.1f}",
        ahead,
        f"{e['acceptance']:.3f}",
        f"{e['predicted']:.3f}",
        f"{e['calls'][top]:.0f}",
        f"{e['critical_path']:.3f}",
    ]


def table(problem: str) -> str:
    """Rounds, calls and critical path of every choice."""
    header = [
        *("steps", "drafter", "rounds, median (range)", "mean", "forecast", "accepted", "predicted"),
        *("calls of the top", "critical path"),
    ]
    chosen = entries(problem)
    if not chosen:
        return "Not measured yet: `python -m benchmarks.speculative --resume` does."
    return rows(header, [_line(e, "f5" if problem == "digits" else "top") for e in chosen])


def about() -> str:
    """What was measured where."""
    record = results("speculative")
    pilot, paths = record["pilot"]
    counts = {problem: sorted({(e["steps"], e["images"]) for e in entries(problem)}) for problem in _PROBLEMS}
    listed = "; ".join(
        f"{problem}: " + ", ".join(f"{images} samples at {steps} steps" for steps, images in found)
        for problem, found in counts.items()
        if found
    )
    return f"{listed}. Forecasts are from pilots of {pilot} steps and {paths} paths. {machine(record)}."


_PROBLEMS = ("digits", "2 dimensions", "16 dimensions")
SECTIONS = {
    "speculative-digits": lambda: table("digits"),
    "speculative-2": lambda: table("2 dimensions"),
    "speculative-16": lambda: table("16 dimensions"),
    "speculative-about": about,
}
