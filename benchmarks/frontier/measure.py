"""Error against seconds over all methods on the bundled ladder: what benchmarks.multilevel lacks, and md.auto.

    python -m benchmarks.frontier --references FOLDER    # an hour and a half on an idle core; goes on where it stopped
    python -m benchmarks.frontier --part auto --process ode --references FOLDER       # a part of it: ten minutes
    python -m benchmarks.frontier.timing                 # predicted and measured seconds: five minutes, two idle cores

Starts, noise, images, references and the form of an entry are those of benchmarks.multilevel, whose records hold the
solvers of diffusers and the methods of this package: the frontier is read from both. Here are ladder peers (see
`peers`) and what `md.auto` chooses at each budget, with noise of its own; the error of its choice is then measured on
the images of all others, which it has not seen, or taken from those records where they have that very method. Budgets
are calls of f5, cheap calls are paid for by the ladder's costs, which `md.Ladder.measured` took on an idle machine.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from rich.console import Console

import multidrift as md
from benchmarks.frontier.peers import Switch, switches
from benchmarks.frontier.settings import kept
from benchmarks.multilevel import measure as multilevel
from benchmarks.multilevel.families import FAMILIES, PLAN_SEEDS, Family
from benchmarks.multilevel.law import COUNT, of_law
from benchmarks.peers import Peer
from benchmarks.record import Record, machine
from benchmarks.tables import Entry, results
from multidrift.basics.errors import require
from multidrift.evaluation.coupled import squared_distances
from multidrift.evaluation.features import digit_features
from multidrift.evaluation.laws import average_distance, kernel_distance
from multidrift.methods.drawing import DrawingMethod
from multidrift.methods.method import Method
from multidrift.planning.auto import Choice, auto_each
from multidrift.training.digits import digits as training_digits

BUDGETS = (5, 8, 10, 15, 20, 30)
PLANS = 8  # that the law of a method with draws for a whole run is the mean over
LAW_BUDGETS = (5, 10)
AUTO = {"auto": 32, "auto-128": 128}  # samples that it compares its last candidates on
EVALUATIONS = 30  # with 128 of them, of the nodes, where the default ones can be bettered: without noise,
SEARCHED_FROM = 15  # from so many calls on
PARTS = ("settings", "switches", *AUTO, "auto-law")
FILLED = {  # of these families what benchmarks.multilevel has no record of
    "sde": ("Euler f5, linspace", "LadderMultistep f5", "LadderMultistep gaussian+f5"),
    "ode": ("Euler f5, linspace", "LadderMultistep gaussian+f5"),
}
ALL_SHARES = 10  # the budget at which every share of a switch is measured; elsewhere the best one there
REFERENCE_STEPS = 240  # of auto's own reference, the same at every budget
CONSOLE = Console(stderr=True)


def fill(ladder: md.Ladder, name: str, header: dict[str, object], references: Path) -> None:
    """Settings of benchmarks.multilevel that are in no record, at these budgets."""
    for part in dict.fromkeys(f.part for f in FAMILIES if f.label in FILLED[name]):
        there = {(e["label"], e["budget"]) for e in results(f"multilevel-{name}-{part}")["entries"]}
        record = Record(f"frontier-{name}-{part}", header, compact=True)
        record.resume()
        there |= {(e["label"], e["budget"]) for e in record.entries}
        wanted = [
            f"{f.label}, {budget} calls"
            for f in FAMILIES
            if f.part == part and f.label in FILLED[name] and f.eta in (None, multilevel.ETAS[name])
            for budget in BUDGETS
            if (f.label, budget) not in there
        ]
        if wanted:
            multilevel.Bench(ladder, name, record, references, wanted).run(part, again=False)


def measure_switches(bench: multilevel.Bench) -> None:
    """Every switch at one budget, and each kind's best share at the others."""
    best: dict[str, tuple[float, Switch]] = {}
    for switch in switches():
        mean = statistics.fmean(_measured(bench, switch, ALL_SHARES)["errors"][0])
        best[switch.kind] = min(best.get(switch.kind, (mean, switch)), (mean, switch), key=lambda pair: pair[0])
    for _, switch in best.values():
        for budget in BUDGETS:
            _measured(bench, switch, budget)


def _measured(bench: multilevel.Bench, switch: Switch, budget: int) -> Entry:
    """The entry of a switch at a budget: from the record, or measured now."""
    eta = bench.process.eta
    steps = switch.steps(bench.ladder, budget)
    for known in bench.record.entries:
        if (known["label"], known["budget"], known["calls"]) == (switch.label, budget, switch.calls(steps)):
            return known
    samples = switch.run(bench.ladder, bench.start, eta, steps, multilevel.BATCH)
    errors = squared_distances(samples, bench.reference)
    entry: Entry = {
        "eta": eta, "family": "switch", "label": switch.label, "budget": budget, "steps": steps,
        "calls": switch.calls(steps), "errors": [_rounded(errors)],
    }  # fmt: skip
    bench.record.add(entry)
    CONSOLE.print(f"{bench.name} {switch.label} {budget}: mean {errors.mean():.5f}, median {errors.median():.5f}")
    return entry


