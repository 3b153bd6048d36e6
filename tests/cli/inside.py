"""The command line in this process: what a user would see, without starting Python and torch for every line."""

import contextlib
import io
import os
import sys
import warnings
from dataclasses import dataclass
from unittest import mock

from multidrift.cli.app import main


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments, cwd=None, env=None):
    """Run `multidrift` with these arguments, in a folder and with an environment of its own."""
    out, err, known = io.StringIO(), io.StringIO(), set(sys.modules)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd or "."))
        stack.enter_context(mock.patch.dict(os.environ, env or {}))
        stack.enter_context(mock.patch.object(sys, "argv", ["multidrift", *map(str, arguments)]))
        stack.enter_context(mock.patch.object(sys, "path", list(sys.path)))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    for name in set(sys.modules) - known:  # a user's own module is read anew by the next command
        if name.startswith("my_"):
            del sys.modules[name]
    return Done(status, out.getvalue(), err.getvalue())
