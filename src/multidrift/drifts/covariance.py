"""How the drifts of a ladder vary together along the top level's paths: what coefficients are fitted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.hints import Hint
from multidrift.basics.json_files import entry
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Count

# What a description has under the name of each field.
_ENTRIES: Mapping[str, Hint] = {
    "levels": Sequence[str],
    "ladder": Mapping[str, str],
    "process": Mapping[str, object],
    "places": Sequence[float],
    "products": Sequence[float],
    "paths": Count,
}


@dataclass(frozen=True, eq=False)
class DriftCovariance:
    """Mean products of D^j at one place and D^k at another, over paths of the top level and coordinates.

    - `levels`: their names, cheapest first; `ladder`: a fingerprint of each
    - `process`: the settings of the process whose paths they are
    - `places` [n]: λ (Langevin: time) along the paths, increasing
    - `products` [levels·n, levels·n]: entry (j·n + a, k·n + b) is the mean of D^j(place a)·D^k(place b)
    - `paths`: how many paths were averaged over

    A value of a drift, or a mean of it over a cell, is a linear form in the levels·n recorded values; the best
    combination of some of them for another is a regression that takes these products alone.
    """

    levels: tuple[str, ...]
    ladder: Mapping[str, str]
    process: Mapping[str, object]
    places: tuple[float, ...]
    products: Floats
    paths: int

    def __post_init__(self) -> None:
        size = len(self.levels) * len(self.places)
        good = self.products.shape == (size, size) and bool(np.isfinite(self.products).all())
        require(good, "products", self.products.shape, f"finite values [{size}, {size}]")
        require(0 < len(set(self.levels)) == len(self.levels), "levels", self.levels, "names, all different")
        require(set(self.ladder) == set(self.levels), "ladder", sorted(self.ladder), f"fingerprints of {self.levels}")
        rising = len(self.places) >= 2 and bool((np.diff(self.places) > 0).all())
        require(rising, "places", self.places, "at least two, increasing")

    @cached_property
    def _known(self) -> Floats:
        return np.asarray(self.places)

    def value(self, level: str, place: float) -> Floats:
        """The linear form of D of a level at a place, interpolated between the recorded ones."""
        return self.mean(level, np.array([place]), np.ones(1))

    def mean(self, level: str, places: Floats, weights: Floats) -> Floats:
        """The linear form of Σ w D(place) of a level."""
        n, start = len(self.places), self.levels.index(level) * len(self.places)
        index = np.interp(np.maximum(places, self._known[0]), self._known, np.arange(float(n)))
        below = np.minimum(index.astype(np.intp), n - 2)
        form = np.zeros(len(self.levels) * n)
        np.add.at(form, start + below, weights * (below + 1.0 - index))
        np.add.at(form, start + below + 1, weights * (index - below))
        return form

    def regress(self, target: Floats, known: Sequence[Floats], before: Sequence[float], shrink: float) -> list[float]:
        """The coefficients of `known` forms that come nearest to a target, shrunk towards those of `before`.

        `shrink`: the weight of a deviation from `before`, in units of each form's own variance.
        """
        if not known:
            return []
        forms, start = np.stack(known), np.asarray(before, dtype=np.float64)
        gram = forms @ self.products @ forms.T
        right = forms @ self.products @ (target - start @ forms)
        found = np.linalg.lstsq(gram + shrink * np.diag(np.diag(gram)), right, rcond=1e-12)[0]
        return cast("list[float]", (start + found).tolist())

    def check(self, process: Mapping[str, object], ladder: Mapping[str, str]) -> None:
        """Raise, naming the difference, unless it was measured on this process with these levels."""
        for name, fingerprint in ladder.items():
            if name not in self.levels:
                raise MultidriftError(f"covariance: was measured on {', '.join(self.levels)}, without level {name}")
            if self.ladder[name] != fingerprint:
                raise MultidriftError(f"covariance: was measured on another level {name} (its network differs)")
        for key, value in self.process.items():
            if process.get(key) != value:
                detail = "another schedule" if key == "schedule" else f"{key} = {value!r}, not {process.get(key)!r}"
                raise MultidriftError(f"covariance: was measured on a process with {detail}")

    def serves(self, process: Mapping[str, object], ladder: Mapping[str, str]) -> bool:
        """Whether it was measured on this process with these levels."""
        try:
            self.check(process, ladder)
        except MultidriftError:
            return False
        return True

    def to_dict(self) -> dict[str, object]:
        """As plain values; `from_dict` reads them back. Of the symmetric products one half, to eight digits."""
        half = self.products[np.tril_indices(len(self.products))]
        return {
            "levels": list(self.levels),
            "ladder": dict(self.ladder),
            "process": dict(self.process),
            "places": list(self.places),
            "products": [float(f"{value:.8g}") for value in half],
            "paths": self.paths,
        }

    @staticmethod
    @checked
    def from_dict(values: Mapping[str, object]) -> DriftCovariance:
        """What `to_dict` described; raises MultidriftError on anything else."""
        found = {name: entry(values, name, hint, "covariance") for name, hint in _ENTRIES.items()}
        levels, places = tuple(cast("list[str]", found["levels"])), tuple(cast("list[float]", found["places"]))
        size = len(levels) * len(places)
        half, products = cast("list[float]", found["products"]), np.zeros((size, size))
        require(
            len(half) == size * (size + 1) // 2, "covariance: 'products'", f"{len(half)} numbers", f"half of {size}²"
        )
        products[np.tril_indices(size)] = half
        products = products + np.tril(products, -1).T
        ladder, process = cast("dict[str, str]", found["ladder"]), cast("dict[str, object]", found["process"])
        return DriftCovariance(levels, dict(ladder), dict(process), places, products, cast("int", found["paths"]))
