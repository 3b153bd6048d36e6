"""The bundled ladder: held-out error and cost of each level, and what half-precision weights change.

python -m benchmarks.ladder            # about five minutes on two cores
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

import multidrift as md
from benchmarks.record import Record, machine
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.denoising import DenoisingErrors, denoising_errors
from multidrift.training.images import load_images, split

TIMES = np.linspace(0, 999, 20)
FLOOR_GUESSES = np.linspace(0.0, 0.999, 1000)


def scaling(errors: list[float], seconds: list[float]) -> tuple[float, float]:
    """(γ, floor): error ≈ floor + constant·seconds^(−1/γ), fitted in logarithms over a grid of floors."""
    best = None
    for share in FLOOR_GUESSES:
        above = np.log(np.array(errors) - share * min(errors))
        fit = np.polyfit(np.log(seconds), above, 1, full=True)
        residual = float(fit[1][0]) / float(np.var(above))
        if best is None or residual < best[0]:
            best = (residual, -1.0 / float(fit[0][0]), share * min(errors))
    assert best is not None
    return best[1], best[2]


def measure_errors(ladder: md.Ladder, data: Path) -> DenoisingErrors:
    """The held-out errors, with a progress bar."""
    held_out = split(load_images(data), 0.1, seed=0).held_out
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("held-out images")
        return denoising_errors(
            ladder,
            held_out,
            TIMES.tolist(),
            report=lambda done, parts, _: bar.update(task, total=parts, completed=done),
        )


def half_precision(ladder: md.Ladder) -> dict[str, float]:
    """Samples of f5 with its weights rounded to half once more, beside a level's own distance from the next."""
    with tempfile.TemporaryDirectory() as folder:
        ladder.save(Path(folder) / "half", half=True)
        half = md.Ladder.load(Path(folder) / "half")
        method, count = md.Euler(50), 16
        full = md.sample(ladder["f5"], method, count=count).samples
        found = {"f5 saved in half": md.sample(half["f5"], method, count=count).samples}
        found["f4 instead of f5"] = md.sample(ladder["f4"], method, count=count).samples
        return {label: float(squared_distances(samples, full).mean()) for label, samples in found.items()}


def main() -> None:
    """Print and keep the table of levels."""
    console = Console(stderr=True)
    ladder = md.Ladder.bundled("digits").measured(batch=64, repeats=9)
    assert ladder.costs is not None
    record = Record("ladder", {"benchmark": "ladder", "machine": machine("cpu"), "batch": 64})
    errors = measure_errors(ladder, Path(md.__file__).parent / "bundled" / "digits.npz")
    seconds = [ladder.costs.seconds[name] for name in ladder.names]
    for index, name in enumerate(ladder.names):
        gap, spread = errors.gap(ladder.names[index - 1], name) if index else (float("nan"), float("nan"))
        entry: dict[str, object] = {
            "level": name,
            "parameters": sum(p.numel() for p in ladder[name].modules[0].parameters()),
            "seconds": seconds[index],
            "error": errors.mean(name),
            "by_time": errors.by_time(name),
        }
        if index:
            entry |= {"gap": gap, "standard_error": spread}
        record.add(entry)
        console.print(entry)
    gamma, floor = scaling([errors.mean(name) for name in ladder.names], seconds)
    record.header |= {"gamma": gamma, "floor": floor, "times": TIMES.tolist(), "samples": half_precision(ladder)}
    record.write()
    console.print(f"γ = {gamma:.2f} with an irreducible error of {floor:.4f}; {record.header['samples']}")


if __name__ == "__main__":
    main()
