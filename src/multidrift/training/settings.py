"""The recipe of a training run, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from multidrift.basics.checks import Settings, check_fields
from multidrift.basics.errors import require
from multidrift.basics.types import Count, Index, NotNegative, ShortSeed, Size, Takes

_MOST = 1_000_000_000  # steps


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """The recipe all levels share; a level's learning rate is in its `Size`."""

    steps: Annotated[int, Ge(1), Le(_MOST), Takes(f"an integer of at least 1, and at most {_MOST:,}")] = 4000
    batch_size: Size = 64
    warmup: Index = 100
    ema_decay: NotNegative = 0.999
    seed: ShortSeed = 0
    checkpoint_every: Count = 200
    half_precision: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "a decay in [0, 1)")


@dataclass(frozen=True)
class Progress:
    """What a training step reports: the level's name, steps done and in all, and the step's loss."""

    level: str
    step: int
    steps: int
    loss: float
