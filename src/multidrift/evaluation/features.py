"""A small classifier of digits whose last hidden layer gives the features that laws of digits are compared by."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.foreign import users_code
from multidrift.drifts.folder import BUNDLED

FEATURES = 64
DIGITS_FILE = BUNDLED / "digits-features.safetensors"
_SHAPE = (1, 28, 28)
HIDDEN = 7  # where the hidden layer lies in the network; the features are its values after the ReLU that follows


def digits_classifier() -> nn.Sequential:
    """The network, untrained: images [n, 1, 28, 28] in [−1, 1] to the logits [n, 10] of the ten digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, FEATURES),
        nn.ReLU(),
        nn.Linear(FEATURES, 10),
    )


@cache
def _trained(file: Path) -> nn.Sequential:
    network = digits_classifier()
    try:
        network.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise MultidriftError(f"file: {str(file)!r} holds no weights of the digits' classifier ({error})") from error
    return network.eval().requires_grad_(requires_grad=False)


def trained_classifier(file: Path = DIGITS_FILE) -> nn.Sequential:
    """The bundled classifier, trained by `python -m benchmarks.features`; raises MultidriftError on a damaged file."""
    return _trained(file)


def digit_features(images: Tensor, classifier: nn.Sequential | None = None, batch_size: int = 500) -> Tensor:
    """Features [n, 64] in float64 of `images` [n, 1, 28, 28] in [−1, 1]; by the bundled classifier by default.

    They are the values of its hidden layer, scaled to a mean square of 1 over the digits it was trained on. Images are
    rounded to the 8 bits a pixel that the real digits have, so that the comparison is one of pictures.
    Raises MultidriftError on images of another shape.
    """
    good = images.ndim == 4 and tuple(images.shape[1:]) == _SHAPE and len(images) > 0
    require(good, "images", tuple(images.shape), "shape [n, 1, 28, 28]")
    network = trained_classifier() if classifier is None else classifier
    rounded = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    with torch.no_grad():
        firsts = range(0, len(rounded), batch_size)
        parts = [network[: HIDDEN + 2](rounded[first : first + batch_size]) for first in firsts]
    return torch.cat(parts).double()


def featured(function: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """What a user's function of samples [n, …] gives, features [n, d]; MultidriftError where it raises or does not."""
    with users_code("features"):
        found = function(samples.clone())
    given: object = found  # whatever it is
    good = isinstance(given, Tensor) and given.ndim == 2 and len(given) == len(samples)
    shown = tuple(found.shape) if isinstance(given, Tensor) else type(given).__name__
    require(good, "features", shown, f"a function that gives [{len(samples)}, d]")
    require(
        bool(torch.isfinite(found).all()), "features", "values that are not finite", "a function that gives finite ones"
    )
    return found
