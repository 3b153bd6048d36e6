"""The tables of docs/scale.md and docs/servers.md, from what `benchmarks.scale` has kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from benchmarks.record import RESULTS
from benchmarks.scale.kills import VICTIMS
from benchmarks.tables import Entry, machine, results, rows


def _kept(part: str) -> dict[str, object] | None:
    return results(f"scale-{part}") if (RESULTS / f"scale-{part}.json").is_file() else None


def _or_not_yet(part: str, table: Callable[[dict[str, object], list[Entry]], str]) -> Callable[[], str]:
    """The table of a part, or how to measure it."""

    def section() -> str:
        record = _kept(part)
        if record is None:
            return f"Not measured yet: `python -m benchmarks.scale --part {part}` does it, on idle cores."
        return f"{table(record, cast('list[Entry]', record['entries']))}\n\n{machine(record)}."

    return section


def equal(record: dict[str, object], entries: list[Entry]) -> str:
    """Samples that differ, for each number of processes and batch size."""
    header = [
        "processes",
        "batch size",
        "files",
        "samples that differ in any bit",
        "largest difference to batches of 16",
    ]
    lines = [
        [
            *(str(e["processes"]), str(e["batch_size"]), str(e["shards"]), str(e["different"])),
            f"{e['from_another_batch_size']:.1e}",
        ]
        for e in entries
    ]
    about = (
        f"{record['count']:,} digits of {record['level']}, Euler's {record['steps']} steps, beside one `md.sample` at "
        "that batch size."
    )
    return f"{rows(header, lines)}\n\n{about}"


def kills(record: dict[str, object], entries: list[Entry]) -> str:
    """What was lost, doubled, changed or left over, by who was killed."""
    header = [
        "killed",
        "times",
        f"of {record['shards']} files there",
        "lost",
        "doubled",
        "changed",
        "drawn twice",
        "left over",
    ]
    lines = []
    for victims in VICTIMS:
        found = [e for e in entries if e["victims"] == victims]
        there = sorted(cast("int", e["there"]) for e in found)
        sums = [str(sum(cast("int", e[name]) for e in found)) for name in ("lost", "doubled", "changed", "drawn_again")]
        left = str(sum(len(cast("list[str]", e["left_over"])) for e in found))
        if found:
            lines.append([victims, str(len(found)), f"{there[0]} to {there[-1]}", *sums, left])
    about = (
        f"{record['ranks']} processes, {record['count']} samples; every run was then finished by two with `--resume`."
    )
    return f"{rows(header, lines)}\n\n{about}"


def overhead(record: dict[str, object], entries: list[Entry]) -> str:
    """Seconds of `md.sample` and of `generate`."""
    least = entries[0]
    lines = [
        [
            *(f"`{e['label']}`", f"{e['seconds']:.2f}", f"{100 * (e['seconds'] / least['seconds'] - 1):+.1f}%"),
            *(f"{e['processor']:.2f}", f"{100 * (e['processor'] / least['processor'] - 1):+.1f}%"),
        ]
        for e in entries
    ]
    about = (
        f"{record['count']} digits of {least['level']}, {least['steps']} steps, batches of {record['batch_size']} in "
        f"a file each; medians of {least['runs']}"
    )
    return f"{rows(['', 'seconds', '', 'of the processor', ''], lines)}\n\n{about}."


def processes(record: dict[str, object], entries: list[Entry]) -> str:
    """Seconds of one process and of two, and how many times faster."""
    lines = [[e["label"], f"{e['seconds']:.2f}", f"{entries[0]['seconds'] / e['seconds']:.2f}×"] for e in entries]
    one = entries[0]
    about = (
        f"{record['count']} digits of {one['level']}, {one['steps']} steps, batches of {record['batch_size']}; medians "
        f"of {len(one['all'])}"
    )
    return f"{rows(['one thread a process', 'seconds', 'faster'], lines)}\n\n{about}."


def queue(record: dict[str, object], entries: list[Entry]) -> str:
    """Answers, latency, throughput and memory of a sampler under load."""
    del record
    (e,) = entries
    told = ", ".join(f"{number} {what}" for what, number in sorted(e["answers"].items()))
    good = "as they should be" if e["answers"] == e["wanted"] else "NOT as they should be"
    lines = [
        ["answers", f"{told}: {good}"],
        ["largest difference to a run of its own at that batch size", f"{e['largest_difference']:.1e}"],
        [
            "to one without a batch size: largest, median of requests",
            f"{e['rounding']:.1e}, {e['median_rounding']:.1e}",
        ],
        ["seconds until an answer, median and 99th percentile", f"{e['median']:.2f}, {e['p99']:.2f}"],
        ["a second", f"{e['requests'] / e['seconds']:.1f} requests, {e['samples'] / e['seconds']:.1f} samples"],
    ]
    first, *later = e["memory"]
    if later:
        megabytes = [look["megabytes"] for look in later]
        lines.append([
            f"memory in MB, every minute of {later[-1]['minutes']:.0f} under this load",
            f"{first['megabytes']:.0f}, then {', '.join(f'{value:.0f}' for value in megabytes)}",
        ])  # fmt: skip
        lines.append(["requests answered meanwhile", f"{later[-1]['answered']:,}"])
    about = (
        f"{e['requests']} requests for 1 to 8 digits of {e['level']} by five methods, {e['parallel']} at once; runs of "
        "64 samples at most, `batch_size=8`."
    )
    return f"{rows(['', ''], lines)}\n\n{about}"


SECTIONS = {
    f"scale-{table.__name__}": _or_not_yet(table.__name__, table)
    for table in (equal, kills, overhead, processes, queue)
}
