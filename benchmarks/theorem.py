"""ML-EM's theorem on a ladder of known γ: cost against error over a factor 32, beside Euler's.

    python -m benchmarks.theorem               # about four minutes on an idle core
    python -m benchmarks.theorem --count 64    # quicker, wider intervals

The ladder is md.SyntheticLadder: |f^k − f| ≤ 2^{−k}/2 at a cost of 2^{γk} exactly, f Lipschitz. The reference is the
solution of the equation with f itself, in closed form: for the SDE dx = −x dt + √2 dW along the run's own path, for the
ODE the probability flow of N(0, 1/4). With every halving of the error the steps double, the top level rises by
one, and p_k = min(1, C 2^{−(1+γ/2)k}) with C ∝ 2^{jγ/2}, as Theorem 1 has it for a step in proportion to the error.
Costs are expected calls times exact costs; no second is measured. Errors are root mean square over samples, each with
draws of its own; slopes are regressions of log cost on log error, intervals resample the samples.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

import multidrift as md
from benchmarks.record import Record, machine
from benchmarks.tables import results, rows
from multidrift.evaluation.coupled import squared_distances
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
from multidrift.processes.process import Process
from multidrift.schedules.schedule import Schedule

Floats = NDArray[np.float64]
NAME = "theorem"
GAMMAS = (1.0, 2.5, 3.0, 4.0)
HALVINGS = 6  # errors over a factor 2⁵
FIRST_STEPS, FIRST_LEVELS = 64, 3
TOP_CALLS = 8.0  # expected firings of the top difference, at every error
DIMENSION = 4
FINE = 4096  # pieces of the closed form's integral over the Brownian path
RESAMPLES = 1000
SEED = 3


@dataclass(frozen=True)
class Problem:
    """An equation whose solution with the exact drift is known. `model` of a ladder's levels."""

    process: Process
    schedule: Schedule | None
    solution: Callable[[int], Tensor]  # of so many samples


def sde() -> Problem:
    """The equation dx = −x dt + √2 dW on [0, 1]: x(1) = e^{−1} x(0) + ∫ e^{−(1−s)} √2 dW(s)."""
    process = md.Overdamped(1.0)

    def solution(count: int) -> Tensor:
        keys = [Keys.of((SEED,) * count, range(count), stream, torch.device("cpu")) for stream in _STREAMS]
        path = BrownianPath(process, keys[1], (DIMENSION,), torch.float64)
        edges = np.linspace(0.0, 1.0, FINE + 1)
        intervals = process.intervals(edges[:-1], edges[1:])
        x = keys[0].normals([0], (DIMENSION,), torch.float64)[0] * math.exp(-1.0)
        for n in range(FINE):
            decay = math.exp(-(1.0 - 0.5 * float(edges[n] + edges[n + 1])))
            x = x + decay * float(intervals.std[n]) * path.increment(float(edges[n]), float(edges[n + 1]))
        return x

    return Problem(process, None, solution)


def ode() -> Problem:
    """The probability flow of N(0, 1/4): x(t) in proportion to the standard deviation of the marginal at t."""
    schedule = md.schedules.ddpm()

    def solution(count: int) -> Tensor:
        keys = Keys.of((SEED,) * count, range(count), Stream.START, torch.device("cpu"))
        first, last = schedule.t_max, schedule.t_min
        spread = [math.hypot(0.5 * float(schedule.alpha(t)), float(schedule.sigma(t))) for t in (first, last)]
        gain = 0.25 * float(schedule.alpha(last)) / spread[1] ** 2  # E[x₀ | x]
        return gain * spread[1] / spread[0] * keys.normals([0], (DIMENSION,), torch.float64)[0]

    return Problem(md.Diffusion(schedule, 0.0), schedule, solution)


_STREAMS = (Stream.START, Stream.NOISE)
PROBLEMS: dict[str, Callable[[], Problem]] = {"sde": sde, "ode": ode}


def settings(gamma: float, halvings: int) -> list[tuple[int, int, list[float]]]:
    """(steps, levels, probabilities) for each error, the largest first."""
    found = []
    constant = TOP_CALLS / FIRST_STEPS * 2.0 ** ((1 + gamma / 2) * FIRST_LEVELS)
    for j in range(halvings):
        levels = np.arange(1, FIRST_LEVELS + j + 1)
        p = np.minimum(1.0, constant * 2.0 ** (j * gamma / 2) * 2.0 ** (-(1 + gamma / 2) * levels))
        found.append((FIRST_STEPS * 2**j, len(levels), p.tolist()))
    return found


def measure(name: str, gamma: float, halvings: int, count: int) -> dict[str, list[dict[str, object]]]:
    """Errors [samples] and costs of ML-EM and of Euler on the top level, one entry an error."""
    problem = PROBLEMS[name]()
    exact = problem.solution(count)
    found: dict[str, list[dict[str, object]]] = {"multilevel": [], "euler": []}
    for steps, levels, p in settings(gamma, halvings):
        ladder = md.SyntheticLadder(gamma, levels=levels, dimension=DIMENSION, unit=1.0).ladder(problem.schedule)
        methods = {
            "multilevel": md.Multilevel(steps, probabilities=p, draws="independent", shared=False),
            "euler": md.Euler(steps),
        }
        for kind, method in methods.items():
            result = md.sample(ladder, method, problem.process, count=count, seed=SEED, dtype=torch.float64)
            errors = squared_distances(result.samples, exact).numpy()
            cost = method.cost(ladder).seconds
            found[kind].append({"steps": steps, "levels": levels, "cost": cost, "errors": errors})
    return found


