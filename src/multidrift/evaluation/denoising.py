"""How well each level of a ladder denoises images it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.drifts.ladder import Ladder
from multidrift.noise.counter import Keys, Stream


@dataclass(frozen=True)
class DenoisingErrors:
    """Squared errors of the predicted noise, per coordinate.

    - `errors[name]`: float64 tensor [times, images]; every level saw the same images with the same noise, so that
      differences between levels can be compared image by image
    """

    times: tuple[float, ...]
    errors: Mapping[str, Tensor]

    def mean(self, name: str) -> float:
        """The mean error of a level over all times and images."""
        return float(self.errors[name].mean())

    def by_time(self, name: str) -> list[float]:
        """The mean error of a level at each time."""
        return [float(value) for value in self.errors[name].mean(dim=1)]

    def gap(self, worse: str, better: str) -> tuple[float, float]:
        """(mean, standard error) of the difference of two levels' errors, paired by image."""
        difference = (self.errors[worse] - self.errors[better]).mean(dim=0)
        return float(difference.mean()), float(difference.std() / math.sqrt(len(difference)))


def denoising_errors(
    ladder: Ladder,
    images: Tensor,
    times: Sequence[float],
    seed: int = 0,
    batch_size: int = 64,
    report: Callable[[int, int, float], None] | None = None,
) -> DenoisingErrors:
    """Measure all levels on `images` [n, …] in [−1, 1] at each of `times`; `report(done, all, error)` as it goes."""
    require(len(images) >= 2, "images", f"{len(images)} images", "at least two")
    errors = {name: torch.zeros(len(times), len(images), dtype=torch.float64) for name in ladder.names}
    parts = len(times) * len(ladder) * -(-len(images) // batch_size)
    for done, (index, name, rows, values) in enumerate(_measure(ladder, images, times, seed, batch_size), start=1):
        errors[name][index, rows] = values
        if report is not None:
            report(done, parts, float(values.mean()))
    return DenoisingErrors(tuple(float(t) for t in times), errors)


def _measure(
    ladder: Ladder, images: Tensor, times: Sequence[float], seed: int, batch_size: int
) -> Iterator[tuple[int, str, Tensor, Tensor]]:
    device = ladder[ladder.top].device or torch.device("cpu")
    keys = Keys.of((seed,) * len(images), range(len(images)), Stream.NOISE, torch.device("cpu"))
    for index, time in enumerate(times):
        noise = keys.normals([index], images.shape[1:], torch.float32)[0]
        assert ladder.schedule is not None  # its levels are Denoisers
        alpha, sigma = float(ladder.schedule.alpha(time)), float(ladder.schedule.sigma(time))
        for first in range(0, len(images), batch_size):
            rows = torch.arange(first, min(first + batch_size, len(images)))
            noisy = (alpha * images[rows].cpu() + sigma * noise[rows]).to(device)
            for name in ladder.names:
                with torch.no_grad(), evaluation_mode([ladder[name]]):
                    found = ladder[name].predict(noisy, float(time), "epsilon", {}).cpu()
                yield index, name, rows, (found - noise[rows]).square().flatten(1).mean(dim=1).double()
