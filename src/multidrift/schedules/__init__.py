"""Noise schedules, each from noise to data, and time grids along them."""

from multidrift.schedules.catalogue import from_dict
from multidrift.schedules.chain import Discrete, cosine, ddpm
from multidrift.schedules.continuous import (
    Flow,
    KarrasEDM,
    VarianceExploding,
    VariancePreserving,
    edm,
    flow,
    ve,
    vp,
)
from multidrift.schedules.diffusers import from_diffusers
from multidrift.schedules.schedule import Schedule

__all__ = [
    "Discrete",
    "Flow",
    "KarrasEDM",
    "Schedule",
    "VarianceExploding",
    "VariancePreserving",
    "cosine",
    "ddpm",
    "edm",
    "flow",
    "from_dict",
    "from_diffusers",
    "ve",
    "vp",
]