def choose(ladder: md.Ladder, name: str, record: Record, samples: int) -> None:
    """What md.auto chooses for the path at every budget, beside what it predicts of it."""
    process = md.Diffusion(ladder.schedule, multilevel.ETAS[name])
    wanted = [float(b) for b in BUDGETS if b not in {e["budget"] for e in record.entries}]
    if not wanted:
        return
    calibration = _calibrated(ladder, process)
    search = EVALUATIONS if samples == AUTO["auto-128"] and not process.noisy else 0
    few, many = ([b for b in wanted if (b >= SEARCHED_FROM) == late] for late in (False, True))
    for budgets, evaluations in ((few, 0), (many, search)):
        found = auto_each(
            ladder, process, calibration, budgets, samples=samples, reference_steps=REFERENCE_STEPS,
            evaluations=evaluations,
        )  # fmt: skip
        for budget, choice in zip(budgets, found, strict=True):
            record.add(_chosen(choice, ladder, process, int(budget)) | {"evaluations": evaluations})
            CONSOLE.print(f"{name}: {choice.reason}", highlight=False)


def _calibrated(ladder: md.Ladder, process: md.Diffusion) -> md.Calibration:
    return md.calibrate(ladder, process, costs=ladder.costs, paths=8)


def _chosen(choice: Choice, ladder: md.Ladder, process: md.Diffusion, budget: int) -> Entry:
    """An entry of a choice, its error not measured yet: the label is that of the candidate."""
    calls = choice.method.for_model(ladder, process).expected_calls(ladder)
    label = next(m.candidate.label for m in choice.tried if m.candidate.method is choice.method)
    return {
        "eta": process.eta, "family": "auto", "label": label, "budget": budget,
        "steps": choice.method.number_of_evaluations, "calls": calls,
        "method": _settings(choice.method, ladder, process),
        "predicted": choice.error, "standard_error": choice.standard_error, "distance": choice.distance,
        "distance_standard_error": choice.distance_standard_error, "seconds": choice.seconds,
        "tried": len(choice.tried), "reason": choice.reason,
    }  # fmt: skip


def _settings(method: Method, ladder: md.Ladder, process: md.Diffusion) -> dict[str, object]:
    """A method as plain values, all defaults decided; the ladder's own coefficients left out."""
    values = method.for_model(ladder, process).to_dict()
    return {key: value for key, value in values.items() if key != "covariance"}


def _same(ladder: md.Ladder, process: md.Diffusion, entry: Entry) -> Iterator[Family]:
    """The families of benchmarks.multilevel that have this very method at this budget."""
    for family in FAMILIES:
        if family.eta not in (None, process.eta) or entry["budget"] not in family.budgets or family.part == "peers":
            continue
        method = family.make(ladder, int(str(entry["budget"])))
        if not isinstance(method, Peer) and _settings(method, ladder, process) == entry["method"]:
            yield family


def known_errors(ladder: md.Ladder, process: md.Diffusion, entry: Entry) -> list[list[float]] | None:
    """The errors of the same method in the records of benchmarks.multilevel; None where it is in none."""
    name = next(name for name, eta in multilevel.ETAS.items() if eta == process.eta)
    for family in _same(ladder, process, entry):
        for there in results(f"multilevel-{name}-{family.part}")["entries"]:
            if (there["label"], there["budget"]) == (family.label, entry["budget"]):
                return there["errors"]
    return None


def measure_choices(bench: multilevel.Bench) -> None:
    """The error of each choice on the images of all others, where it is not known; of one that draws, three plans."""
    for entry in list(bench.record.entries):
        method = md.method_from_dict(entry["method"])
        errors = list(max(entry.get("errors", []), _elsewhere(bench.name, entry), key=len))
        if len(errors) > len(entry.get("errors", [])):
            bench.record.add(entry | {"errors": errors})
        for seed in (PLAN_SEEDS if _draws(method) else PLAN_SEEDS[:1])[len(errors) :]:
            found = squared_distances(bench.sample(method, plan_seed=seed).samples, bench.reference)
            errors.append(_rounded(found))
            bench.record.add(entry | {"errors": errors})
            CONSOLE.print(f"{bench.name} auto {entry['budget']}: {found.mean():.5f}, predicted {entry['predicted']}")


def _elsewhere(name: str, entry: Entry) -> list[list[float]]:
    """The errors of the same choice with another number of samples."""
    others = [e for part in AUTO for e in kept(f"frontier-{name}-{part}") if "errors" in e]
    same = [e["errors"] for e in others if (e["budget"], e["method"]) == (entry["budget"], entry["method"])]
    return max(same, key=len, default=[])


def _draws(method: Method) -> bool:
    """Whether all samples of a run follow one random plan."""
    return isinstance(method, DrawingMethod) and method.luck_is_shared


