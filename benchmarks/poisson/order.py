"""Weak order of the Poisson midpoint method with a fixed K and with K ∝ 1/step, in closed form: no sampling, no noise.

python -m benchmarks.poisson.order     # a few seconds
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import typer

import multidrift as md
from benchmarks.poisson.linear_law import step_law
from benchmarks.record import Record, machine
from multidrift.methods.poisson.substeps import SubstepDraws

HORIZON, START, FIXED, CONSTANT = 2.0, 2.0, 8, 2.0
STEPS = tuple(2**k for k in range(2, 11))
TARGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
PROCESS = md.Overdamped(HORIZON)
METHODS: dict[str, tuple[SubstepDraws | None, Callable[[float], int]]] = {
    "Euler": (None, lambda _: 1),
    f"independent, K = {FIXED}": ("independent", lambda _: FIXED),
    f"single, K = {FIXED}": ("single", lambda _: FIXED),
    "independent, K = 2/h": ("independent", lambda h: math.ceil(CONSTANT / h)),
    "single, K = 2/h": ("single", lambda h: math.ceil(CONSTANT / h)),
    "midpoint": ("midpoint", lambda _: 2),
}


def error(label: str, steps: int) -> float:
    """The larger error of mean and variance at the horizon, dx = −x dt + √2 dB from a fixed point."""
    draws, substeps = METHODS[label]
    h = HORIZON / steps
    step = step_law(PROCESS, h, draws, substeps(h))
    mean, second = step.after(steps, np.array([START]), np.array([[START**2]]))
    decay = math.exp(-HORIZON)
    variance = float(second[0, 0] - mean[0] ** 2)
    return max(abs(float(mean[0]) - START * decay), abs(variance - (1.0 - decay**2)))


def calls(label: str, steps: int) -> float:
    """Expected gradients of a chain."""
    draws, substeps = METHODS[label]
    if draws is None:
        return float(steps)
    method = md.PoissonMidpoint(steps, substeps=substeps(HORIZON / steps), draws=draws)
    return method.calls_a_step() * steps


def calls_to(errors: list[float], spent: list[float], target: float) -> float:
    """The calls at which an error is reached: interpolated in logarithms, beyond the last step by the last slope."""
    x, y = np.log(errors), np.log(spent)
    if x[-1] <= math.log(target) <= x[0]:
        return float(np.exp(np.interp(-math.log(target), -x, y)))
    first, second = (0, 1) if math.log(target) > x[0] else (-2, -1)
    slope = (y[second] - y[first]) / (x[second] - x[first])
    return float(np.exp(y[second] + slope * (math.log(target) - x[second])))


def main() -> None:
    """Compute everything and keep it."""
    header = {"horizon": HORIZON, "start": START, "steps": list(STEPS), "targets": list(TARGETS)}
    record = Record("poisson_order", header | {"machine": machine("cpu")})
    for label in METHODS:
        errors, spent = ([f(label, n) for n in STEPS] for f in (error, calls))
        needed = [calls_to(errors, spent, target) for target in TARGETS]
        slopes = (-np.diff(np.log(errors)) / math.log(2)).tolist()
        record.add({"label": label, "errors": errors, "calls": spent, "slopes": slopes, "calls_to": needed})


if __name__ == "__main__":
    typer.run(main)
