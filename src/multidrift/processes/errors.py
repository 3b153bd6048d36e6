"""The one family of errors a caller has to know."""

from __future__ import annotations


class MultidriftError(ValueError):
    """Every error multidrift raises on purpose derives from this."""


def require(condition: bool, argument: str, got: object, takes: str) -> None:
    """Raise a MultidriftError that names the argument, what it got and what it takes."""
    if not condition:
        raise MultidriftError(f"{argument}: got {got!r}; it takes {takes}")
