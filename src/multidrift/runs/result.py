"""What a run gives back: the state after each step, and the result at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from multidrift.basics.checks import checked
from multidrift.basics.errors import keeping
from multidrift.basics.numbers import Floats
from multidrift.basics.types import PathLike, Size
from multidrift.runs.pictures import image_grid, save_image, to_pixels
from multidrift.runs.plan import Plan
from multidrift.runs.transitions import Transition, Transitions


@dataclass(frozen=True)
class Speculation:
    """What speculative sampling did at each of N steps of each sample.

    - `rounds` [count]: rounds that each sample took, the final call not among them; `reached` [count]: steps done
    - `accepted` [N, count]: whether the draft was taken as it was; `probability` [N, count]: how likely that was,
      2Φ(−‖Δ‖/2) where each is verified on its own. Only steps that were reached count
    """

    rounds: NDArray[np.intp]
    reached: NDArray[np.intp]
    accepted: NDArray[np.bool_]
    probability: Floats

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which steps of which sample were reached, [N, count]."""
        return np.arange(len(self.accepted))[:, None] < self.reached

    @property
    def acceptance(self) -> float:
        """The share of the steps reached whose draft was accepted."""
        return float(self.accepted[self.done].mean())

    @property
    def predicted(self) -> float:
        """The same as the differences of the drifts predict it: the mean of 2Φ(−‖Δ‖/2)."""
        return float(self.probability[self.done].mean())


@dataclass(frozen=True)
class State:
    """Where a run is after a step.

    - `step` of `total` evaluations are done; `t` is the time of `x` [count, …] (0 after the last)
    - `prediction`: the data as predicted in this step (Langevin: x); `calls`: calls of each level so far, per sample
    - `velocities` [count, …]: beside x, where the process has them

    Of parallel methods a state comes after each round, and x is still being iterated on:

    - `residual`: the largest change of the round over its scale, in the unit of `tolerance`; `converged`: False where
      time points were given up on before their change fell to the tolerance
    - `settled`: (number, t, x, velocities) of each time point that has become final in this round
    - `speculation`: of speculative sampling, what was accepted so far
    - `transitions`: the steps that this state ends, of methods whose steps are Gaussian
    """

    step: int
    total: int
    t: float
    x: Tensor
    prediction: Tensor
    calls: Mapping[str, float]
    velocities: Tensor | None = None
    residual: float | None = None
    converged: bool = True
    settled: Sequence[tuple[int, float, Tensor, Tensor | None]] | None = None
    speculation: Speculation | None = None
    transitions: Sequence[Transition] = ()

    def copy(self) -> State:
        """The same with tensors of its own, for hands that may change them."""

        def own(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.clone()

        settled = self.settled and tuple((n, t, x.clone(), own(v)) for n, t, x, v in self.settled)
        velocities, calls = own(self.velocities), dict(self.calls)
        return replace(
            self,
            x=self.x.clone(),
            prediction=self.prediction.clone(),
            velocities=velocities,
            calls=calls,
            settled=settled,
        )


@dataclass(frozen=True)
class Result:
    """Samples and what they cost.

    - `samples` [count, …]; sample i depends on (seed, first + i) alone
    - `calls`: rows passed to each level over count; `batches`: times each level was invoked
    - `rounds`: evaluations of the top level one after another; `seconds`: wall time of the run
    - `plan`: the plan that was followed, None where the method draws nothing; `finished`: False where a callback
      stopped the run
    - `trajectory` [saved, count, …] at `trajectory_times` where `save=` asked for it
    - `velocities` [count, …], where the process has them, and `trajectory_velocities`: beside samples and `trajectory`
    - `residuals`: of each round of a parallel method, its largest change in the unit of `tolerance`; `converged`: False
      where rounds ran out before the changes fell to the tolerance
    - `speculation`: of speculative sampling, its rounds, and what was accepted against what was predicted
    - `transitions`: means, standard deviations and log-densities of all steps where `save_transitions=` asked for them
    - `peak_rows`: the largest number of rows in one invocation of a network; `peak_memory`: bytes of the tensors that
      the largest invocation held at once, on top of the states of the run, where `memory_limit=` had them measured
    """

    samples: Tensor
    calls: Mapping[str, float]
    batches: Mapping[str, int]
    rounds: int
    seconds: float
    finished: bool = True
    plan: Plan | None = None
    trajectory: Tensor | None = None
    trajectory_times: tuple[float, ...] | None = None
    velocities: Tensor | None = None
    trajectory_velocities: Tensor | None = None
    residuals: tuple[float, ...] = ()
    converged: bool = True
    speculation: Speculation | None = None
    transitions: Transitions | None = None
    peak_rows: int = 0
    peak_memory: int | None = None

    @property
    def log_prob(self) -> Tensor | None:
        """The log-density of each sample's whole path given its start, [count], float64; None without `transitions`."""
        return None if self.transitions is None else self.transitions.log_prob.sum(0)

    def images(self) -> list[Image.Image]:
        """The samples as pictures: data in [−1, 1], shape [count, 1 or 3, height, width]."""
        return [Image.fromarray(array) for array in to_pixels(self.samples)]

    @checked
    def save(self, path: PathLike, columns: Size | None = None) -> None:
        """Write a picture of all samples in a grid; the file appears whole or not at all.

        Raises MultidriftError, with this result as its `.result`, where that cannot be.
        """
        with keeping(self):
            save_image(image_grid(to_pixels(self.samples), columns), Path(path))
