"""Guidance as part of a level: one prediction pushed away from another, in float32 before levels are subtracted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats, aligned, moved
from multidrift.drifts.conditioning import check_conditioning, cut_conditioning
from multidrift.drifts.drift import Bound, Conditioning
from multidrift.drifts.layer import Layer, Predictor
from multidrift.drifts.pairs import expanded, paired
from multidrift.processes.predictions import Prediction

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Branches:
    """The conditioning of the two predictions, on top of that of a run; `unconditional` None: the second has none."""

    conditional: Conditioning | None
    unconditional: Conditioning | None

    def __post_init__(self) -> None:
        for called in ("conditional", "unconditional"):
            given = getattr(self, called)
            good = given is None or (isinstance(given, Mapping) and all(isinstance(name, str) for name in given))
            require(good, called, type(given).__name__, "None or a mapping from names to values, as conditioning is")

    def of(self, level: str, conditioning: Conditioning, count: int) -> tuple[Conditioning, Conditioning]:
        """Both in a run of `count` samples, with a row for every sample; raises, naming the level, what cannot be."""
        own = []
        for called, given in (("conditional", self.conditional), ("unconditional", self.unconditional)):
            checked = check_conditioning(given, count, f"level {level}: {called}")
            own.append({name: expanded(value, count) for name, value in checked.items()})
        return {**conditioning, **own[0]}, {} if self.unconditional is None else {**conditioning, **own[1]}


@dataclass(frozen=True)
class Guidance(Layer):
    """w + scale·(c − w) for the prediction c and the one it is pushed away from, w.

    - `branches`: their conditioning; `weak`: another network that predicts w, with the conditioning of c
    - `rescale`: how far the standard deviation of each sample's result is taken back to that of c, 0 to 1 (Lin et al.
      2024, section 3.4)
    - `interval`: (low, high), the noise levels σ/α between which there is guidance; None for all of them
    """

    scale: float
    branches: Branches
    rescale: float = 0.0
    interval: Sequence[float] | None = None
    weak: Predictor | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        require(number and math.isfinite(self.scale), "scale", self.scale, "a number (1 is no guidance), or a guider")
        require(0 <= self.rescale <= 1, "rescale", self.rescale, "a number from 0 to 1")
        takes = "None with weak=, which is given the conditioning of the conditional prediction"
        require(self.weak is None or self.branches.unconditional is None, "unconditional", "a mapping", takes)
        if self.interval is not None:
            pair = tuple(float(noise) for noise in self.interval)
            good = len(pair) == 2 and 0 <= pair[0] < pair[1]
            require(good, "interval", self.interval, "two noise levels σ/α, 0 ≤ low < high, or None")
            object.__setattr__(self, "interval", pair)

    @property
    def settings(self) -> list[object]:
        """Without the conditioning: a plan is good for any prompt."""
        weak = None if self.weak is None else self.weak.fingerprint
        return ["guided", self.scale, self.rescale, self.interval, weak]

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        return () if self.weak is None else self.weak.modules

    def bind(self, network: Predictor, below: Bound, conditioning: Conditioning, count: int) -> Bound:
        given, without = self.branches.of(network.name, conditioning, count)
        if self.weak is not None:
            guidance = replace(self, weak=self.weak.for_a_run())
            return _Guided(below.drift, given, count, network, guidance, given, None)
        return _Guided(below.drift, given, count, network, self, without, paired(given, without, count))

    def inside(self, log_snr: Floats) -> Bools:
        """Whether there is guidance at each λ = log(α/σ)."""
        if self.interval is None:
            return np.ones(log_snr.shape, dtype=np.bool_)
        noise = np.exp(-log_snr)
        return np.asarray((self.interval[0] <= noise) & (noise <= self.interval[1]))

    def combine(self, c: Tensor, w: Tensor) -> Tensor:
        """The guided prediction of rows that have both."""
        guided = w + self.scale * (c - w)
        if not self.rescale:
            return guided
        spread = c.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
        return guided * aligned(self.rescale * spread + (1.0 - self.rescale), guided)


@dataclass(frozen=True, eq=False)
class _Guided(Bound):
    """Guidance in one run: `conditioning` is that of c, `without` that of w; `both` where one call does for the two."""

    network: Predictor
    guidance: Guidance
    without: Conditioning
    both: Conditioning | None

    def work(self, t: float | Floats, rows: int) -> list[tuple[str, int]]:
        guided = int(self._inside(np.asarray(t, dtype=np.float64), rows).sum())
        name, weak = self.network.name, self.guidance.weak
        if self.both is not None or not guided:
            return [(name, rows + guided)]
        return [(name, rows), (name if weak is None else weak.name, guided)]

    def predict(self, x: Tensor, t: float | Floats, target: Prediction, rows: Tensor) -> Tensor:
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))
        return self.network.converted(x, self._raw(x, times, rows), times, target)

    def _inside(self, times: Floats, rows: int) -> Bools:
        """Which of so many rows are guided."""
        return np.broadcast_to(self.guidance.inside(self.network.schedule.log_snr(times)), (rows,))

    def _raw(self, x: Tensor, times: Floats, rows: Tensor) -> Tensor:
        """The guided prediction, of the kind that the network gives."""
        inside = self._inside(times, len(x))
        if not inside.any():
            return self._alone(x, times, rows)
        if inside.all():
            return self.guidance.combine(*self._two(x, times, rows, (x, times, rows)))
        chosen = moved(np.flatnonzero(inside), x.device)
        c, w = self._two(x, times, rows, (x[chosen], times[inside], rows[chosen.to(rows.device)]))
        return c.index_copy(0, chosen, self.guidance.combine(c[chosen], w))

    def _alone(self, x: Tensor, times: Floats, rows: Tensor) -> Tensor:
        return self.network.raw(x, times, cut_conditioning(self.conditioning, self.count, rows))

    def _two(
        self, x: Tensor, times: Floats, rows: Tensor, guided: tuple[Tensor, Floats, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The prediction of all rows, and what the guided ones (their states, times, samples) are pushed from."""
        x_w, times_w, rows_w = guided
        if self.both is not None:
            t = times if len(times) == 1 else np.concatenate((times, times_w))
            given = cut_conditioning(self.both, 2 * self.count, torch.cat((rows, rows_w + self.count)))
            raw = self.network.raw(torch.cat((x, x_w)), t, given)
            return raw[: len(x)], raw[len(x) :]
        c, without = self._alone(x, times, rows), cut_conditioning(self.without, self.count, rows_w)
        weak = self.guidance.weak
        if weak is None:
            return c, self.network.raw(x_w, times_w, without)
        w = weak.raw(x_w, times_w, without)
        return c, weak.converted(x_w, w, times_w, self.network.predicts, clipped=False)
