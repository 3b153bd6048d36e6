"""The command line: arguments only."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.text import Text

from multidrift.basics.errors import MultidriftError
from multidrift.basics.version import __version__
from multidrift.cli.calibrate import calibrate_command
from multidrift.cli.demo import demo_command
from multidrift.cli.generate import generate_command
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
app.command("generate")(generate_command)
app.command("train")(train_command)
app.command("langevin")(langevin_command)
app.command("calibrate")(calibrate_command)
app.command("report")(report_command)


# click's base of errors; typer brings its own click, under a private name
_ClickError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"multidrift {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # typer's callback has answered it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; errors are one line, and Ctrl-C ends with status 130."""
    console = Console(stderr=True, soft_wrap=True)

    def one_line(message: Warning | str, *_: object, **__: object) -> None:
        console.print(Text.assemble(("warning:", "yellow"), " ", str(message)), highlight=False, emoji=False)

    def one_error(message: str) -> None:
        console.print(Text.assemble(("error:", "bold red"), " ", message), highlight=False, emoji=False)

    warnings.showwarning = one_line
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except _ClickError as error:
        if "NoArgs" in type(error).__name__:
            error.show()
        else:
            one_error(error.format_message())
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        console.print("stopped; nothing half-written was left")
        sys.exit(130)
    except (MultidriftError, MemoryError, OSError) as error:
        one_error(" ".join(str(error).split()) or type(error).__name__)
        sys.exit(2)


if __name__ == "__main__":
    main()
