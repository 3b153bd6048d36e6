"""`multidrift langevin`: sample a density by Langevin dynamics."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

from multidrift.basics.checks import check_value
from multidrift.basics.devices import named_device
from multidrift.basics.errors import require
from multidrift.basics.files import write_whole
from multidrift.basics.reading import read_arrays
from multidrift.basics.types import Count
from multidrift.cli.options import refuse_unused
from multidrift.cli.output import check_new_folder, check_output
from multidrift.cli.target import load_target
from multidrift.drifts.gradient import LangevinDrift, potential
from multidrift.integrations.arviz import available, diagnose
from multidrift.methods.euler import Euler
from multidrift.methods.method import Method
from multidrift.methods.poisson.substeps import SubstepDraws
from multidrift.methods.poisson.walk import PoissonMidpoint
from multidrift.processes.langevin import Langevin, Overdamped, Underdamped
from multidrift.runs.result import Result
from multidrift.sampling import sample

_SAVED = 1000  # states of each chain, unless --save says otherwise


class MethodName(StrEnum):
    """The methods by the name the command line gives them."""

    euler = "euler"
    poisson = "poisson"


class ProcessName(StrEnum):
    """The dynamics by the name the command line gives them."""

    overdamped = "overdamped"
    underdamped = "underdamped"


def langevin_command(
    context: typer.Context,
    target: Annotated[str, typer.Option(help="module:function; the module may lie in the current folder.")],
    out: Annotated[Path, typer.Option(help="Folder for samples.npz and trace.png.")] = Path("langevin"),
    dimension: Annotated[int | None, typer.Option(help="Coordinates d; chains then start at N(0, 1).")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Where chains start: an .npy of shape (d,), for all, or (chains, d).")
    ] = None,
    gradient: Annotated[bool, typer.Option("--gradient", help="The function is the gradient, shape (n, d).")] = False,
    method: Annotated[
        MethodName, typer.Option(help="euler: one gradient a step. poisson: two, and a far smaller bias.")
    ] = MethodName.poisson,
    process: Annotated[
        ProcessName, typer.Option(help="underdamped has velocities, and travels farther for each gradient.")
    ] = ProcessName.underdamped,
    horizon: Annotated[float, typer.Option(help="How long each chain is simulated; a step is horizon/steps.")] = 512.0,
    steps: Annotated[int, typer.Option(help="Steps of each chain; fastest where both are powers of two.")] = 4096,
    friction: Annotated[float, typer.Option(help="underdamped: how fast velocities are forgotten.")] = 2.0,
    beta: Annotated[float, typer.Option(help="Inverse temperature: the law sampled is density^beta.")] = 1.0,
    chains: Annotated[int, typer.Option(help="Chains, side by side in one batch.")] = 16,
    substeps: Annotated[int, typer.Option(help="poisson: fine steps that each step stands for.")] = 64,
    draws: Annotated[str, typer.Option(help="poisson: single, midpoint or independent.")] = "single",
    save: Annotated[int | None, typer.Option(help="Keep every so many steps; 1000 states by default.")] = None,
    burn_in: Annotated[float, typer.Option(help="Share of each chain left out of table and histograms.")] = 0.25,
    seed: Annotated[int, typer.Option(help="Chain i depends on the seed and on i alone.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    timeout: Annotated[
        float,
        typer.Option(help="Seconds that the function's module may take to import, and each call of it to return."),
    ] = 15.0,
) -> None:
    """Sample a density from its logarithm, or from the gradient of that, in PyTorch.

    The function takes x of shape (n, d), one chain a row, and returns the log-density up to a constant, shape (n,), or
    with --gradient its gradient, shape (n, d). Writes OUT/samples.npz (samples, trajectory, …) and OUT/trace.png,
    and prints mean, sd and, where ArviZ is installed, R-hat and effective sample size of each coordinate.

    Examples, with my_model.py in the current folder:
      multidrift langevin --target my_model:log_density --dimension 10

      multidrift langevin --target my_model:score --gradient --dimension 10 --process overdamped

      multidrift langevin --target my_model:log_density --start mode.npy --horizon 128 --steps 4096 --chains 100

    A step (horizon/steps) well below 1/L is safe for overdamped, below 1/√L for underdamped dynamics, where L is the
    largest curvature of the log-density. R-hat above 1.01: the horizon is too short. To see the bias of the steps
    themselves, which R-hat cannot see, take twice as many and compare.
    """
    from multidrift.report.langevin import Chains, table, trace_plot  # imports matplotlib, which takes a second

    console = Console(stderr=True)
    refuse_unused(context, method.value, {"euler": (), "poisson": ("substeps", "draws")})
    refuse_unused(context, process.value, {"overdamped": (), "underdamped": ("friction",)}, "process")
    require(0 < timeout < math.inf, "timeout", timeout, "a positive number of seconds")
    check_new_folder(out)
    function = load_target(target, timeout)
    check_output(out)
    drift = LangevinDrift(function, target) if gradient else potential(function, target)
    dynamics: Langevin
    match process:
        case ProcessName.overdamped:
            dynamics = Overdamped(horizon=horizon, beta=beta)
        case ProcessName.underdamped:
            dynamics = Underdamped(horizon=horizon, beta=beta, friction=friction)
    chosen: Method
    match method:
        case MethodName.euler:
            chosen = Euler(steps)
        case MethodName.poisson:
            chosen = PoissonMidpoint(steps, substeps=substeps, draws=cast("SubstepDraws", draws))
    require(0 <= burn_in < 1, "burn_in", burn_in, "a share of the run, from 0 to below 1")
    check_value(chains, Count, "chains")
    require(save is None or save >= 1, "save", save, "a number of steps between saved states")
    every = max(1, steps // _SAVED) if save is None else save
    begin, shape = _start(start, dimension, chains, device)
    console.print(f"sampling {target}: {chains} chains, {steps} steps of {horizon / steps:.4g} …", emoji=False)
    result = sample(
        drift, chosen, dynamics, count=chains, seed=seed, start=begin, shape=shape, save=every, device=device
    )
    _write(result, out / "samples.npz", {"target": target, "process": dynamics.to_dict(), "method": chosen.to_dict()})
    assert result.trajectory is not None
    assert result.trajectory_times is not None
    trajectory = result.trajectory.double().cpu().numpy()
    times = np.asarray(result.trajectory_times, dtype=np.float64)
    left_out = min(max(1, round(burn_in * (len(times) - 1))), len(times) - 1)
    names = [f"x{i}" for i in range(trajectory.shape[2])]
    shown = Chains(trajectory, times, left_out, names)
    trace_plot(shown, f"{target}: {chains} chains, {process.value}, {method.value}", out / "trace.png")
    per_chain = sum(result.calls.values())
    title = f"{chains} chains in {result.seconds:.1f} s, {per_chain:.0f} gradients a chain; burn-in left out"
    if available():
        found = diagnose(result, left_out)
        console.print(table(shown, title, found.r_hat, found.effective))
    else:
        console.print(table(shown, title))
        console.print("R-hat and effective sample sizes come with ArviZ: pip install 'multidrift\\[arviz]'")
    console.print(f"written to {out / 'samples.npz'} and {out / 'trace.png'}", markup=False, emoji=False)


def _start(
    path: Path | None, dimension: int | None, chains: int, device: str
) -> tuple[Tensor | None, tuple[int, ...] | None]:
    """The given start [chains, d], or the shape of one to be drawn."""
    if path is None:
        require(dimension is not None and dimension >= 1, "dimension", dimension, "a count, or give --start")
        assert dimension is not None
        return None, (dimension,)
    arrays = read_arrays(path, "start")
    require("" in arrays, "start", str(path), "an .npy file, with one array")
    values = arrays[""]
    readable = values.ndim in (1, 2) and values.dtype.kind in "fiu"
    require(readable, "start", values.shape, "numbers of shape [d] or [chains, d]")
    fits = values.ndim == 1 or len(values) == chains
    require(fits, "start", f"{len(values)} rows", f"one row a chain, {chains}, or one point [d]")
    require(
        dimension is None or values.shape[-1] == dimension, "start", values.shape, f"points of dimension {dimension}"
    )
    every = np.broadcast_to(values, (chains, values.shape[-1]))
    return torch.tensor(every, dtype=torch.float32, device=named_device(device)), None


def _write(result: Result, path: Path, settings: dict[str, object]) -> None:
    assert result.trajectory is not None
    arrays = {"samples": result.samples, "trajectory": result.trajectory}
    if result.velocities is not None:
        arrays["velocities"] = result.velocities
    kept = {name: value.detach().cpu().numpy() for name, value in arrays.items()}
    kept["times"] = np.asarray(result.trajectory_times)
    kept["calls"] = np.asarray(sum(result.calls.values()))
    kept["settings"] = np.asarray(json.dumps(settings))
    write_whole(path, lambda partial: np.savez_compressed(partial, **kept))  # type: ignore[arg-type]  # its allow_pickle
