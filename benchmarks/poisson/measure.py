"""The law of samples against calls of the network: Poisson midpoint, DDPM, DDIM, multistep and diffusers' solvers.

    python -m benchmarks.poisson             # about an hour and a half on two idle cores
    python -m benchmarks.poisson --resume    # goes on where a stopped run was

This is about the law of samples, not about the path: a method that puts every sample elsewhere, but as far from the
real digits as 1,000 calls of DDPM do, is as good as that. (How near a path is followed is what `benchmarks.multilevel`
measures.) Everything runs level f3 of the bundled ladder, 1,000 images from the same noises. Their features are
compared with those of the 9,000 digits that the networks were trained on, by the unbiased kernel distance with its 95%
interval; beside every figure stands the distance of 1,000 real digits, held out, from the same 9,000. The second
distance is to the 1,000-call DDPM's samples, which have noises of their own: it leaves the network's own error out.

Poisson midpoint takes 2·(steps − 1) + 1 calls; its substeps make the fine grid one of about 1,000. Highlighted is one
setting, chosen before anything was measured: the package's default process, `draws="single"` (which the paper takes
for few steps) and `spread="clock"`, at every number of calls. The paper's variants take equal steps of t, as there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

import multidrift as md
from benchmarks.peers import SPACINGS, Peer, run_peer
from benchmarks.record import Record, machine
from multidrift.basics.errors import require
from multidrift.basics.files import write_whole
from multidrift.evaluation.features import digit_features
from multidrift.evaluation.laws import frechet_distance, kernel_distance
from multidrift.noise.counter import Keys, Stream
from multidrift.runs.pictures import to_pixels
from multidrift.training.digits import digits

LEVEL = "f3"
BATCH = 50  # rows of one network call: the activations then fit a core's cache
SUBSTEPS = 1000  # of a whole Poisson midpoint run: the fine grid whose law it imitates
REFERENCE = "DDPM"
REFERENCE_CALLS = 1000
HIGHLIGHTED = "Poisson midpoint, single"
SDE_CALLS, ODE_CALLS, PEER_SDE_CALLS = (20, 40, 80, 160), (5, 10, 20), (10, 20, 40)
DRAWS_CALLS = 40  # the other draws and the other spread, once
VARIANTS = {  # of the paper, each at 40 and 80 calls; 1a and 2 wherever the paper recommends them
    "1a": (40, 80, 160), "1b": (40, 80), "1c": (40, 80), "1d": (40, 80), "2": (20, 40, 80), "3": (40, 80),
}  # fmt: skip
ON_BLEND = "2"  # recommended by the paper for these calls: it runs on this package's grid too


@dataclass(frozen=True)
class Setting:
    """One run: how it is called, its steps, how many calls it aims at, and what makes its samples."""

    family: str
    label: str
    steps: int
    calls: int
    run: Callable[[], tuple[Tensor, float]]  # samples [count, 1, 28, 28], and calls per sample as counted

    @property
    def file(self) -> str:
        """A file name of letters and digits."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.label} {self.calls}".lower()) + ".npz"