def _unfinished(entry: Entry) -> bool:
    """Whether errors are missing, of a choice or of its plans."""
    wanted = len(PLAN_SEEDS) if _draws(md.method_from_dict(entry["method"])) else 1
    return len(entry.get("errors", ())) < wanted


def choose_by_law(ladder: md.Ladder, name: str, record: Record) -> None:
    """What md.auto chooses for the law of digits' features."""
    process = md.Diffusion(ladder.schedule, multilevel.ETAS[name])
    wanted = [float(b) for b in LAW_BUDGETS if b not in {e["budget"] for e in record.entries}]
    if not wanted:
        return
    found = auto_each(
        ladder, process, _calibrated(ladder, process), wanted, quality="law", features=digit_features, samples=128,
        reference_steps=100,
    )  # fmt: skip
    for budget, choice in zip(wanted, found, strict=True):
        record.add(_chosen(choice, ladder, process, int(budget)))
        CONSOLE.print(f"{name}: {choice.reason}", highlight=False)


def measure_laws(ladder: md.Ladder, name: str, record: Record) -> None:
    """The law of a thousand samples of each choice: from the record of benchmarks.multilevel.law, or drawn now."""
    process = md.Diffusion(ladder.schedule, multilevel.ETAS[name])
    known = {(e["label"], e["budget"]): e for e in results("multilevel-law")["entries"] if e["eta"] == process.eta}
    real = digit_features(training_digits().train)
    for entry in [e for e in record.entries if "kernel" not in e]:
        labels = [family.label for family in _same(ladder, process, entry)]
        found = next((known[label, entry["budget"]] for label in labels if (label, entry["budget"]) in known), None)
        if found is None:
            found = _law_of(ladder, md.method_from_dict(entry["method"]), process, real)
        record.add(entry | {key: found[key] for key in ("kernel", "frechet")})
        CONSOLE.print(f"{name} auto by law {entry['budget']}: {found['kernel']}, predicted {entry['predicted']}")


def _law_of(ladder: md.Ladder, method: Method, process: md.Diffusion, real: torch.Tensor) -> Entry:
    """The law of a thousand samples; where one plan serves a whole run, the mean over runs with plans of their own.

    The Fréchet distance is biased by the size of a set, so that small runs have none to compare.
    """
    plans = PLANS if _draws(method) else 1
    each = COUNT // plans
    runs = [
        md.sample(
            ladder, method, process, count=each, first=each * plan, plan_seed=plan, batch_size=multilevel.BATCH,
            progress=False,
        ).samples
        for plan in range(plans)
    ]  # fmt: skip
    if plans == 1:
        return of_law(runs[0], real)
    kernel = average_distance([kernel_distance(digit_features(run), real) for run in runs], [each] * plans)
    return {"kernel": [kernel.value, *kernel.interval], "frechet": None}


def _rounded(errors: torch.Tensor) -> list[float]:
    return [float(f"{e:.4g}") for e in errors.tolist()]


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"{', '.join(PARTS)}; all by default.")] = None,
    process: Annotated[list[str], typer.Option(help="sde (η = 1), ode (η = 0).")] = ["sde", "ode"],  # noqa: B006
    references: Annotated[Path | None, typer.Option(help="Folder of the references of benchmarks.multilevel.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the processor.")] = 1,
    *,
    run: Annotated[bool, typer.Option(help="Run what needs the reference, and not only auto's choice.")] = True,
) -> None:
    """Measure what is in no record yet."""
    with TemporaryDirectory() as folder:  # one reference for all parts
        _measure(part or list(PARTS), process, references or Path(folder), threads, run=run)


def _measure(parts: list[str], processes: list[str], references: Path, threads: int, *, run: bool) -> None:
    """The parts, process by process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    ladder = multilevel.digits("cpu")
    assert ladder.costs is not None
    for one in parts:
        require(one in PARTS, "part", one, ", ".join(PARTS))
        for which in processes:
            steps = multilevel.REFERENCES[which].number_of_evaluations
            header: dict[str, object] = {"benchmark": "frontier", "machine": machine("cpu"), "count": 128}
            header |= {"reference_steps": steps, "costs_of_calls": dict(ladder.costs.seconds)}
            if one == "settings":
                fill(ladder, which, header, references)
                continue
            record = Record(f"frontier-{which}-{one}", header, compact=True)
            record.resume()
            if one in AUTO:
                choose(ladder, which, record, AUTO[one])
                diffusion = md.Diffusion(ladder.schedule, multilevel.ETAS[which])
                for entry in [e for e in record.entries if "errors" not in e]:
                    errors = known_errors(ladder, diffusion, entry)
                    record.add(entry if errors is None else entry | {"errors": errors, "from_record": True})
            if one == "auto-law":
                choose_by_law(ladder, which, record)
                measure_laws(ladder, which, record)
            elif one == "switches" or (run and any(map(_unfinished, record.entries))):
                bench = multilevel.Bench(ladder, which, record, references, [])
                measure_switches(bench) if one == "switches" else measure_choices(bench)
