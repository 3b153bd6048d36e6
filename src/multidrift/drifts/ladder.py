"""A ladder: drifts of one process, cheapest first, each closer to the exact one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, cast

import torch

from multidrift.basics.checks import checked
from multidrift.basics.devices import named_device
from multidrift.basics.errors import MultidriftError, keeping, require
from multidrift.basics.memory import check_size
from multidrift.basics.types import Count, Dimensions, Numbers, PathLike, Size, Takes
from multidrift.drifts.agreement import PLACES, check_gradients, check_scales
from multidrift.drifts.costs import Costs, fastest_rows, measure_costs
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.denoiser import Denoiser, denoiser_of
from multidrift.drifts.diffusers.levels import read_levels as read_pipelines
from multidrift.drifts.drift import Drift, Network
from multidrift.drifts.folder import BUNDLED, read_levels, write_levels
from multidrift.drifts.gaussian import GaussianDenoiser
from multidrift.drifts.gradient import LangevinDrift
from multidrift.drifts.guider import Guider
from multidrift.processes.process import Process
from multidrift.schedules.schedule import Schedule

GAUSSIAN = "gaussian"  # what methods call the closed form below all levels


class Ladder:
    """Drifts of growing accuracy and cost, cheapest first: Denoisers on one schedule, or drifts of Langevin dynamics.

    - `levels`: the Denoisers, or gradients of log-densities; `names`: one name a level, by default each one's own
    - `costs`: seconds per call of each level, where they were measured (`Ladder.measured`)
    - `gaussian`: a Gaussian with the data's mean and covariance, below all levels; it is no level of the ladder, but
      methods that take levels take it by the name "gaussian", at no cost
    - `covariances`: how its drifts vary together, one a process: what coefficients of LadderMultistep are fitted to

    Raises MultidriftError on an empty ladder, repeated names, and levels of different schedules or shapes.
    """

    @checked
    def __init__(
        self,
        levels: Sequence[Drift | Network],
        names: Sequence[str] | None = None,
        costs: Costs | None = None,
        gaussian: GaussianDenoiser | None = None,
        covariances: Sequence[DriftCovariance] = (),
    ) -> None:
        require(len(levels) > 0, "levels", levels, "at least one Denoiser")
        for level in levels:
            known = isinstance(level, Drift) or (callable(level) and not isinstance(level, torch.nn.Module))
            require(known, "levels", level, "Denoisers, or md.LangevinDrifts, cheapest first")
        drifts = [as_drift(level) for level in levels]
        self.names = tuple(drift.name for drift in drifts) if names is None else tuple(names)
        require(len(self.names) == len(levels), "names", self.names, f"{len(levels)} names")
        require(len(set(self.names)) == len(levels), "names", self.names, "one name a level, all different")
        for name in self.names:
            plain = bool(name) and name not in (".", "..") and not set(name) & set("/\\")
            require(plain, "names", name, "names that could be a folder's")
        self._levels = {name: drift.renamed(name) for name, drift in zip(self.names, drifts, strict=True)}
        self.costs, self.gaussian, self.covariances = costs, gaussian, tuple(covariances)
        first = next(((n, d.shape) for n, d in self._levels.items() if d.shape is not None), (self.top, None))
        if gaussian is not None and gaussian.schedule != self.schedule:
            raise MultidriftError(f"gaussian: has another schedule than {self.top}; a ladder has one")
        for name, level in self._levels.items():
            if level.schedule != self.schedule:
                raise MultidriftError(
                    f"levels: {name} has another schedule than {self.top}; a ladder has one, and level.on(schedule) "
                    "brings a level there"
                )
            if level.shape is not None and level.shape != first[1]:
                raise MultidriftError(f"levels: {name} has shape {level.shape}, {first[0]} has {first[1]}")

    @staticmethod
    @checked
    def bundled(name: str = "digits") -> Ladder:
        """A ladder that comes with the package: "digits", five networks f1 … f5 on 28×28 handwritten digits."""
        folders = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()) if BUNDLED.is_dir() else []
        require(name in folders, "name", name, ", ".join(folders) or "nothing: this build has no bundled ladder")
        return Ladder.load(BUNDLED / name)

    @staticmethod
    @checked
    def load(folder: PathLike) -> Ladder:
        """The ladder saved in `folder`; every file is checked against its hash before it is read."""
        levels, costs, gaussian, covariances = read_levels(Path(folder))
        return Ladder(levels, costs=costs, gaussian=gaussian, covariances=covariances)

    @staticmethod
    @checked
    def from_diffusers(
        models: Sequence[object],
        names: Sequence[str] | None = None,
        *,
        shape: Dimensions | None = None,
        same_vae: bool = True,
        dtype: torch.dtype | None = None,
    ) -> Ladder:
        """Networks of a family, cheapest first, from diffusers: on the top level's schedule, matched by log-SNR.

        - `models`: pipelines, their folders, or pairs (network, scheduler)
        - `names`: by default those of the folders they were loaded from
        - `shape`: of one sample's latents, where the levels' own differ or are not known
        - `same_vae`: whether VAEs need the same weights; channels and scales have to agree in any case
        - `dtype`: of networks that are read from folders

        Levels may differ in schedule, in shift and in what they predict. Raises MultidriftError, naming the level,
        where latents differ or networks were distilled in other ways; `check` asks the networks themselves.
        """
        size = None if shape is None else tuple(shape)
        levels = [denoiser_of(found) for found in read_pipelines(models, names, size, dtype, same_vae=same_vae)]
        return Ladder([level.on(levels[-1].schedule) for level in levels])

    @checked
    def save(
        self, folder: PathLike, *, overwrite: bool = False, half: bool = False, shard_size: Count = 10_000_000_000
    ) -> None:
        """Write a folder with `ladder.json` and one diffusers pipeline a level, whole or not at all.

        `half` stores the weights in half precision; they are loaded as float32. Weights of more than `shard_size` bytes
        are stored in several files. While it is written the folder is locked: a second writer gets a MultidriftError
        that names the first.
        """
        with keeping(self):
            write_levels(
                Path(folder), self._levels, self.costs, self.gaussian, self.covariances,
                overwrite=overwrite, half=half, shard_size=shard_size,
            )  # fmt: skip

    @checked
    def to(self, device: torch.device | str) -> Ladder:
        """Move every network to `device`; returns the ladder."""
        place = named_device(device)
        for level in self:
            for module in level.modules:
                module.to(place)
        return self

    @checked
    def optimized(
        self,
        *,
        compiled: bool | str = False,
        channels_last: bool = False,
        rows: Size | None = None,
        levels: str | Sequence[str] | None = None,
    ) -> Ladder:
        """The same ladder with faster calls of some `levels` (None: all), see `Denoiser.optimized`; without costs."""
        chosen = self.choose(self.names if levels is None else levels)
        made = [
            level.optimized(compiled=compiled, channels_last=channels_last, rows=rows) if name in chosen else level
            for name, level in self._levels.items()
        ]
        return Ladder(made, self.names, None, self.gaussian, self.covariances)

    @checked
    def measured(self, batch: Count = 64, repeats: Size = 7, device: torch.device | str | None = None) -> Ladder:
        """The same ladder with the cost of each level measured here, on batches of `batch` samples.

        Levels that are faster in parts of the batch are called in such parts from then on (`Denoiser.optimized`'s
        `rows`), and were when their cost was measured.
        """
        size = self.shape
        require(size is not None, "ladder", self, "levels that know their sample's shape")
        assert size is not None
        check_size(batch * math.prod(size), "batch", batch)
        rows = fastest_rows(self._levels, size, batch, device)
        levels = {name: level.optimized(rows=rows[name]) for name, level in self._levels.items()}
        costs = measure_costs(levels, size, batch, repeats, device)
        return Ladder(list(levels.values()), self.names, costs, self.gaussian, self.covariances)

    @checked
    def guided(
        self,
        scale: Annotated[float | Guider, Takes("a number (1 is no guidance), or a guider")],
        conditional: Mapping[str, object] | None = None,
        unconditional: Mapping[str, object] | None = None,
        *,
        rescale: float = 0.0,
        interval: Numbers | None = None,
        weak: str | None = None,
    ) -> Ladder:
        """The same ladder with every level guided, arguments as for `md.Denoiser.guided`; without its measured costs.

        - `conditional`, `unconditional`: one for all levels; or, where text encoders differ between them, a mapping
          from the name of every level to its own
        - `weak`: the name of a level that the others are guided away from; it stays as it is

        Raises MultidriftError, naming the level, where one has no conditioning while others have.
        """
        apart = None if weak is None else self[weak]
        require(apart is None or isinstance(apart, Denoiser), "weak", weak, "a level that is a Denoiser")
        found: list[Drift] = []
        for name, level in self._levels.items():
            if not isinstance(level, Denoiser):
                raise MultidriftError(f"level {name}: got {type(level).__name__}; guidance takes Denoisers")
            given = self._of_level(name, "conditional", conditional)
            without = self._of_level(name, "unconditional", unconditional)
            if level is apart:
                found.append(level)
                continue
            away = apart if isinstance(apart, Denoiser) else None
            found.append(level.guided(scale, given, without, rescale=rescale, interval=interval, weak=away))
        return Ladder(found, self.names, None, self.gaussian)

    def _of_level(self, name: str, called: str, given: Mapping[str, object] | None) -> Mapping[str, object] | None:
        """What is given to one level: that of all, or its own where there is one for each."""
        if given is None or not set(given) & set(self.names):
            return given
        for level in self.names:
            require(level in given, f"{called} of level {level}", None, f"one for each of {', '.join(self.names)}")
        own = given[name]
        require(
            isinstance(own, Mapping), f"{called} of level {name}", type(own).__name__, "a mapping from names to values"
        )
        return cast("Mapping[str, object]", own)

    @checked
    def with_covariance(self, covariance: DriftCovariance) -> Ladder:
        """The same ladder with one more covariance, in the place of one of the same process and levels."""
        kept = [c for c in self.covariances if c.process != covariance.process or c.levels != covariance.levels]
        return Ladder(list(self), self.names, self.costs, self.gaussian, (*kept, covariance))

    def covariance_for(self, process: Process, levels: Mapping[str, Drift]) -> DriftCovariance | None:
        """The covariance of these levels' drifts on a process, or None where none was measured."""
        if not self.covariances:  # without which a network's weights need not be read
            return None
        settings, ladder = process.to_dict(), {name: level.fingerprint for name, level in levels.items()}
        return next((c for c in self.covariances if c.serves(settings, ladder)), None)

    def with_gaussian(self) -> dict[str, Drift]:
        """All levels by name, cheapest first; below them "gaussian", the closed form, where the ladder has it."""
        if self.gaussian is None or GAUSSIAN in self._levels:
            return dict(self._levels)
        return {GAUSSIAN: self.gaussian, **self._levels}

    @checked
    def choose(self, names: str | Sequence[str], argument: str = "levels", *, below: bool = False) -> dict[str, Drift]:
        """The named levels, "gaussian" among them; `below`: of those below the top one alone.

        Raises MultidriftError, naming `argument`, on names the ladder does not have and levels that are not cheapest
        first.
        """
        known = {n: level for n, level in self.with_gaussian().items() if not (below and n == self.top)}
        listed = (names,) if isinstance(names, str) else tuple(names)
        which = "levels below the top one: " if below else "levels out of "
        there = all(name in known for name in listed)
        require(there, argument, names, f"{which}{', '.join(known) or 'there are none'}")
        places = [list(known).index(name) for name in listed]
        rising = bool(places) and all(a < b for a, b in pairwise(places))
        require(rising, argument, names, f"different levels, cheapest first, out of {', '.join(known)}")
        return {name: known[name] for name in listed}

    def __getitem__(self, name: str) -> Drift:
        require(name in self._levels, "level", name, ", ".join(self.names))
        return self._levels[name]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Drift]:
        return iter(self._levels.values())

    def __repr__(self) -> str:
        return f"Ladder({', '.join(self.names)}; {getattr(self.schedule, 'kind', 'Langevin')}, shape={self.shape})"

    @property
    def top(self) -> str:
        """The name of the most accurate level."""
        return self.names[-1]

    @property
    def schedule(self) -> Schedule | None:
        """The schedule all levels share; None for drifts of Langevin dynamics."""
        return self[self.top].schedule

    @property
    def shape(self) -> tuple[int, ...] | None:
        """One sample's shape, where a level knows it."""
        return next((level.shape for level in self if level.shape is not None), None)

    @checked
    def check(self, shape: Dimensions | None = None, conditioning: Mapping[str, object] | None = None) -> None:
        """Call every level once at three times and raise, naming the level, where one cannot belong to this ladder.

        Refused are outputs of another shape or dtype, outputs that are not finite, and a level whose prediction of
        the noise has another scale than the top level's where the signal is weak (a wrong `predicts`, usually).
        `conditioning` is as for `md.sample` of 3 samples (Langevin drifts: 2).
        """
        require(shape is not None or self.shape is not None, "shape", shape, "one sample's shape, as no level knows it")
        size = tuple(shape or self.shape or ())
        check_size(len(PLACES) * math.prod(size), "shape", size)
        if self.schedule is None:
            check_gradients(list(self), size, conditioning)
        else:
            check_scales(self._levels, self.schedule, size, conditioning)


def as_drift(level: Drift | Network) -> Drift:
    """A drift as it is; a plain function as the gradient of a log-density."""
    return level if isinstance(level, Drift) else LangevinDrift(level, getattr(level, "__name__", "drift"))
