"""`sample` and `steps`: from a model and a method to samples."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.plans.plan import Plan
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.errors import require
from multidrift.samplers.method import Method, Model
from multidrift.samplers.prepare import prepare
from multidrift.samplers.result import Result, State
from multidrift.samplers.run import Run

_QUIET_SECONDS = 2.0  # shorter runs show no progress bar


def sample(
    model: Model,
    method: Method | Plan,
    process: Diffusion | None = None,
    count: int | None = None,
    seed: int | Sequence[int] = 0,
    first: int = 0,
    start: Tensor | None = None,
    shape: Sequence[int] | None = None,
    plan_seed: int = 0,
    conditioning: Mapping[str, object] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    save: int | None = None,
    callback: Callable[[State], bool | None] | None = None,
    progress: bool | None = None,
    grad: bool = False,
) -> Result:
    """Draw samples of `process` with `method`, or as a plan of one says.

    - `model`: a Denoiser, or a Ladder (one-network methods run its top level)
    - `process`: by default `Diffusion(model.schedule)`, the reverse SDE with η = 1
    - `count`: number of samples, by default that of `start` or of the seeds, else 1
    - `seed`: one number for the whole batch (sample i depends on (seed, first + i) alone), or one per sample
    - `start` [count, …]: the state at the method's first time; by default drawn. `shape`: one sample's shape, where
      the model does not know it
    - `plan_seed`: seed of the method's own random choices
    - `conditioning`: passed to the network; tensors with `count` entries are cut with the batch
    - `batch_size`: rows of one network call; at an equal batch size samples are equal bit for bit at any `count`
    - `dtype`: of the state, float32 or float64; a network computes in that of its parameters
    - `save=k`: keep the start and every k-th state as `trajectory`
    - `callback(state)`: called after every step; stops the run cleanly when it returns True
    - `progress`: a bar on stderr; by default where it is a terminal and the run takes over two seconds
    - `grad`: keep the graph, to differentiate through the run

    Raises MultidriftError, before the first network call where possible, on arguments that do not fit each other, and
    on predictions that are not finite (naming step and sample).
    """
    require(
        save is None or (isinstance(save, int) and save >= 1),
        "save",
        save,
        "None or a number of steps between saved states",
    )
    walked, run = prepare(
        model, method, process, count, seed, first, start, shape, plan_seed,
        conditioning, batch_size, device, dtype, grad,
    )  # fmt: skip
    started = time.perf_counter()
    saved = [(float(run.times[0]), run.start)]
    samples, finished = run.start, True
    with contextlib.closing(_walk(walked, run)) as states, _bar(type(walked).__name__, progress) as tick:
        for state in states:
            samples = state.x
            tick(state)
            if save is not None and (state.step % save == 0 or state.step == state.total):
                saved.append((state.t, state.x))
            if callback is not None and bool(callback(state)):
                finished = state.step == state.total
                break
    run.guard.read()
    if samples.is_cuda:
        torch.cuda.synchronize(samples.device)
    return Result(
        samples=samples,
        calls=run.evaluator.calls,
        batches=dict(run.evaluator.batches),
        rounds=run.evaluator.rounds[run.levels[-1]],
        seconds=time.perf_counter() - started,
        finished=finished,
        plan=run.plan,
        trajectory=torch.stack([x for _, x in saved]) if save is not None else None,
        trajectory_times=tuple(t for t, _ in saved) if save is not None else None,
    )


def steps(
    model: Model,
    method: Method | Plan,
    process: Diffusion | None = None,
    count: int | None = None,
    seed: int | Sequence[int] = 0,
    first: int = 0,
    start: Tensor | None = None,
    shape: Sequence[int] | None = None,
    plan_seed: int = 0,
    conditioning: Mapping[str, object] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    grad: bool = False,
) -> Generator[State]:
    """The loop itself: yields a frozen State after every step; closing the generator stops cleanly.

    Arguments as in `sample`; they are checked before this returns.
    """
    walked, run = prepare(
        model, method, process, count, seed, first, start, shape, plan_seed,
        conditioning, batch_size, device, dtype, grad,
    )  # fmt: skip
    return _walk(walked, run)


def _walk(method: Method, run: Run) -> Generator[State]:
    with evaluation_mode(run.evaluator.levels.values()):
        yield from method.walk(run)


@contextlib.contextmanager
def _bar(title: str, progress: bool | None) -> Iterator[Callable[[State], None]]:
    """A progress bar on stderr that appears once a run has taken two seconds."""
    wanted = sys.stderr.isatty() if progress is None else progress
    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(title)
    started = time.perf_counter()

    def tick(state: State) -> None:
        if not wanted:
            return
        if not bar.live.is_started and time.perf_counter() - started > _QUIET_SECONDS:
            bar.start()
        bar.update(task, total=state.total, completed=state.step)

    try:
        yield tick
    finally:
        if bar.live.is_started:
            bar.stop()
