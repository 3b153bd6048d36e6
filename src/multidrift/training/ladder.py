"""From images to a ladder: train every level, measure it on held-out images and on the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.devices import named_device
from multidrift.basics.folders import locked
from multidrift.basics.types import Share
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.gaussian import GaussianDenoiser
from multidrift.drifts.ladder import Ladder
from multidrift.evaluation.denoising import DenoisingErrors, denoising_errors
from multidrift.schedules.chain import Discrete
from multidrift.training.images import split
from multidrift.training.settings import Progress, TrainingSettings
from multidrift.training.sizes import Size
from multidrift.training.trainer import LevelTrainer

CHECKPOINTS = "checkpoints"
_HELD_OUT_TIMES = 20  # noise levels at which a trained ladder is measured, equal steps of t


@dataclass(frozen=True)
class TrainedLadder:
    """A trained ladder and its errors on the held-out images."""

    ladder: Ladder
    held_out: DenoisingErrors


@checked
def train_ladder(
    images: Tensor,
    folder: Path,
    sizes: Sequence[Size],
    schedule: Discrete,
    settings: TrainingSettings,
    held_out: Share = 0.1,
    device: torch.device | str = "cpu",
    report: Callable[[Progress], None] | None = None,
) -> TrainedLadder:
    """Train one level per size on uint8 `images` [n, channels, height, width]; checkpoints go under `folder`.

    A killed run that is started again with the same arguments continues from its last checkpoint. The folder is locked
    meanwhile: a second training into it is told who holds it.
    """
    with locked(folder, "folder"):
        return _train_ladder(images, folder, sizes, schedule, settings, held_out, named_device(device), report)


def _train_ladder(
    images: Tensor,
    folder: Path,
    sizes: Sequence[Size],
    schedule: Discrete,
    settings: TrainingSettings,
    held_out: float,
    device: torch.device,
    report: Callable[[Progress], None] | None,
) -> TrainedLadder:
    data = split(images, held_out, settings.seed)
    levels = []
    for size in sizes:
        trainer = LevelTrainer(size, schedule, data.train, settings, device)
        for progress in trainer.run(folder / CHECKPOINTS / size.name):
            if report is not None:
                report(progress)
        network = trainer.averaged().to(device)
        levels.append(Denoiser(network, schedule, predicts="epsilon", name=size.name))
    ladder = Ladder(levels, gaussian=GaussianDenoiser.fit(data.train, schedule))
    times = np.linspace(schedule.t_min, schedule.t_max, _HELD_OUT_TIMES)

    def measuring(done: int, parts: int, error: float) -> None:
        if report is not None:
            report(Progress("held-out", done, parts, error))

    errors = denoising_errors(ladder, data.held_out, times.tolist(), report=measuring)
    return TrainedLadder(ladder.measured(device=device), errors)
