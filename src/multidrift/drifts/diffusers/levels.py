"""Several networks as the levels of one ladder: each read, all checked against the top one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from multidrift.basics.errors import require
from multidrift.drifts.diffusers.facts import facts_of
from multidrift.drifts.diffusers.family import Shape
from multidrift.drifts.diffusers.read import Reading, read
from multidrift.drifts.diffusers.source import Source, source_of
from multidrift.drifts.diffusers.traps import check_levels


def read_levels(
    models: Sequence[object],
    names: Sequence[str] | None,
    shape: Shape | None,
    dtype: torch.dtype | None,
    *,
    same_vae: bool,
) -> list[Reading]:
    """What was read of every level, under its name; raises on levels that make no ladder (`Ladder.from_diffusers`)."""
    sources = [_source(model, dtype) for model in models]
    listed = [source.name for source in sources] if names is None else list(names)
    require(len(sources) > 0, "models", models, "at least one pipeline, cheapest first")
    require(len(listed) == len(sources), "names", names, f"{len(sources)} names")
    require(len(set(listed)) == len(listed), "names", listed, "one name a level, all different: names=")
    facts = {name: facts_of(source) for name, source in zip(listed, sources, strict=True)}
    if shape is not None:
        facts = {name: replace(found, shape=None) for name, found in facts.items()}
    check_levels(facts, same_vae=same_vae)
    return [replace(read(source, shape=shape), name=name) for name, source in zip(listed, sources, strict=True)]


def _source(model: object, dtype: torch.dtype | None) -> Source:
    if isinstance(model, tuple):
        require(len(model) == 2, "models", model, "pipelines, folders, or pairs (network, scheduler)")
        return source_of(model[0], model[1], dtype)
    return source_of(model, None, dtype)
