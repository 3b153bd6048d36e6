"""How far the samples that have landed are from real ones, while the others are still drawn."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from multidrift.basics.checks import Settings, check_fields
from multidrift.basics.errors import MultidriftError, require
from multidrift.evaluation.features import featured
from multidrift.evaluation.laws import KernelDistance, frechet_distance, kernel_distance
from multidrift.generation.folder import Folder, written
from multidrift.generation.formats import Format, read_shard
from multidrift.generation.job import Shard

_GROUPS = 10  # of samples, each left out once for the error of the Fréchet distance
_NORMAL_95 = 1.959964
_ROWS = 500  # images that go through the feature network at once
_LEAST = 3 * _GROUPS  # samples below which there is nothing to say


@dataclass(frozen=True)
class Estimate:
    """Distances of `count` samples to the real ones.

    - `kernel`: the kernel distance with its error (`multidrift.evaluation.laws.kernel_distance`)
    - `frechet`, `frechet_error`: the Fréchet distance, biased upwards for few samples, and its jackknife error over ten
      groups of samples; the error leaves out that of the real ones
    """

    count: int
    kernel: KernelDistance
    frechet: float
    frechet_error: float

    def __str__(self) -> str:
        half = _NORMAL_95 * self.frechet_error
        low, high = self.kernel.interval
        return (
            f"{self.count} samples: kernel distance {self.kernel.value:.3g} ({low:.3g} to {high:.3g}), "
            f"Fréchet distance {self.frechet:.3g} ({self.frechet - half:.3g} to {self.frechet + half:.3g})"
        )


@dataclass(frozen=True, eq=False)
class Metrics(Settings):
    """What samples are compared by, in `md.generate(…, metrics=…)`.

    - `features`: a function or a torch module from samples [n, …] to features [n, d]
    - `real`: real samples [m, …], or their features [m, d]; at least three

    Raises MultidriftError where torchmetrics, which computes the distances, is not installed.
    """

    features: Callable[[Tensor], Tensor]
    real: Tensor

    def __post_init__(self) -> None:
        check_fields(self)
        good = self.real.ndim >= 2 and len(self.real) >= 3
        require(good, "real", tuple(self.real.shape), "real samples [m, …], or their features [m, d]")
        if importlib.util.find_spec("torchmetrics") is None:
            raise MultidriftError("metrics: they need torchmetrics: pip install 'multidrift[eval]'")
        require(bool(torch.isfinite(self.real).all()), "real", "values that are not finite", "finite values")
        if self.real.ndim > 2:
            object.__setattr__(self, "real", self.of(self.real))

    def of(self, samples: Tensor) -> Tensor:
        """The features of samples, [n, d] on the processor."""
        network = self.features
        if isinstance(network, nn.Module):
            network.eval()
        with torch.no_grad():
            firsts = range(0, len(samples), _ROWS)
            return torch.cat([featured(network, samples[first : first + _ROWS]).cpu() for first in firsts])

    def estimate(self, features: Tensor) -> Estimate:
        """The distances of samples with these features [n, d]; at least thirty."""
        left_out = torch.arange(len(features)) % _GROUPS
        without = [frechet_distance(features[left_out != group], self.real) for group in range(_GROUPS)]
        mean = sum(without) / _GROUPS
        variance = sum((value - mean) ** 2 for value in without) * (_GROUPS - 1) / _GROUPS
        return Estimate(
            len(features),
            kernel_distance(features, self.real),
            frechet_distance(features, self.real),
            math.sqrt(variance),
        )


class Tally:
    """Features of the shards of a folder, each computed once by whoever draws it, and estimates as they grow."""

    def __init__(self, metrics: Metrics, folder: Folder, kept: Format) -> None:
        self.metrics, self.folder, self.kept = metrics, folder, kept
        self._told = 0

    def landed(self, shard: Shard, samples: Tensor) -> None:
        """Keep the features of a shard that was drawn."""
        place = self._place(shard.name)
        with written(place), self.folder.scratch() as fresh:
            place.parent.mkdir(parents=True, exist_ok=True)
            save_file({"features": self.metrics.of(samples).contiguous()}, fresh)
            fresh.replace(place)

    def news(self) -> Estimate | None:
        """The estimate of all shards so far, where they have doubled since the last one."""
        there = self.folder.records()
        count = sum(int(str(record["count"])) for record in there.values())
        if count < max(2 * self._told, _LEAST):
            return None
        found = self.estimate()  # of more, where another process has just landed some
        self._told = count if found is None else found.count
        return found

    def estimate(self) -> Estimate | None:
        """That of all samples that are there; None where they are too few."""
        parts = [self._features(name) for name in self.folder.records()]
        if sum(map(len, parts)) < _LEAST:
            return None
        return self.metrics.estimate(torch.cat(parts))

    def _place(self, name: str) -> Path:
        return self.folder.features / f"{name}.safetensors"

    def _features(self, name: str) -> Tensor:
        """Those that were kept, else from the shard's file, which lay there before metrics were asked for."""
        with contextlib.suppress(OSError, SafetensorError, KeyError):
            return load_file(self._place(name))["features"]
        return self.metrics.of(read_shard(self.kept, self.folder.path / "shards" / (name + self.folder.ending)))


def inception(feature: int = 2048) -> Callable[[Tensor], Tensor]:
    """The Inception network of torchmetrics, for pictures in [−1, 1]; it fetches its weights and needs torch-fidelity.

    - `feature`: which of its layers, 64, 192, 768 or 2048
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance  # an optional extra

        network = FrechetInceptionDistance(feature=feature).inception
    except (ImportError, ModuleNotFoundError) as error:
        raise MultidriftError(
            f"metrics: the Inception network needs torchmetrics and torch-fidelity ({error})"
        ) from error

    def features(samples: Tensor) -> Tensor:
        pixels = ((samples.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        found: Tensor = network(pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels)
        return found

    return features
