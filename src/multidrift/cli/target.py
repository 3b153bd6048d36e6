"""A user's function by its name on the command line."""

from __future__ import annotations

import functools
import importlib
import operator
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from multidrift.basics.errors import MultidriftError, require


def load_target(name: str) -> Callable[[Tensor], Tensor]:
    """The function that `module:function` names; the module may lie in the current folder.

    The function may be an attribute of something in the module, as in `model:posterior.log_density`. Raises
    MultidriftError where nothing of that name is found; errors inside the function become MultidriftErrors that name
    the line they come from.
    """
    module_name, _, attribute = name.partition(":")
    require(bool(module_name and attribute), "target", name, "module:function, such as my_model:log_density")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise MultidriftError(f"target: could not import {module_name!r} ({_described(error)})") from error
    try:
        function = operator.attrgetter(attribute)(module)
    except AttributeError as error:
        raise MultidriftError(f"target: got {name!r}; {module_name!r} has nothing called {attribute!r}") from error
    require(callable(function), "target", name, f"a function of x; {attribute!r} is a {type(function).__name__}")

    @functools.wraps(function, assigned=("__name__", "__doc__"))
    def guarded(x: Tensor) -> Tensor:
        try:
            return function(x)  # type: ignore[no-any-return]  # what it returns is checked where it is used
        except MultidriftError:
            raise
        except Exception as error:
            shape = tuple(x.shape)
            raise MultidriftError(f"target: {name} failed on x of shape {shape} ({_described(error)})") from error

    return guarded


def _described(error: Exception) -> str:
    """An error in one line, with the place in the code it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    where = f", {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
