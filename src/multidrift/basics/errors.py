"""The one family of errors a caller has to know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_LONGEST = 200  # characters of a value in an error


class MultidriftError(ValueError):
    """Every error multidrift raises on purpose derives from this.

    `result`: of a run that went wrong, what was sampled until then (an md.Result); of what could not be written, what
    it was; else None.
    """

    result: object = None

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # one line, whatever stands in it


@contextlib.contextmanager
def keeping(result: object) -> Iterator[None]:
    """An error of what is done with a result carries it, so that the work is not lost."""
    try:
        yield
    except MultidriftError as error:
        error.result = result
        raise


def require(condition: bool, argument: str, got: object, takes: str) -> None:
    """Raise a MultidriftError that names the argument, what it got and what it takes."""
    if not condition:
        shown = " ".join(repr(got).split())
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
        raise MultidriftError(f"{argument}: got {shown}; it takes {takes}")
