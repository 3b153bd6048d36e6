"""The digits that come with the package, split as they were for the bundled ladder."""

from __future__ import annotations

import torch

from multidrift.basics.reading import read_arrays
from multidrift.drifts.folder import BUNDLED
from multidrift.training.images import Split, load_images, split

DIGITS = BUNDLED / "digits.npz"


HELD_OUT, SPLIT_SEED = 0.1, 0  # those of the bundled ladder


def digits() -> Split:
    """The digits in [−1, 1], split as they were for the bundled ladder."""
    return split(load_images(DIGITS), HELD_OUT, SPLIT_SEED)


def labels() -> tuple[torch.Tensor, torch.Tensor]:
    """The labels of the digits as `split` orders them: of the training images, and of the held-out ones."""
    every = torch.from_numpy(read_arrays(DIGITS, "digits", ("y",))["y"]).long()
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(SPLIT_SEED))
    count = round(HELD_OUT * len(every))
    return every[order[count:]], every[order[:count]]
