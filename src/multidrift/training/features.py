"""Train the classifier whose features laws of digits are compared by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from multidrift.basics.errors import require
from multidrift.evaluation.features import HIDDEN, digits_classifier


@dataclass(frozen=True)
class Epoch:
    """What one pass over the images came to: its number, the mean loss, and the network so far."""

    number: int
    loss: float
    network: nn.Sequential


def train_classifier(
    images: Tensor, labels: Tensor, epochs: int = 8, batch_size: int = 64, seed: int = 0
) -> Iterator[Epoch]:
    """Train on `images` [n, 1, 28, 28] in [−1, 1] with `labels` [n] in 0 … 9; yields after every epoch.

    Plain cross-entropy with AdamW and a cosine decay. The initial weights and the order of the images follow from
    `seed` alone; torch's own generator is left as it was.
    """
    require(images.ndim == 4, "images", tuple(images.shape), "shape [n, 1, 28, 28]")
    require(len(labels) == len(images), "labels", f"{len(labels)} labels", f"one for each of {len(images)} images")
    require(epochs >= 1, "epochs", epochs, "a number of at least 1")
    require(batch_size >= 1, "batch_size", batch_size, "a number of at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the layers initialise themselves from torch's global generator
        network = digits_classifier()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    batches = -(-len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    for number in range(1, epochs + 1):
        total = 0.0
        order = torch.randperm(len(images), generator=generator)
        for first in range(0, len(images), batch_size):
            rows = order[first : first + batch_size]
            loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        yield Epoch(number, total / len(images), network)


def rescale_features(network: nn.Sequential, images: Tensor) -> None:
    """Divide the features by one number so that their mean square over `images` is 1; the logits stay what they are.

    The scale is arbitrary, because the next layer undoes it, but a kernel that is a polynomial of the features is not
    free of it: its constant, linear and cubic terms are of one size where the mean square is 1.
    """
    hidden, last = cast("nn.Linear", network[HIDDEN]), cast("nn.Linear", network[-1])
    with torch.no_grad():
        scale = network[: HIDDEN + 2](images).square().mean().sqrt()
        hidden.weight.div_(scale)
        hidden.bias.div_(scale)
        last.weight.mul_(scale)


def accuracy(network: nn.Sequential, images: Tensor, labels: Tensor) -> float:
    """Share of `images` [n, 1, 28, 28] whose greatest logit is that of its label."""
    with torch.no_grad():
        return float((network(images).argmax(dim=1) == labels).double().mean())
