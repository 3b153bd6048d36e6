"""Where tensors are."""

from __future__ import annotations

import torch

from multidrift.basics.errors import MultidriftError


def named_device(device: torch.device | str) -> torch.device:
    """A device of this machine that can hold numbers; MultidriftError on any other."""
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise MultidriftError(f"device: got {str(device)!r}; it takes cpu, cuda, cuda:1, … ({reason})") from error
    if place.type == "meta":
        raise MultidriftError("device: got 'meta', which holds no numbers; it takes cpu, cuda, cuda:1, …")
    return place