@dataclass(frozen=True)
class Settings:
    """All settings for one denoiser."""

    denoiser: md.Denoiser
    count: int

    def ours(
        self, family: str, label: str, calls: int, method: md.Method, process: md.Diffusion, seed: int = 0
    ) -> Setting:
        """One of the package's methods."""

        def run() -> tuple[Tensor, float]:
            found = md.sample(self.denoiser, method, process, count=self.count, seed=seed, batch_size=BATCH)
            return found.samples, found.calls[self.denoiser.name]

        return Setting(family, label, method.number_of_evaluations, calls, run)

    def reference(self) -> Setting:
        """1,000 calls of DDPM, from noises that no other run has."""
        method = md.Euler(REFERENCE_CALLS, "blend")
        return self.ours("reference", REFERENCE, REFERENCE_CALLS, method, self.process(1.0), seed=1)

    def process(self, eta: float) -> md.Diffusion:
        """The reverse process with this much noise."""
        return md.Diffusion(self.denoiser.schedule, eta)

    def euler(self) -> Iterator[Setting]:
        """DDPM and DDIM."""
        for calls in SDE_CALLS:
            yield self.ours("euler", "DDPM", calls, md.Euler(calls, "blend"), self.process(1.0))
        for calls in SDE_CALLS[:3]:
            yield self.ours("euler", "DDIM", calls, md.Euler(calls, "blend"), self.process(0.0))

    def multistep(self) -> Iterator[Setting]:
        """Second order, with and without noise."""
        for calls in PEER_SDE_CALLS:
            yield self.ours("multistep", "Multistep, η = 1", calls, md.Multistep(calls, "blend"), self.process(1.0))
        for calls in ODE_CALLS:
            yield self.ours("multistep", "Multistep, η = 0", calls, md.Multistep(calls, "blend"), self.process(0.0))

    def peer(self) -> Iterator[Setting]:
        """The solvers of diffusers, over three spacings."""
        kinds = {"dpm": "DPM-Solver++(2M)", "unipc": "UniPC", "sde-dpm": "SDE-DPM-Solver++(2M)"}
        for kind, name in kinds.items():
            for spacing in SPACINGS:
                for calls in PEER_SDE_CALLS if kind == "sde-dpm" else ODE_CALLS:
                    yield self._peer(Peer(f"diffusers {name}, {spacing}", kind, spacing), calls)

    def _peer(self, peer: Peer, calls: int) -> Setting:
        def run() -> tuple[Tensor, float]:
            keys = Keys.of((0,) * self.count, range(self.count), Stream.START, torch.device("cpu"))
            start = keys.normals([0], (1, 28, 28), torch.float32)[0]
            return run_peer(peer, self.denoiser, start, calls, seed=0, batch_size=BATCH), float(calls)

        return Setting("peer", peer.label, calls, calls, run)

    def poisson(self) -> Iterator[Setting]:
        """Poisson midpoint: the highlighted setting, the other draws, and the paper's variants drawn as there."""
        process = self.process(1.0)
        for calls in SDE_CALLS:
            yield self._poisson(HIGHLIGHTED, calls, process, draws="single", spread="clock")
        for draws in ("independent", "midpoint"):
            yield self._poisson(f"Poisson midpoint, {draws}", DRAWS_CALLS, process, draws=draws, spread="clock")
        label = "Poisson midpoint, single, spread over steps"
        yield self._poisson(label, DRAWS_CALLS, process, draws="single", spread="steps")
        for variant, numbers in VARIANTS.items():
            chain = md.pmm_variant(variant, self.denoiser.schedule)
            label = f"Poisson midpoint, paper's variant {variant}"
            for calls in numbers:
                yield self._poisson(label, calls, chain, grid="linspace", draws="single", spread="steps")
            if variant == ON_BLEND:
                label = f"{label}, blend"
                yield self._poisson(label, DRAWS_CALLS, chain, grid="blend", draws="single", spread="steps")

    def _poisson(self, label: str, calls: int, process: md.Diffusion, **settings: str) -> Setting:
        steps = (calls + 1) // 2  # 2(steps − 1) + 1 calls, one less than an even number
        method = md.PoissonMidpoint(steps, substeps=round(SUBSTEPS / (steps - 1)), **{"grid": "blend"} | settings)
        return self.ours("poisson", label, calls, method, process)


@dataclass(frozen=True)
class Sampled:
    """What a run gave: features of its pictures, calls of the network per sample, seconds."""

    features: Tensor
    calls: float
    seconds: float