def slope(entries: list[dict[str, object]]) -> tuple[float, float, float]:
    """−d log cost / d log error by regression, and its 95% interval over resampled samples."""
    cost = np.log([float(str(e["cost"])) for e in entries])
    squares = np.stack([np.asarray(e["errors"]) for e in entries])

    def regressed(chosen: NDArray[np.intp]) -> float:
        error = 0.5 * np.log(squares[:, chosen].mean(axis=1))
        centred = error - error.mean()
        return float(-(centred @ cost) / (centred @ centred))

    rng, number = np.random.default_rng(0), squares.shape[1]
    drawn = [regressed(rng.integers(number, size=number)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return regressed(np.arange(number)), float(low), float(high)


def forecast(gamma: float, j: int) -> tuple[float, float]:
    """(log₂ cost, log₂ error) of the j-th setting in closed form, where draws are rare and the error is their scatter.

    Cost Σ_k p_k (c_k + c_{k−1}) a step; squared error Σ_k V_k (1/p_k − 1)/steps with V_k = (4^{−k} + 4^{−(k−1)})/8.
    """
    steps, levels, chosen = settings(gamma, j + 1)[-1]
    p, k = np.array(chosen), np.arange(1, levels + 1)
    own = 2.0 ** (gamma * (k - 1))
    cost = steps * (p * (own + np.append(0.0, own[:-1]))).sum()
    squared = ((4.0**-k + 4.0 ** (1 - k)) / 8.0 * (1.0 / p - 1.0)).sum() / steps
    return math.log2(cost), 0.5 * math.log2(squared)


def forecast_slopes(gamma: float) -> tuple[float, float]:
    """The slope that the closed form has over the settings measured, and over as many that lie 40 halvings below.

    Both sums run over the levels with p_k < 1, of which the first settings have few: they approach their geometric
    limits like 2^{−(γ/2 − 1)k}, slowly where γ is near 2.
    """

    def over(first: int) -> float:
        cost, error = zip(*(forecast(gamma, first + j) for j in range(HALVINGS)), strict=True)
        return float(-np.polyfit(error, cost, 1)[0])

    return over(0), over(40)


def table() -> str:
    """Slopes of both methods, and what the theorem and the finite sum say."""
    lines = []
    for e in results(NAME)["entries"]:
        spans = [f"{e[kind][0]:.2f} ({e[kind][1]:.2f} to {e[kind][2]:.2f})" for kind in ("multilevel", "euler")]
        here, far = e["forecast"]
        theory = f"{e['gamma']:g}" if e["gamma"] > 2 else "no gain"
        gain = f"{e['gain'][0]:.1f} → {e['gain'][1]:.1f}"
        lines.append(
            [e["process"], f"{e['gamma']:g}", spans[0], theory, f"{here:.2f} → {far:.2f}", spans[1], gain, e["range"]]
        )
    header = ["", "γ", "ML-EM: slope (95%)", "theorem", "closed form: here → 40 halvings below", "Euler: slope (95%)",
              "Euler's cost over ML-EM's at equal error: largest → least error", "error from … to"]  # fmt: skip
    return rows(header, lines)


def gain(found: dict[str, list[dict[str, object]]]) -> tuple[float, float]:
    """Euler's cost over ML-EM's at the largest and the least error that ML-EM reached, on Euler's fitted line."""

    def line(kind: str) -> tuple[Floats, Floats]:
        errors = [0.5 * math.log(float(np.asarray(e["errors"]).mean())) for e in found[kind]]
        return np.array(errors), np.log([float(str(e["cost"])) for e in found[kind]])

    fitted, own = np.polyfit(*line("euler"), 1), np.polyfit(*line("multilevel"), 1)
    first, *_, last = line("multilevel")[0]
    return tuple(float(np.exp(np.polyval(fitted, e) - np.polyval(own, e))) for e in (first, last))


def main(count: Annotated[int, typer.Option(help="Samples, each with draws of its own.")] = 512) -> None:
    """Measure every γ for the SDE and the ODE."""
    console = Console(stderr=True)
    warnings.simplefilter("ignore", md.PlanWarning)  # the theorem's rare firings overshoot at the end of the flow
    header = {"benchmark": NAME, "count": count, "machine": machine("cpu"), "halvings": HALVINGS}
    record = Record(NAME, header | {"top_calls": TOP_CALLS, "first_steps": FIRST_STEPS}, compact=True)
    for name in PROBLEMS:
        for gamma in GAMMAS:
            found = measure(name, gamma, HALVINGS, count)
            rms = [float(np.asarray(e["errors"]).mean()) ** 0.5 for e in found["multilevel"]]
            entry: dict[str, object] = {"process": name, "label": f"gamma {gamma:g}", "gamma": gamma}
            entry |= {kind: slope(entries) for kind, entries in found.items()}
            entry |= {"forecast": forecast_slopes(gamma), "gain": gain(found)}
            entry |= {"range": f"{rms[0]:.2g} to {rms[-1]:.2g}", "steps": 0}
            entry["curves"] = {
                kind: [[e["cost"], float(np.asarray(e["errors"]).mean()) ** 0.5] for e in entries]
                for kind, entries in found.items()
            }
            record.add(entry)
            console.print({key: value for key, value in entry.items() if key != "curves"})


SECTIONS = {"theorem": table}

if __name__ == "__main__":
    typer.run(main)
