"""Networks run in evaluation mode and are left as they were found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from multidrift.drifts.drift import Drift


@contextlib.contextmanager
def evaluation_mode(levels: Iterable[Drift]) -> Iterator[None]:
    """Put every module of these levels in evaluation mode, and back as each was, whatever happens."""
    modules = [m for level in levels for module in level.modules for m in module.modules()]
    training = [module for module in modules if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
