"""The table of what a step costs beside its network call."""

from __future__ import annotations

from benchmarks.record import RESULTS
from benchmarks.tables import machine, results, rows

NOT_YET = "Not measured yet: `python -m benchmarks.overhead` does it, on idle cores."


def table() -> str:
    """Milliseconds a step of every loop, and how much more than bare network calls."""
    if not (RESULTS / "overhead.json").is_file():
        return NOT_YET
    record = results("overhead")
    bare = {_setting(e): e["milliseconds_a_step"] for e in record["entries"] if e["label"].startswith("bare")}
    lines = []
    for e in record["entries"]:
        label, batch = e["label"].rsplit(", ", 1)
        share = "–" if e["level"] == "free" else f"{100 * e['overhead'] / bare[_setting(e)]:.1f}%"
        lines.append([e["level"], batch, label, f"{e['milliseconds_a_step']:.3f}", f"{e['overhead']:+.3f}", share])
    header = ["network", "batch", "loop", "ms a step", "more than bare calls", "in shares of them"]
    return f"{rows(header, lines)}\n\n{machine(record)}."


def options() -> str:
    """Milliseconds a step of `md.sample` with each of the options of a level, and their share of it without any."""
    if not (RESULTS / "options.json").is_file():
        return NOT_YET
    record = results("options")
    plain = {_setting(e): e["milliseconds_a_step"] for e in record["entries"] if e["label"].startswith("as it is")}
    lines = []
    for e in record["entries"]:
        label, batch = e["label"].rsplit(", ", 1)
        share = e["milliseconds_a_step"] / plain[_setting(e)]
        lines.append([e["level"], batch, label, f"{e['milliseconds_a_step']:.1f}", f"{100 * share:.0f}%"])
    header = ["network", "batch", "options", "ms a step", "of that without"]
    return f"{rows(header, lines)}\n\n{machine(record)}."


def _setting(entry: dict[str, object]) -> tuple[object, object]:
    return entry["level"], str(entry["label"]).rsplit(", ", 1)[1]
