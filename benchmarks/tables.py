"""What the written pages share: the kept results, and Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeAlias

from benchmarks.record import RESULTS

Entry: TypeAlias = dict[str, object]


def results(name: str) -> dict[str, object]:
    """The kept result of one benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def machine(record: dict[str, object]) -> str:
    """What a record was measured on: the device, its threads, and the versions of all packages."""
    about = record["machine"]
    threads = "one thread" if about["threads"] == 1 else f"{about['threads']} threads"
    versions = ", ".join(f"{name} {version}" for name, version in (about["versions"] | about.get("peers", {})).items())
    return f"{about['device']}, {threads}, {versions}"


def kernel(e: Entry) -> str:
    """A kernel distance in thousandths, with its interval."""
    value, low, high = (1000 * v for v in e["kernel"])
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def rows(header: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table."""
    table = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)
