"""The law of samples at equal cost: LadderMultistep beside diffusers' solvers on f5.

    python -m benchmarks.multilevel.law --threads 2     # an hour on two idle cores; goes on where it was stopped

1,000 digits of each method (seed 0, the same starts) at what 5, 10 and 20 calls of f5 cost. Their distance is the
unbiased kernel distance ("KID", ×1000) of the features of `multidrift.evaluation.features` to the 9,000 training
digits, with its 95% interval over images, and the Fréchet distance; 1,000 held-out digits stand beside. Each peer has
the spacing of least mean path error at its budget, by `benchmarks.multilevel`.
"""

from __future__ import annotations

import json
import statistics
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor

import multidrift as md
from benchmarks.multilevel.families import FAMILIES
from benchmarks.multilevel.measure import BATCH, ETAS, digits
from benchmarks.peers import Peer, run_peer
from benchmarks.record import RESULTS, Record, machine
from multidrift.evaluation.features import digit_features
from multidrift.evaluation.laws import frechet_distance, kernel_distance
from multidrift.noise.counter import Keys, Stream
from multidrift.training.digits import digits as training_digits

COUNT, BUDGETS = 1000, (10, 5, 20)
CONSOLE = Console(stderr=True)


def chosen(process: str, budget: int) -> list[str]:
    """Labels of what is measured: LadderMultistep, and each peer at its best spacing."""
    found = ["LadderMultistep f2+f5"] if process == "sde" else ["LadderMultistep f2+f5", "LadderMultistep gaussian+f5"]
    entries = json.loads((RESULTS / f"multilevel-{process}-peers.json").read_text())["entries"]
    solvers: dict[str, tuple[float, str]] = {}
    for entry in entries:
        if entry["budget"] == budget:
            mean = statistics.fmean(entry["errors"][0])
            solver = entry["label"].split(",")[0]
            solvers[solver] = min(solvers.get(solver, (mean, entry["label"])), (mean, entry["label"]))
    return found + [label for _, label in solvers.values()]


def of_law(samples: Tensor, real: Tensor) -> dict[str, object]:
    """Kernel distance, with its interval, and Fréchet distance of samples' features to real ones."""
    features = digit_features(samples)
    kernel = kernel_distance(features, real)
    return {"kernel": [kernel.value, *kernel.interval], "frechet": frechet_distance(features, real)}


def main(threads: Annotated[int, typer.Option(help="Threads of the processor.")] = 1) -> None:
    """Measure the law of every chosen setting that is not in the record yet."""
    torch.set_num_threads(threads)
    ladder, split = digits("cpu"), training_digits()
    real, held_out = digit_features(split.train), digit_features(split.held_out)
    header: dict[str, object] = {"benchmark": "multilevel-law", "machine": machine("cpu"), "count": COUNT}
    record = Record("multilevel-law", header)
    record.resume()
    kept = kernel_distance(held_out, real)
    record.header["held_out"] = {"kernel": [kept.value, *kept.interval], "frechet": frechet_distance(held_out, real)}
    keys = Keys.of((0,) * COUNT, range(COUNT), Stream.START, torch.device("cpu"))
    start = keys.normals([0], (1, 28, 28), torch.float32)[0]
    known = {(e["label"], e["budget"], e["eta"]) for e in record.entries}
    for budget in BUDGETS:
        for name, eta in ETAS.items():
            for label in chosen(name, budget):
                if (label, budget, eta) in known:
                    continue
                family = next(f for f in FAMILIES if f.label == label and f.eta in (None, eta))
                method = family.make(ladder, budget)
                if isinstance(method, Peer):
                    samples = run_peer(method, ladder["f5"], start, budget, seed=0, batch_size=BATCH)
                else:
                    process = md.Diffusion(ladder.schedule, eta)
                    found = md.sample(ladder, method, process, count=COUNT, batch_size=BATCH, progress=False)
                    samples = found.samples
                entry: dict[str, object] = {"label": label, "budget": budget, "eta": eta, **of_law(samples, real)}
                record.add(entry)
                CONSOLE.print(f"{name} {label}, {budget}: kernel distance {entry['kernel']}")


if __name__ == "__main__":
    typer.run(main)
