"""The command line: arguments only."""

from __future__ import annotations

import sys
import warnings

import typer
from rich.console import Console
from rich.markup import escape

from multidrift.basics.errors import MultidriftError
from multidrift.cli.calibrate import calibrate_command
from multidrift.cli.demo import demo_command
from multidrift.cli.langevin import langevin_command
from multidrift.cli.report import report_command
from multidrift.cli.sample import sample_command
from multidrift.cli.train import train_command

app = typer.Typer(
    name="multidrift",
    help="Simulate diffusion models and Langevin dynamics with far fewer calls of their expensive drift.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
app.command("sample")(sample_command)
app.command("train")(train_command)
app.command("langevin")(langevin_command)
app.command("calibrate")(calibrate_command)
app.command("report")(report_command)


def main() -> None:
    """Run the command line; errors are one line, and Ctrl-C ends with status 130."""
    console = Console(stderr=True, soft_wrap=True)

    def one_line(message: Warning | str, *_: object, **__: object) -> None:
        console.print(f"[yellow]warning:[/] {escape(str(message))}", highlight=False)

    warnings.showwarning = one_line
    try:
        app(standalone_mode=True)
    except MultidriftError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped; nothing half-written was left")
        sys.exit(130)


if __name__ == "__main__":
    main()
