"""The ladder as one table: one row a level, cheapest first."""

from __future__ import annotations

from dataclasses import dataclass

from multidrift.basics.errors import require


@dataclass(frozen=True)
class Size:
    """One level: the channels of its U-Net at each resolution, and the learning rate that suits that width."""

    name: str
    channels: tuple[int, ...]
    learning_rate: float


# The learning rate falls with the square root of the width; everything else is the same for every level.
SIZES: tuple[Size, ...] = (
    Size("f1", (8, 16, 16), 2.0e-3),
    Size("f2", (16, 32, 32), 1.4e-3),
    Size("f3", (32, 64, 64), 1.0e-3),
    Size("f4", (48, 96, 96), 0.8e-3),
    Size("f5", (64, 128, 128), 0.7e-3),
)


def select(names: tuple[str, ...]) -> tuple[Size, ...]:
    """The rows of the table with these names, in the table's order."""
    known = tuple(size.name for size in SIZES)
    for name in names:
        require(name in known, "levels", name, ", ".join(known))
    return tuple(size for size in SIZES if size.name in names)
