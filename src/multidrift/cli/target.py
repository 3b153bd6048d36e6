"""A user's function by its name on the command line."""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.foreign import described


def load_target(name: str, timeout: float) -> Callable[[Tensor], Tensor]:
    """The function that `module:function` names; the module may lie in the current folder.

    The function may be an attribute of something in the module, as in `model:posterior.log_density`. Raises
    MultidriftError where nothing of that name is found; errors inside the module and the function, `sys.exit` among
    them, become MultidriftErrors that name the line they come from, and so does what takes longer than `timeout`
    seconds.
    """
    module_name, _, attribute = name.partition(":")
    require(bool(module_name and attribute), "target", name, "module:function, such as my_model:log_density")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with _guarded(f"could not import {module_name!r}", timeout):
        module = importlib.import_module(module_name)
    try:
        function = operator.attrgetter(attribute)(module)
    except AttributeError as error:
        raise MultidriftError(f"target: got {name!r}; {module_name!r} has nothing called {attribute!r}") from error
    require(callable(function), "target", name, f"a function of x; {attribute!r} is a {type(function).__name__}")

    @functools.wraps(function, assigned=("__name__", "__doc__"))
    def guarded(x: Tensor) -> Tensor:
        with _guarded(f"{name} failed on x of shape {tuple(x.shape)}", timeout):
            return function(x)  # type: ignore[no-any-return]  # what it returns is checked where it is used

    return guarded


class _TooLongError(BaseException):
    """Of no kind that a user's code catches."""


@contextlib.contextmanager
def _guarded(what: str, timeout: float) -> Iterator[None]:
    """Code of the user's: whatever it raises, and not coming back, is one error."""
    try:
        with _alarm(timeout):
            yield
    except MultidriftError:
        raise
    except _TooLongError as error:
        reason = f"it did not return within {timeout:g} s; --timeout gives it longer"
        raise MultidriftError(f"target: {what} ({reason})") from error
    except (Exception, SystemExit) as error:
        raise MultidriftError(f"target: {what} ({described(error)})") from error


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise in the main thread after so many seconds, where the system has such an alarm."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
