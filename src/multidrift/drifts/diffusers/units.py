"""Networks that take states and times in other units than their schedule's: EDM's preconditioning, score_sde's σ."""

from __future__ import annotations

import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import aligned
from multidrift.drifts.diffusers.family import Family
from multidrift.processes.predictions import Prediction
from multidrift.schedules.continuous import VarianceExploding


class Preconditioned:
    """The denoiser D = c_skip x + c_out F(c_in x, ¼ log σ) of a network F (Karras et al. 2022, table 1).

    `predicts="v_prediction"` has c_out of the other sign, as diffusers' EDM schedulers do.
    """

    def __init__(self, family: Family, sigma_data: float, predicts: Prediction) -> None:
        self.family, self.sigma_data = family, sigma_data
        signs = {"epsilon": 1.0, "v_prediction": -1.0}
        if predicts not in signs:
            raise MultidriftError(f"predicts: got {predicts!r} with a scheduler of EDM; it takes {', '.join(signs)}")
        self.sign = signs[predicts]

    @property
    def dtype(self) -> torch.dtype:
        """What states are passed in: in half precision, c_skip x alone would round the data."""
        return torch.float64 if self.family.dtype == torch.float64 else torch.float32

    def __call__(self, x: Tensor, sigma: Tensor, **conditioning: object) -> Tensor:
        spread = (sigma**2 + self.sigma_data**2).sqrt()
        skip, out = (self.sigma_data / spread) ** 2, self.sign * sigma * self.sigma_data / spread
        raw = self.family((x * aligned(1 / spread, x)).to(self.family.dtype), 0.25 * sigma.log(), **conditioning)
        return x * aligned(skip, x) + raw.to(x.dtype) * aligned(out, x)


class ScoreOfSigma:
    """A score network of the variance-exploding process that takes σ in the place of t (Song et al. 2021)."""

    def __init__(self, family: Family, schedule: VarianceExploding) -> None:
        self.family, self.schedule = family, schedule

    def __call__(self, x: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        ratio = self.schedule.largest / self.schedule.smallest
        return self.family(x, self.schedule.smallest * torch.pow(ratio, t), **conditioning)
