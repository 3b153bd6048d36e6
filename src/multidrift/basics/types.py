"""What public arguments are beyond their type: ranges, and the words in which an error says them.

Upper bounds are beyond any run that a machine could finish, and are named before memory is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from annotated_types import Ge, Gt, Le, Lt


@dataclass(frozen=True)
class Takes:
    """In an annotation: what an error says that the argument takes."""

    text: str


@dataclass(frozen=True)
class MayBeInfinite:
    """In an annotation of a float: infinity is a value."""


MOST_STEPS = 1_000_000
LARGEST = 1e100  # a number whose square and inverse are numbers, too
MOST_VALUES = 10_000_000_000  # coordinates of all samples of a run: 40 gigabytes in float32

# Anything that names a file; what stands for a list of numbers or names.
PathLike: TypeAlias = str | os.PathLike[str]
Numbers: TypeAlias = Annotated[Sequence[float], Takes("a list of numbers")]  # or an array, as a list

Bytes: TypeAlias = Annotated[float, Gt(0), MayBeInfinite(), Takes("a number of bytes")]
Count: TypeAlias = Annotated[int, Ge(1), Takes("an integer of at least 1")]
Steps: TypeAlias = Annotated[int, Ge(2), Le(MOST_STEPS), Takes(f"an integer of at least 2, and at most {MOST_STEPS:,}")]
NotNegative: TypeAlias = Annotated[float, Ge(0), Le(LARGEST), Takes(f"a number of at least 0, and at most {LARGEST:g}")]
Positive: TypeAlias = Annotated[
    float, Ge(1 / LARGEST), Le(LARGEST), Takes(f"a positive number, from {1 / LARGEST:g} to {LARGEST:g}")
]
Size: TypeAlias = Annotated[int, Ge(1), Le(MOST_STEPS), Takes(f"an integer of at least 1, and at most {MOST_STEPS:,}")]
Paths: TypeAlias = Annotated[int, Ge(2), Le(MOST_STEPS), Takes(f"an integer of at least 2, and at most {MOST_STEPS:,}")]
Four: TypeAlias = Annotated[int, Ge(4), Le(MOST_STEPS), Takes(f"an integer of at least 4, and at most {MOST_STEPS:,}")]
Eight: TypeAlias = Annotated[int, Ge(8), Le(MOST_STEPS), Takes(f"an integer of at least 8, and at most {MOST_STEPS:,}")]
Share: TypeAlias = Annotated[float, Gt(0), Lt(1), Takes("a number between 0 and 1")]
Index: TypeAlias = Annotated[int, Ge(0), Lt(1 << 63), Takes("an integer of at least 0")]
Indices: TypeAlias = Annotated[Index | Sequence[Index], Takes("an integer of at least 0, or one for each seed")]
Dimensions: TypeAlias = Sequence[Count]
ShortSeed: TypeAlias = Annotated[
    int, Ge(0), Lt(1 << 40), Takes("an integer from 0 to 2⁴⁰ − 1")
]  # others are made of it
Seed: TypeAlias = Annotated[int, Ge(-(1 << 63)), Lt(1 << 64), Takes("an integer from −2⁶³ to 2⁶⁴ − 1")]
Seeds: TypeAlias = Annotated[
    Seed | Sequence[Seed], Takes("an integer from −2⁶³ to 2⁶⁴ − 1, or a list of one for each sample")
]
