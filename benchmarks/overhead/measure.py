"""Time every loop in turns and keep what a step of each takes: on idle cores, or on a GPU (`--device cuda`).

python -m benchmarks.overhead                                  # minutes on two idle cores
python -m benchmarks.overhead --device cuda --batches 1,16,1024 --compiled --channels-last
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Annotated

import torch
import typer
from rich.console import Console

import multidrift as md
from benchmarks.overhead.loops import Loop, Setting, loops
from benchmarks.record import Record, machine

SHAPE = (1, 28, 28)


def free(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # noqa: ARG001  # a network's signature
    """A network that costs nothing."""
    return x


def settings(
    levels: list[str], batches: list[int], device: torch.device, *, compiled: bool, channels_last: bool
) -> list[Setting]:
    """The free network, and levels of the digits ladder, at every batch size."""
    ladder = md.Ladder.bundled("digits").to(device)
    networks: dict[str, object] = {"free": free}
    for name in levels:
        network = ladder[name].net.eval()
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        networks[name] = torch.compile(network, mode="reduce-overhead") if compiled else network
    return [
        Setting(name, network, SHAPE, batch, 200 if name == "free" else 20, device)
        for name, network in networks.items()
        for batch in batches
    ]


def seconds(jobs: dict[str, Loop], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each job, the jobs taking turns; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
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


def main(
    device: str = "cpu",
    batches: str = "1,16",
    levels: str = "f1,f5",
    repeats: int = 7,
    compiled: Annotated[bool, typer.Option(help="compile the networks, with CUDA graphs on a GPU")] = False,
    channels_last: Annotated[bool, typer.Option(help="networks in the memory format channels-last")] = False,
) -> None:
    """Time all loops and keep milliseconds a step; an overhead is that of the loop less that of bare calls."""
    where = torch.device(device)
    options = [name for name, chosen in (("compiled", compiled), ("channels-last", channels_last)) if chosen]
    name = "-".join(["overhead", *([] if where.type == "cpu" else [where.type]), *options])
    record = Record(name, {"benchmark": "overhead", "machine": machine(device), "options": options})
    chosen = settings(
        levels.split(","), [int(n) for n in batches.split(",")], where, compiled=compiled, channels_last=channels_last
    )
    for setting in chosen:
        jobs = loops(setting)
        taken = seconds(jobs, repeats, where)
        least = statistics.median(taken["bare calls"])
        for label, values in taken.items():
            entry: dict[str, object] = {
                "level": setting.name,
                "label": f"{label}, {setting.batch}",
                "steps": setting.steps,
                "milliseconds_a_step": 1000 * statistics.median(values) / setting.steps,
                "overhead": 1000 * (statistics.median(values) - least) / setting.steps,
                "runs": len(values),
            }
            if where.type == "cuda":
                entry["synchronisations"] = synchronisations(jobs[label])
            record.add(entry)
            text = f"{setting.name:5s} {label:24s} [{setting.batch}, 1, 28, 28]"
            Console(stderr=True).print(f"{text} {entry['milliseconds_a_step']:8.3f} ms, {entry['overhead']:+7.3f}")