@dataclass(frozen=True)
class Bench:
    """Where pictures are kept, and what they are measured against."""

    record: Record
    pictures: Path
    resume: bool
    real: Tensor  # features of the training digits

    def sampled(self, setting: Setting) -> Sampled:
        """A setting's pictures, from the file of an earlier run where that is wanted and there is one."""
        file = self.pictures / setting.file
        if not (self.resume and file.is_file()):
            self.pictures.mkdir(parents=True, exist_ok=True)
            began = time.perf_counter()
            samples, calls = setting.run()
            seconds = time.perf_counter() - began
            images = np.stack(to_pixels(samples))
            write_whole(file, lambda partial: np.savez_compressed(partial, x=images, calls=calls, seconds=seconds))
        with np.load(file, allow_pickle=False) as kept:
            images, calls, seconds = torch.from_numpy(kept["x"]), float(kept["calls"]), float(kept["seconds"])
        return Sampled(digit_features(images[:, None].float() / 127.5 - 1), calls, seconds)

    def keep(self, setting: Setting, sampled: Sampled, reference: Tensor | None) -> dict[str, object]:
        """Measure one setting and keep its entry; `reference`: features of the 1,000-call DDPM, None for its own."""
        entry: dict[str, object] = {"family": setting.family, "label": setting.label, "steps": setting.steps}
        entry |= {
            "calls": setting.calls,
            "counted_calls": sampled.calls,
            "seconds": sampled.seconds,
            **distances(sampled.features, self.real),
        }
        if reference is not None:
            entry["to_reference"] = distances(sampled.features, reference)
        self.record.header["minutes"] = sum(e["seconds"] for e in [*self.record.entries, entry]) / 60
        self.record.add(entry)
        return entry

    def done(self, setting: Setting) -> bool:
        """Whether the record has this setting already."""
        return any((e["label"], e["calls"]) == (setting.label, setting.calls) for e in self.record.entries)


def distances(features: Tensor, others: Tensor) -> dict[str, object]:
    """Both distances of two sets of features, as they are kept."""
    kernel = kernel_distance(features, others)
    low, high = kernel.interval
    error, frechet = kernel.standard_error, frechet_distance(features, others)
    return {"kernel": kernel.value, "low": low, "high": high, "standard_error": error, "frechet": frechet}


FAMILIES = ("poisson", "euler", "peer", "multistep")


def main(
    count: Annotated[int, typer.Option(help="Images of each run.")] = 1000,
    families: Annotated[str, typer.Option(help="Which families to run, with commas.")] = ",".join(FAMILIES),
    resume: Annotated[bool, typer.Option("--resume", help="Keep what the record and the pictures hold.")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Sample nothing: only measure pictures kept.")] = False,
    pictures: Annotated[Path, typer.Option(help="Where the pictures of every run are kept.")] = Path(
        "out/poisson_diffusion"
    ),
    name: Annotated[str, typer.Option(help="Name of the result, under benchmarks/results.")] = "poisson_diffusion",
) -> None:
    """Measure the law of samples against calls."""
    for family in families.split(","):
        require(family in FAMILIES, "families", family, ", ".join(FAMILIES))
    console = Console(stderr=True)
    real = digits()
    features, held_out = digit_features(real.train), digit_features(real.held_out)
    header: dict[str, object] = {"benchmark": "poisson_diffusion", "count": count, "level": LEVEL}
    header |= {"real_split": distances(held_out, features), "highlighted": HIGHLIGHTED, "machine": machine("cpu")}
    record = Record(name, header)
    if resume:
        record.resume()
    denoiser = md.Ladder.bundled("digits")[LEVEL]
    denoiser.net.to(memory_format=torch.channels_last)  # a third faster on two cores
    settings = Settings(denoiser, count)
    bench = Bench(record, pictures / str(count), resume or measure, features)
    console.print(f"real digits held out: {header['real_split']}")
    reference = settings.reference()
    console.print(f"{reference.label}, {reference.calls} calls: the longest run")
    sampled = bench.sampled(reference)
    if not bench.done(reference):
        bench.keep(reference, sampled, None)
    chosen = [setting for family in families.split(",") for setting in getattr(settings, family)()]
    for number, setting in enumerate(chosen, start=1):
        if bench.done(setting) or (measure and not (bench.pictures / setting.file).is_file()):
            continue
        entry = bench.keep(setting, bench.sampled(setting), sampled.features)
        console.print(
            f"{number} of {len(chosen)}: {setting.label}, {setting.calls} calls: {entry['kernel']:.4f} "
            f"[{entry['low']:.4f}, {entry['high']:.4f}], {entry['seconds']:.0f} s",
            highlight=False,
        )
    console.print(f"written {record.path}, {record.header['minutes']:.0f} minutes of sampling in all")
