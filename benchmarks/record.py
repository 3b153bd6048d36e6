"""Where benchmark results are kept: one JSON file each, rewritten whole after every entry."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch

import multidrift as md
from multidrift.basics.errors import require
from multidrift.basics.files import write_whole
from multidrift.drifts.costs import processor_name

RESULTS = Path(__file__).parent / "results"


def machine(device: str) -> dict[str, object]:
    """What was measured where, and with which versions."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "versions": {"multidrift": md.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__},
    }


@dataclass
class Record:
    """The entries of one benchmark, on disk after each of them."""

    name: str
    header: dict[str, object]
    entries: list[dict[str, object]] = field(default_factory=list)
    compact: bool = False  # an entry a line, for records that keep the error of each image

    @property
    def path(self) -> Path:
        """The file this record is kept in."""
        return RESULTS / f"{self.name}.json"

    def resume(self) -> None:
        """Go on from the file, if there is one; its entries must be of as many images as these."""
        if self.path.is_file():
            kept = json.loads(self.path.read_text())
            count = self.header.get("count")
            require(kept.get("count") == count, "count", count, f"{kept.get('count')}, as kept")
            self.entries = kept.pop("entries")
            self.header = kept | self.header

    def add(self, entry: dict[str, object]) -> None:
        """Keep one more entry, in the place of the one of the same name if there is one."""
        names = [_name(known) for known in self.entries]
        if _name(entry) in names:
            self.entries[names.index(_name(entry))] = entry
        else:
            self.entries.append(entry)
        self.write()

    def write(self) -> None:
        """Write under a temporary name, then rename."""
        RESULTS.mkdir(exist_ok=True)
        content = self.header | {"entries": self.entries}
        text = json.dumps(content, indent=1) if not self.compact else _by_line(content)
        write_whole(self.path, lambda partial: partial.write_text(text + "\n"))

    @staticmethod
    def kept(name: str) -> Record:
        """The record as it is on disk, to measure a part of it again."""
        header = json.loads((RESULTS / f"{name}.json").read_text())
        return Record(name, header, header.pop("entries"))


def _by_line(content: dict[str, object]) -> str:
    """JSON with one line for each key and each entry."""
    entries = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in content["entries"])
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items() if key != "entries"]
    return "{\n" + ",\n".join([*lines, f'"entries": [\n{entries}\n]']) + "\n}"


def _name(entry: dict[str, object]) -> tuple[object, ...]:
    """What tells the entries of one record apart."""
    return tuple(entry.get(key) for key in ("problem", "process", "budget", "eta", "label", "level", "steps"))
