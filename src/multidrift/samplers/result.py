"""What a run gives back: the state after each step, and the result at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from multidrift.plans.plan import Plan
from multidrift.processes.errors import require
from multidrift.processes.files import write_whole

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class State:
    """Where a run is after a step.

    - `step` of `total` evaluations are done; `t` is the time of `x` [count, …] (0 after the last)
    - `prediction`: the data as predicted in this step (Langevin: x); `calls`: calls of each level so far, per sample
    - `velocities` [count, …]: beside x, where the process has them

    Of parallel methods a state comes after each round, and x is still being iterated on:

    - `residual`: the largest change of the round over its scale, in the unit of `tolerance`; `converged`: False where
      time points were given up on before their change fell to the tolerance
    - `settled`: (number, t, x, velocities) of each time point that has become final in this round
    """

    step: int
    total: int
    t: float
    x: Tensor
    prediction: Tensor
    calls: Mapping[str, float]
    velocities: Tensor | None = None
    residual: float | None = None
    converged: bool = True
    settled: Sequence[tuple[int, float, Tensor, Tensor | None]] | None = None


@dataclass(frozen=True)
class Result:
    """Samples and what they cost.

    - `samples` [count, …]; sample i depends on (seed, first + i) alone
    - `calls`: rows passed to each level over count; `batches`: times each level was invoked
    - `rounds`: evaluations of the top level one after another; `seconds`: wall time of the run
    - `plan`: the plan that was followed, if the method has one; `finished`: False where a callback stopped the run
    - `trajectory` [saved, count, …] at `trajectory_times` where `save=` asked for it
    - `velocities` [count, …], where the process has them, and `trajectory_velocities`: beside samples and `trajectory`
    - `residuals`: of each round of a parallel method, its largest change in the unit of `tolerance`; `converged`: False
      where rounds ran out before the changes fell to the tolerance
    - `peak_rows`: the largest number of rows in one invocation of a network; `peak_memory`: bytes of the tensors that
      the largest invocation held at once, on top of the states of the run, where `memory_limit=` had them measured
    """

    samples: Tensor
    calls: Mapping[str, float]
    batches: Mapping[str, int]
    rounds: int
    seconds: float
    finished: bool = True
    plan: Plan | None = None
    trajectory: Tensor | None = None
    trajectory_times: tuple[float, ...] | None = None
    velocities: Tensor | None = None
    trajectory_velocities: Tensor | None = None
    residuals: tuple[float, ...] = ()
    converged: bool = True
    peak_rows: int = 0
    peak_memory: int | None = None

    def images(self) -> list[Image.Image]:
        """The samples as pictures: data in [−1, 1], shape [count, 1 or 3, height, width]."""
        return [Image.fromarray(array) for array in to_pixels(self.samples)]

    def save(self, path: str | Path, columns: int | None = None) -> None:
        """Write a picture of all samples in a grid; the file appears whole or not at all."""
        save_image(image_grid(to_pixels(self.samples), columns), Path(path))


def to_pixels(samples: Tensor) -> list[Pixels]:
    """Samples [n, 1 or 3, height, width] in [−1, 1] as arrays of bytes, one a picture."""
    shape = tuple(samples.shape)
    require(len(shape) == 4 and shape[1] in (1, 3), "samples", shape, "[count, 1 or 3, height, width] for pictures")
    scaled = ((samples.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    arrays = scaled.permute(0, 2, 3, 1).numpy()
    return [array[..., 0] if shape[1] == 1 else array for array in arrays]


def image_grid(pixels: list[Pixels], columns: int | None = None) -> Image.Image:
    """Pictures of one size side by side, two pixels apart."""
    width = columns or max(1, round(len(pixels) ** 0.5))
    rows = -(-len(pixels) // width)
    height, breadth = pixels[0].shape[:2]
    size = (rows * (height + 2) - 2, width * (breadth + 2) - 2, *pixels[0].shape[2:])
    canvas = np.full(size, 255, dtype=np.uint8)
    for index, array in enumerate(pixels):
        top, left = (index // width) * (height + 2), (index % width) * (breadth + 2)
        canvas[top : top + height, left : left + breadth] = array
    return Image.fromarray(canvas)


def save_image(image: Image.Image, path: Path) -> None:
    """Write under a temporary name, then rename, so that no half-written file is left."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    require(kind in Image.SAVE, "path", str(path), "a file name that ends in .png, .jpg or another picture format")
    write_whole(path, lambda partial: image.save(partial, format=kind))
