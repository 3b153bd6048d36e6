"""Time every loop in turns and keep what a step of each takes: on idle cores, or on a GPU (`--device cuda`).

python -m benchmarks.overhead                                  # minutes on two idle cores
python -m benchmarks.overhead --device cuda --batches 1,16,1024 --options "as it is,compiled: reduce-overhead"
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
import typer
from rich.console import Console

import multidrift as md
from benchmarks.overhead.loops import OPTIONS, Loop, Setting, loops, with_options
from benchmarks.record import Record, machine

SHAPE = (1, 28, 28)
BATCH_OF_OPTIONS = 128  # where options are compared


def free(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # noqa: ARG001  # a network's signature
    """A network that costs nothing."""
    return x


def settings(levels: list[str], batches: list[int], device: torch.device) -> list[Setting]:
    """The free network, and levels of the digits ladder, at every batch size."""
    ladder = md.Ladder.bundled("digits").to(device)
    networks = {"free": free} | {name: ladder[name].net.eval() for name in levels}
    return [
        Setting(name, network, SHAPE, batch, 200 if name == "free" else 5, device)
        for name, network in networks.items()
        for batch in batches
    ]


def seconds(jobs: Mapping[str, Loop], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each job, the jobs taking turns, every turn in another order; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for turn in range(repeats + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            jobs[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                found[name].append(time.perf_counter() - began)
    return found


def synchronisations(job: Loop) -> int:
    """How often a job waited for the GPU, by torch's own count."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            job()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


def measure(record: Record, setting: Setting, jobs: Mapping[str, Loop], repeats: int, least: str) -> None:
    """Keep the median of each job, and the median of what it took more than `least` in the same turn."""
    taken = seconds(jobs, repeats, setting.device)
    for label, values in taken.items():
        more = [own - other for own, other in zip(values, taken[least], strict=True)]
        entry: dict[str, object] = {
            "level": setting.name,
            "label": f"{label}, {setting.batch}",
            "steps": setting.steps,
            "milliseconds_a_step": 1000 * statistics.median(values) / setting.steps,
            "overhead": 1000 * statistics.median(more) / setting.steps,
            "runs": len(values),
        }
        if setting.device.type == "cuda":
            entry["synchronisations"] = synchronisations(jobs[label])
        record.add(entry)
        text = f"{setting.name:5s} {label:24s} [{setting.batch}, 1, 28, 28]"
        Console(stderr=True).print(f"{text} {entry['milliseconds_a_step']:8.3f} ms, {entry['overhead']:+7.3f}")


def main(
    device: str = "cpu",
    batches: str = "1,16",
    levels: str = "f1,f5",
    repeats: int = 14,
    options: str = ",".join(name for name in OPTIONS if "reduce" not in name),
    only_options: Annotated[bool, typer.Option(help="measure the options of a level alone")] = False,
) -> None:
    """Time all loops and keep milliseconds a step; an overhead is that of the loop less that of bare calls."""
    where = torch.device(device)
    name = "-".join(["overhead", *([] if where.type == "cpu" else [where.type])])
    record = Record(name, {"benchmark": "overhead", "machine": machine(device)})
    chosen = settings(levels.split(","), [int(n) for n in batches.split(",")], where)
    for setting in [] if only_options else chosen:
        measure(record, setting, loops(setting), repeats, "bare calls")
    record = Record(name.replace("overhead", "options"), record.header)
    for one in {setting.name: setting for setting in chosen if setting.name != "free"}.values():
        setting = replace(one, batch=BATCH_OF_OPTIONS, steps=2)
        measure(record, setting, with_options(setting, options.split(",")), 3, "as it is")
