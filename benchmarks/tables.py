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


def rows(header: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table."""
    table = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)
