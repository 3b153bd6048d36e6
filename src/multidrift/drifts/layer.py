"""What can lie between a network and the drift that methods see of it: guidance, a transform of its predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, Self

import torch
from torch import Tensor

from multidrift.basics.numbers import Floats
from multidrift.drifts.drift import Bound, Conditioning
from multidrift.processes.predictions import Prediction
from multidrift.schedules.schedule import Schedule


class Predictor(Protocol):
    """What a layer needs of the denoiser below it."""

    name: str
    predicts: Prediction

    @property
    def schedule(self) -> Schedule: ...
    @property
    def modules(self) -> tuple[torch.nn.Module, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    def for_a_run(self) -> Self: ...
    def raw(self, x: Tensor, t: Floats, conditioning: Conditioning) -> Tensor: ...
    def converted(
        self, x: Tensor, raw: Tensor, times: Floats, target: Prediction, *, clipped: bool = True
    ) -> Tensor: ...


class Layer(ABC):
    """A setting of a denoiser that takes part in a run by what `bind` gives; frozen, so that levels may share it."""

    @property
    @abstractmethod
    def settings(self) -> list[object]:
        """All that tells it from another, as plain values."""

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """Networks it calls beside the denoiser's own."""
        return ()

    @abstractmethod
    def bind(self, network: Predictor, below: Bound, conditioning: Conditioning, count: int) -> Bound:
        """The denoiser with this layer as a run of `count` samples evaluates it; `below`: the same without."""
