"""How much this machine can hold, and the refusal of what it cannot, before memory is asked for."""

from __future__ import annotations

import os

from multidrift.basics.errors import require
from multidrift.basics.types import MOST_VALUES

_UNKNOWN = 16_000_000_000  # bytes, where the system does not say
_BYTES = 4  # of a value in float32
_COPIES = 8  # that a run holds of its states, at the least: drifts, noise, and what a step makes of them


def memory() -> int:
    """Bytes of this machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def check_size(values: int, argument: str, got: object) -> None:
    """Raise, naming the argument, where so many values are more than a run may have or than this machine could hold."""
    most = min(MOST_VALUES, memory() // (_BYTES * _COPIES))
    require(values <= most, argument, got, f"fewer: that is {values:,} values, above {most:,}")
