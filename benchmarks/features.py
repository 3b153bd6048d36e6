"""Train the digits' classifier whose features laws of samples are compared by, and write it into the package.

python -m benchmarks.features            # about a minute on one core

It sees the 9,000 digits that the bundled ladder was trained on; its accuracy is measured on the 1,000 held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from safetensors.torch import save_file

from multidrift.drifts.folder import BUNDLED
from multidrift.evaluation.features import DIGITS_FILE
from multidrift.processes.files import write_whole
from multidrift.training.features import accuracy, rescale_features, train_classifier
from multidrift.training.images import Split, load_images, split

DIGITS = BUNDLED / "digits.npz"
HELD_OUT, SPLIT_SEED = 0.1, 0  # those of the bundled ladder


def digits() -> Split:
    """The digits in [−1, 1], split as they were for the bundled ladder."""
    return split(load_images(DIGITS), HELD_OUT, SPLIT_SEED)


def labels() -> tuple[torch.Tensor, torch.Tensor]:
    """The labels of the digits as `split` orders them: of the training images, and of the held-out ones."""
    with np.load(DIGITS, allow_pickle=False) as arrays:
        every = torch.from_numpy(arrays["y"]).long()
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(SPLIT_SEED))
    count = round(HELD_OUT * len(every))
    return every[order[count:]], every[order[:count]]


def main(
    out: Annotated[Path, typer.Option(help="Where the weights go.")] = DIGITS_FILE,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 8,
) -> None:
    """Train, print the held-out accuracy, write the weights."""
    console = Console(stderr=True)
    images = digits()
    training, held_out = labels()
    for epoch in train_classifier(images.train, training, epochs):
        share = accuracy(epoch.network, images.held_out, held_out)
        console.print(f"epoch {epoch.number}: loss {epoch.loss:.4f}, held-out accuracy {share:.4f}")
    rescale_features(epoch.network, images.train)
    weights = {name: tensor.contiguous() for name, tensor in epoch.network.state_dict().items()}
    write_whole(out, lambda partial: save_file(weights, partial))
    console.print(f"written {out}, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    typer.run(main)
