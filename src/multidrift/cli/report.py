"""`multidrift report`: one page that answers whether a ladder is worth it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from multidrift.basics.errors import MultidriftError
from multidrift.cli.output import check_output
from multidrift.drifts.ladder import Ladder
from multidrift.planning.calibrate import calibrate
from multidrift.planning.calibration import Calibration
from multidrift.processes.diffusion import Diffusion


def report_command(
    out: Annotated[Path, typer.Option(help="The page that is written.")] = Path("report.html"),
    ladder: Annotated[
        str, typer.Option(help="'digits', which comes with the package, or a ladder's folder.")
    ] = "digits",
    calibration: Annotated[
        Path | None, typer.Option(help="What multidrift calibrate wrote; by default it is measured now.")
    ] = None,
    eta: Annotated[float, typer.Option(help="Amount of noise: 0 is DDIM (an ODE), 1 is DDPM (an SDE).")] = 1.0,
    budgets: Annotated[str, typer.Option(help="Budgets, in calls of the top level.")] = "6,10,20",
    samples: Annotated[int, typer.Option(help="Samples that the last candidates are compared on.")] = 16,
    batch: Annotated[
        int | None, typer.Option(help="Samples of a call whose seconds are measured: 64, or those of --calibration.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Use a --calibration of something else, with a warning.")
    ] = False,
) -> None:
    """Write one page on a ladder: is it worth it, by which method, and what was measured. It needs nothing else.

    Examples:
      multidrift report --budgets 10,20 --out report.html
    """
    console = Console(stderr=True)
    check_output(out, file=True)
    try:
        from multidrift.report.page import find_out, write_page  # an optional extra
    except ImportError as error:
        raise MultidriftError("the report needs jinja2 and plotly: pip install 'multidrift[report]'") from error
    networks = (Ladder.load(ladder) if Path(ladder).is_dir() else Ladder.bundled(ladder)).to(device)
    assert networks.schedule is not None  # ladders in folders are Denoisers
    process = Diffusion(networks.schedule, eta)
    wanted = _numbers(budgets)
    console.print(f"measuring {', '.join(networks.names)} …")
    known = calibrate(networks, process, batch or 64) if calibration is None else Calibration.load(calibration)
    console.print(f"trying methods for {budgets} calls of {networks.top} …")
    findings = find_out(networks, process, known, wanted, samples, batch=batch, force=force)
    write_page(findings, out, f"Is it worth it? {ladder}, η = {eta:g}", shlex.join(["multidrift", *sys.argv[1:]]))
    for choice in findings.choices.values():
        console.print(choice.reason, highlight=False)
    console.print(f"written to {out}")


def _numbers(budgets: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in budgets.split(","))
    except ValueError as error:
        raise MultidriftError(f"budgets: got {budgets!r}; it takes numbers of calls, such as 10,20") from error
