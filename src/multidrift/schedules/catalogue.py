"""All schedules, and how one is read back from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.schedules.chain import Discrete
from multidrift.schedules.continuous import Flow, KarrasEDM, VarianceExploding, VariancePreserving
from multidrift.schedules.schedule import Schedule

_KINDS: tuple[type[Schedule], ...] = (Discrete, VariancePreserving, VarianceExploding, KarrasEDM, Flow)


@checked
def from_dict(values: Mapping[str, object]) -> Schedule:
    """The schedule that `Schedule.to_dict` described; unknown kinds and settings raise."""
    kinds = {kind.kind: kind for kind in _KINDS}
    kind = kinds.get(str(values.get("kind")))
    if kind is None:
        raise MultidriftError(f"schedule: got kind {values.get('kind')!r}; it takes {', '.join(kinds)}")
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"}
    known = {f.name for f in fields(kind)}
    needed = known - {"shift"}  # what files written before it was there lack
    require(needed <= set(settings) <= known, "schedule", sorted(settings), f"the settings {sorted(known)}")
    return kind(**settings)
