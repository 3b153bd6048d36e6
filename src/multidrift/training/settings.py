"""The recipe of a training run, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass

from multidrift.basics.errors import require


@dataclass(frozen=True)
class TrainingSettings:
    """The recipe all levels share; a level's learning rate is in its `Size`."""

    steps: int = 4000
    batch_size: int = 64
    warmup: int = 100
    ema_decay: float = 0.999
    seed: int = 0
    checkpoint_every: int = 200
    half_precision: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a number of at least 1")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "a decay in [0, 1)")


@dataclass(frozen=True)
class Progress:
    """What a training step reports: the level's name, steps done and in all, and the step's loss."""

    level: str
    step: int
    steps: int
    loss: float
