"""Train the digits' classifier whose features laws of samples are compared by, and write it into the package.

python -m benchmarks.features            # about a minute on one core

It sees the 9,000 digits that the bundled ladder was trained on; its accuracy is measured on the 1,000 held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from safetensors.torch import save_file

from multidrift.basics.files import write_whole
from multidrift.evaluation.features import DIGITS_FILE
from multidrift.training.digits import digits, labels
from multidrift.training.features import accuracy, rescale_features, train_classifier


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
