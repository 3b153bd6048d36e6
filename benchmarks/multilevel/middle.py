"""Whether a middle level between f2 and f5 could pay for itself in LadderMultistep.

    python -m benchmarks.multilevel.middle --references FOLDER      # ten minutes on one core

Three levels would walk the cell with f2, correct that walk by f3 and the corrected one by f5. At best that is what f3
at every place would give, for the price of fewer calls of it. So f3 and f4 are measured in place of f2, once paid for
and once for nothing, with as many calls of f5 as f2 leaves room for: where even the free one is not much nearer, no
third level can pay. Each is fitted on paths of its own (seed 2³²); errors are those of images 0 to 63 of
`benchmarks.multilevel`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from safetensors.torch import load_file

import multidrift as md
from benchmarks.multilevel.families import most_steps
from benchmarks.multilevel.measure import BATCH, ETAS, REFERENCES, digits
from benchmarks.record import Record, machine
from multidrift.evaluation.coupled import squared_distances

COUNT, BUDGETS, CHEAP = 64, (10, 20), ("f2", "f3", "f4")
SUBSTEPS = {1.0: 3, 0.0: 1}
CONSOLE = Console(stderr=True)


def method(cheap: str, substeps: int, steps: int) -> md.LadderMultistep:
    """LadderMultistep of f5 with one cheap level."""
    return md.LadderMultistep(steps, levels=(cheap, "f5"), substeps=substeps)


def main(references: Annotated[Path, typer.Option(help="Folder of the references of benchmarks.multilevel.")]) -> None:
    """Measure each cheap level, paid for and for nothing."""
    torch.set_num_threads(1)
    ladder = digits("cpu")
    header: dict[str, object] = {"benchmark": "multilevel-middle", "machine": machine("cpu"), "count": COUNT}
    record = Record("multilevel-middle", header, compact=True)
    for name, eta in ETAS.items():
        process = md.Diffusion(ladder.schedule, eta)
        kept = references / f"reference-{name}-{REFERENCES[name].number_of_evaluations}-128.safetensors"
        reference = load_file(kept)["end"][:COUNT]
        for cheap in CHEAP:
            fitted = method(cheap, SUBSTEPS[eta], 10).for_model(ladder, process).fitted(ladder, process)
            for budget in BUDGETS:
                paid = most_steps(partial(method, cheap, SUBSTEPS[eta]), ladder, budget).number_of_evaluations
                free = most_steps(partial(method, "f2", SUBSTEPS[eta]), ladder, budget).number_of_evaluations
                for kind, steps in dict.fromkeys((("paid", paid), ("free", free))):
                    if cheap == "f2" and kind == "free":
                        continue
                    run = md.LadderMultistep(
                        steps, levels=(cheap, "f5"), substeps=SUBSTEPS[eta], covariance=fitted.covariance
                    )
                    found = md.sample(ladder, run, process, count=COUNT, batch_size=BATCH, progress=False)
                    errors = squared_distances(found.samples, reference).tolist()
                    entry: dict[str, object] = {"label": f"{cheap}, {kind}", "eta": eta, "budget": budget}
                    record.add(entry | {"steps": steps, "errors": [float(f"{e:.4g}") for e in errors]})
                    middle = torch.tensor(errors).median()
                    CONSOLE.print(f"{name} {cheap} {kind} {budget} calls ({steps} of f5): median {middle:.5f}")


if __name__ == "__main__":
    typer.run(main)
