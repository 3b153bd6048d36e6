"""A Gaussian fitted to data as the cheapest level of all: E[x_0 | x_t] in closed form."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import keeping, require
from multidrift.basics.files import write_whole
from multidrift.basics.numbers import Floats, aligned, finite
from multidrift.basics.reading import check_file, reading
from multidrift.basics.types import PathLike
from multidrift.drifts.denoiser import Denoiser
from multidrift.schedules.schedule import Schedule

_NEGLIGIBLE = 2e-4  # of the largest variance: axes below it count as without any
_LARGEST_MATRIX = (
    4096  # coordinates: the eigenvectors of a larger covariance take minutes and more memory than networks
)


class GaussianDenoiser(Denoiser):
    """The exact denoiser of Gaussian data: m + αΣ(α²Σ + σ²)⁻¹(x − αm). It costs next to nothing.

    - `mean` […]: one sample's shape
    - `covariance`: a number, one variance a coordinate ([…], the mean's shape), or a matrix [d, d], d the number of
      coordinates
    - `schedule`: the noise schedule of the ladder it serves

    Raises MultidriftError on a covariance of another shape, not symmetric or with negative variances.
    """

    @checked
    def __init__(self, mean: ArrayLike, covariance: ArrayLike, schedule: Schedule, name: str = "gaussian") -> None:
        centre, spread = finite(mean, "mean"), finite(covariance, "covariance")
        d = centre.size
        good = centre.ndim >= 1 and spread.shape in ((), centre.shape, (d, d))
        require(good, "covariance", spread.shape, f"a number, shape {centre.shape} or ({d}, {d})")
        axes: Floats | None = None
        if spread.shape == (d, d) and centre.shape != (d, d):
            require(bool(np.allclose(spread, spread.T)), "covariance", "a matrix", "a symmetric one")
            spread, axes = np.linalg.eigh(spread)
        largest = float(spread.max(initial=0.0))
        smallest = float(spread.min(initial=0.0))
        require(smallest >= -1e-9 * max(largest, 1.0), "covariance", smallest, "no negative variances")
        if axes is not None:
            kept = spread > _NEGLIGIBLE * largest
            spread, axes = spread[kept], axes[:, kept]
        self._build(centre, np.asarray(np.clip(spread, 0.0, None)), axes, schedule, name)

    def _build(self, mean: Floats, variances: Floats, axes: Floats | None, schedule: Schedule, name: str) -> None:
        self.gaussian = _PosteriorMean(mean, variances, axes, schedule)
        super().__init__(self.gaussian, schedule, "sample", name=name, shape=mean.shape)

    @staticmethod
    @checked
    def fit(samples: Tensor, schedule: Schedule, name: str = "gaussian") -> GaussianDenoiser:
        """The Gaussian with the mean and covariance of samples [n, …], full up to 4096 coordinates, else diagonal."""
        require(samples.ndim > 1 and len(samples) > 1, "samples", tuple(samples.shape), "at least two, [n, …]")
        require(bool(torch.isfinite(samples).all()), "samples", "values that are not finite", "finite numbers")
        flat = samples.detach().double().flatten(1).cpu().numpy()
        shape, mean = samples.shape[1:], flat.mean(axis=0)
        centred = flat - mean
        if flat.shape[1] > _LARGEST_MATRIX:
            covariance = centred.var(axis=0, ddof=1).reshape(shape)
        else:
            covariance = centred.T @ centred / (len(flat) - 1)
        return GaussianDenoiser(mean.reshape(shape), covariance, schedule, name)

    @property
    def settings(self) -> list[object]:
        return [*super().settings, self.gaussian.digest]

    @checked
    def save(self, path: PathLike) -> None:
        """Write mean, variances and axes as safetensors, the axes in half precision."""
        parts = {"mean": self.gaussian.mean, "variances": self.gaussian.variances}
        tensors = {name: torch.from_numpy(value).float() for name, value in parts.items()}
        if self.gaussian.axes is not None:
            tensors["axes"] = torch.from_numpy(self.gaussian.axes).half()
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        with keeping(self):
            write_whole(Path(path), lambda partial: save_file(contiguous, partial))

    @staticmethod
    @checked
    def load(path: PathLike, schedule: Schedule, name: str = "gaussian") -> GaussianDenoiser:
        """Read what `save` wrote."""
        check_file(Path(path), "gaussian")
        with reading(Path(path), "gaussian"), safe_open(path, framework="pt") as file:
            read = {key: file.get_tensor(key).double().numpy() for key in file.keys()}  # noqa: SIM118 (no mapping)
            mean, variances, axes = read["mean"], read["variances"], read.get("axes")
        _check_parts(mean, variances, axes)
        return _from_parts(mean, variances, axes, schedule, name)


def _check_parts(mean: Floats, variances: Floats, axes: Floats | None) -> None:
    """Parts read from a file belong to each other."""
    good = mean.ndim >= 1 and mean.size > 0 and variances.shape in ((), mean.shape)
    if axes is not None:
        good = variances.ndim == 1 and axes.shape == (mean.size, len(variances)) and bool(np.isfinite(axes).all())
    shapes = [None if part is None else part.shape for part in (mean, variances, axes)]
    require(good, "gaussian", f"shapes {shapes}", "mean [d …], variances of its shape, or [r] with axes [d, r]")
    sane = bool(np.isfinite(mean).all() and np.isfinite(variances).all() and (variances >= 0).all())
    require(sane, "gaussian", "values that are not finite, or negative variances", "a mean and variances")


def _from_parts(
    mean: Floats, variances: Floats, axes: Floats | None, schedule: Schedule, name: str
) -> GaussianDenoiser:
    made = GaussianDenoiser.__new__(GaussianDenoiser)
    made._build(mean, variances, axes, schedule, name)  # noqa: SLF001 (its own other constructor)
    return made


class _PosteriorMean:
    """E[x_0 | x_t] for one Gaussian; `variances` along `axes` [d, r], or of the coordinates themselves."""

    def __init__(self, mean: Floats, variances: Floats, axes: Floats | None, schedule: Schedule) -> None:
        self.mean, self.variances, self.axes, self.schedule = mean, variances, axes, schedule
        parts = [mean, variances] if axes is None else [mean, variances, axes]
        digest = hashlib.sha256(json.dumps([list(part.shape) for part in parts]).encode())
        for part in parts:
            digest.update(part.astype(np.float32).tobytes())
        self.digest = digest.hexdigest()[:16]
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor | None]] = {}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        mean, variances, axes = self._on(x)
        times = t.double().cpu().numpy()
        alpha, sigma = (
            aligned(torch.from_numpy(values(times)).to(x), x) for values in (self.schedule.alpha, self.schedule.sigma)
        )
        away = x - alpha * mean
        if axes is None:
            return mean + alpha * variances / (alpha**2 * variances + sigma**2) * away
        alpha, sigma = alpha.flatten(1), sigma.flatten(1)
        along = alpha * variances / (alpha**2 * variances + sigma**2) * (away.flatten(1) @ axes)
        return mean + (along @ axes.T).view_as(x)

    def _on(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The parts in the dtype and on the device of x, moved once."""
        key = (x.device, x.dtype)
        if key not in self._placed:
            axes = None if self.axes is None else torch.from_numpy(self.axes).to(x)
            self._placed[key] = (torch.from_numpy(self.mean).to(x), torch.from_numpy(self.variances).to(x), axes)
        return self._placed[key]
