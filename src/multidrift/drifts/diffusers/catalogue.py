"""All families, and the one that a network belongs to."""

from __future__ import annotations

from multidrift.basics.errors import MultidriftError
from multidrift.drifts.diffusers.dit import DiT, PixArt
from multidrift.drifts.diffusers.family import Family, Network, class_of
from multidrift.drifts.diffusers.flux import Flux, Flux2
from multidrift.drifts.diffusers.sana import Sana
from multidrift.drifts.diffusers.sd3 import SD3
from multidrift.drifts.diffusers.unet import ConditionalUNet, UNet
from multidrift.drifts.diffusers.video import CogVideoX, Wan

FAMILIES: tuple[type[Family], ...] = (UNet, ConditionalUNet, DiT, PixArt, SD3, Flux, Flux2, Sana, Wan, CogVideoX)


def family_of(network: Network) -> Family:
    """The network behind its family's adapter; raises on one of no known family, naming it."""
    name = class_of(network)
    for family in FAMILIES:
        if name in family.classes:
            return family(network)
    known = ", ".join(listed for family in FAMILIES for listed in family.classes)
    raise MultidriftError(
        f"model: got {name}, of no family with an adapter ({known}); it takes a function net(x, t, **conditioning) "
        "around it: md.Denoiser(net, md.schedules.from_diffusers(scheduler), predicts=…)"
    )
