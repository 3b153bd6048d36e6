"""`multidrift calibrate`: measure a ladder on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from multidrift.basics.errors import MultidriftError
from multidrift.cli.output import check_output
from multidrift.drifts.ladder import Ladder
from multidrift.planning.calibrate import calibrate
from multidrift.planning.calibration import Calibration
from multidrift.planning.worth import worth
from multidrift.processes.diffusion import Diffusion


def calibrate_command(
    ladder: Annotated[
        str, typer.Option(help="'digits', which comes with the package, or a ladder's folder.")
    ] = "digits",
    out: Annotated[Path, typer.Option(help="The file that the calibration is written to.")] = Path("calibration.json"),
    page: Annotated[Path | None, typer.Option(help="A page of plots that is written, too.")] = None,
    eta: Annotated[float, typer.Option(help="Amount of noise: 0 is DDIM (an ODE), 1 is DDPM (an SDE).")] = 1.0,
    batch: Annotated[int, typer.Option(help="Samples of a call whose seconds are measured.")] = 64,
    paths: Annotated[int, typer.Option(help="Paths along which the levels are compared.")] = 16,
    steps: Annotated[int, typer.Option(help="Calls of each level on each path.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the paths.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
) -> None:
    """Measure what the levels of a ladder cost here and how far they are apart, and say whether it can pay.

    Examples:
      multidrift calibrate

      multidrift calibrate --ladder my-ladder --eta 0 --batch 16 --out ode.json --page ode.html
    """
    console = Console(stderr=True)
    check_output(out, file=True)
    if page is not None:
        check_output(page, file=True, name="page")
    networks = (Ladder.load(ladder) if Path(ladder).is_dir() else Ladder.bundled(ladder)).to(device)
    assert networks.schedule is not None  # ladders in folders are Denoisers
    console.print(f"measuring {', '.join(networks.names)} …")
    found = calibrate(networks, Diffusion(networks.schedule, eta), batch, paths, seed, steps=steps)
    found.save(out)
    console.print(_table(found))
    verdict = worth(found)
    console.print(f"worth it: [bold]{verdict.answer}[/] ({verdict.reason})", highlight=False)
    if page is not None:
        try:
            from multidrift.report.page import write_calibration_page  # an optional extra
        except ImportError as error:
            raise MultidriftError("a page needs jinja2 and plotly: pip install 'multidrift[report]'") from error
        title, command = f"Calibration: {ladder}, η = {eta:g}", shlex.join(["multidrift", *sys.argv[1:]])
        write_calibration_page(found, page, title, command)
    console.print(f"written to {out}{f' and {page}' if page else ''}")


def _table(found: Calibration) -> Table:
    """A row a level: what it costs, and how far it is from the one below and from the top along the path."""
    table = Table("level", f"ms a call of {found.batch}", "from the level below", "from the top", title=found.machine)
    own = list(found.levels)
    middle = len(found.places) // 2
    for name in found.names:
        k = own.index(name)
        below = f"{found.differences[k, k - 1, middle] ** 0.5:.3g}" if k else "–"
        top = f"{found.differences[k, -1, middle] ** 0.5:.3g}" if k < len(own) - 1 else "–"
        table.add_row(name, f"{1000 * found.seconds[name]:.1f}", below, top)
    table.caption = f"root mean square differences half-way, over {found.paths} paths"
    return table
