"""`sample` and `steps`: from a model and a method to samples."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Annotated

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from multidrift.basics.checks import checked, described
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.foreign import users_code
from multidrift.basics.types import Bytes, Count, Dimensions, Indices, Seed, Seeds, Takes
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.drifts.model import AnyModel
from multidrift.methods.method import Method
from multidrift.prepare import Arguments, prepare
from multidrift.processes.process import Process
from multidrift.runs.evaluator import Evaluate
from multidrift.runs.plan import Plan
from multidrift.runs.result import Result, Speculation, State
from multidrift.runs.run import Run
from multidrift.runs.transitions import Transition, Transitions

_METHOD = Takes("a method, such as md.Euler(steps=50), or a plan")
_QUIET_SECONDS = 2.0  # shorter runs show no progress bar


@checked
def sample(
    model: AnyModel,
    method: Annotated[Method | Plan, _METHOD],
    process: Process | None = None,
    count: Count | None = None,
    seed: Seeds = 0,
    first: Indices = 0,
    start: Tensor | None = None,
    shape: Dimensions | None = None,
    plan_seed: Seed = 0,
    conditioning: Mapping[str, object] | None = None,
    batch_size: Count | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    save: Count | None = None,
    callback: Callable[[State], bool | None] | None = None,
    progress: bool | None = None,
    grad: bool = False,
    velocities: Tensor | None = None,
    memory_limit: Bytes | None = None,
    save_transitions: bool = False,
    evaluate: Evaluate | None = None,
) -> Result:
    """Draw samples of `process` with `method`, or as a plan of one says.

    - `model`: a Denoiser, a Ladder (one-network methods run its top level), or for Langevin dynamics the gradient of a
      log-density (a plain function drift(x, **conditioning), or `md.potential(log_density)`)
    - `process`: by default `Diffusion(model.schedule)`, the reverse SDE, or of flows the ODE, `eta=0`; a model without
      a schedule needs one
    - `count`: number of samples, by default that of `start` or of the seeds, else 1
    - `seed`: one number for the whole batch (sample i depends on (seed, first + i) alone), or one per sample (sample i
      is then (seed[i], 0), and has the draws of number first + i)
    - `first`: number of the first sample; with a seed per sample also one number each: sample i is then
      (seed[i], first[i]), as in a run of its own
    - `start` [count, …]: the state at the method's first time; by default drawn. `shape`: one sample's shape, where
      the model does not know it
    - `plan_seed`: seed of the method's own random choices
    - `conditioning`: passed to the network by name. A tensor or numpy array with first dimension `count`, also within
      nested dicts, lists and tuples, has a row a sample and is cut with the batch; one of no dimension or of first
      dimension 1 is passed as it is, and so is any one as `md.shared(tensor)`; any other first dimension raises.
      All else (numbers, strings, lists of them, None) is passed as it is
    - `batch_size`: rows of one network call; at an equal batch size samples are equal bit for bit at any `count`
    - `dtype`: of the state, float32 or float64; a network computes in that of its parameters
    - `save=k`: keep the start and every k-th state as `trajectory`
    - `callback(state)`: called after every step; stops the run cleanly when it returns True
    - `progress`: a bar on stderr; by default where it is a terminal and the run takes over two seconds
    - `grad`: keep the graph, to differentiate through the run
    - `velocities` [count, …]: at the start of an underdamped run; by default drawn from their equilibrium
    - `memory_limit`: bytes of tensors that one network call may hold, instead of all rows at once; ∞ only measures
      (`result.peak_memory`)
    - `save_transitions`: keep every step's state, mean, standard deviation and log-density (`result.transitions`,
      `result.log_prob`), of methods whose steps are Gaussian
    - `evaluate`: who evaluates the rows of a call: `md.distributed.spread()` spreads them over the ranks of torchrun;
      `calls`, `batches` and `peak_rows` of the result are then those of this rank

    Raises MultidriftError, before the first network call where possible, on arguments that do not fit each other, and
    on predictions that are not finite and chains that explode (naming step and sample). Such an error has what was
    sampled until then as `.result`. Gives an md.RunWarning, at the end, where states of a diffusion have grown far
    beyond the scale of their marginals.
    """
    walked, run = prepare(
        Arguments(
            model=model, method=method, process=process, count=count, seed=seed, first=first, start=start,
            velocities=velocities, shape=shape, plan_seed=plan_seed, conditioning=conditioning, batch_size=batch_size,
            memory_limit=memory_limit, device=device, dtype=dtype, grad=grad,
            evaluate=evaluate,
        )
    )  # fmt: skip
    if save_transitions:
        kind = f"{type(run.process).__name__}{'' if run.process.noisy else ' without noise'}"
        good = walked.steps_are_gaussian and run.process.noisy
        takes = "Euler, Multistep, Multilevel or Speculative, on a process with noise: their steps are Gaussian"
        require(good, "save_transitions", f"{type(walked).__name__} on {kind}", takes)
    recorder = _Recorder(run, save, save_transitions=save_transitions)
    try:
        with contextlib.closing(_walk(walked, run)) as states, _bar(type(walked).__name__, progress) as tick:
            for state in states:
                tick(state)
                recorder.keep(state)
                if callback is not None and _stops(callback, state):
                    break
        run.read_guards()
    except (MultidriftError, KeyboardInterrupt) as error:
        error.result = recorder.result()  # type: ignore[union-attr]  # of a KeyboardInterrupt, too
        raise
    return recorder.result()


def _stops(callback: Callable[[State], bool | None], state: State) -> bool:
    """Whether the user's callback wants the run to stop; it is given tensors of its own."""
    with users_code("callback", f"step {state.step} (t = {state.t:g})"):
        answer = callback(state.copy())
    given: object = answer  # whatever it returned
    one = isinstance(given, bool | np.bool_ | None) or (isinstance(given, Tensor) and given.numel() == 1)
    require(one, "callback", f"{described(answer)} from it", "True, to stop, False or None")
    return bool(answer)


class _Recorder:
    """What of a run goes into its result."""

    def __init__(self, run: Run, save: int | None, *, save_transitions: bool) -> None:
        self.run, self.save, self.save_transitions = run, save, save_transitions
        self.transitions: list[Transition] = []
        self.started = time.perf_counter()
        self.finished = False
        self.samples = run.process.position(run.start)
        self.velocities = run.process.velocity(run.start)
        self.saved = [(float(run.times[0]), self.samples, self.velocities)]
        self.residuals: list[float] = []
        self.converged = True
        self.speculation: Speculation | None = None

    def keep(self, state: State) -> None:
        """Remember the newest state, and every `save`-th for the trajectory."""
        self.samples, self.velocities = state.x, state.velocities
        self.finished = state.step == state.total
        if state.residual is not None:
            self.residuals.append(state.residual)
        self.converged &= state.converged
        self.speculation = state.speculation or self.speculation
        if self.save_transitions:
            self.transitions += state.transitions
        now = (state.step, state.t, state.x, state.velocities)
        points = (now,) if state.settled is None else state.settled
        if self.save is not None:
            self.saved += [(t, x, v) for n, t, x, v in points if n % self.save == 0 or n == state.total]

    def result(self) -> Result:
        """The result as of now."""
        if self.samples.is_cuda:
            torch.cuda.synchronize(self.samples.device)
        evaluator, kept = self.run.evaluator, self.save is not None
        times, states, velocities = zip(*self.saved, strict=True)
        return Result(
            samples=self.samples,
            calls=evaluator.calls,
            batches=dict(evaluator.batches),
            rounds=evaluator.rounds[self.run.levels[-1]],
            seconds=time.perf_counter() - self.started,
            finished=self.finished,
            plan=self.run.plan,
            trajectory=torch.stack(states) if kept else None,
            trajectory_times=times if kept else None,
            velocities=self.velocities,
            trajectory_velocities=torch.stack(velocities) if kept and self.velocities is not None else None,
            residuals=tuple(self.residuals),
            converged=self.converged,
            speculation=self.speculation,
            transitions=Transitions.of(self.run.process, self.run.times, self.transitions)
            if self.transitions
            else None,
            peak_rows=evaluator.peak_rows,
            peak_memory=evaluator.peak_memory,
        )


@checked
def steps(
    model: AnyModel,
    method: Annotated[Method | Plan, _METHOD],
    process: Process | None = None,
    count: Count | None = None,
    seed: Seeds = 0,
    first: Indices = 0,
    start: Tensor | None = None,
    shape: Dimensions | None = None,
    plan_seed: Seed = 0,
    conditioning: Mapping[str, object] | None = None,
    batch_size: Count | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    grad: bool = False,
    velocities: Tensor | None = None,
    memory_limit: Bytes | None = None,
    evaluate: Evaluate | None = None,
) -> Generator[State]:
    """The loop itself: yields a frozen State after every step; closing the generator stops cleanly.

    Arguments as in `sample`; they are checked before this returns.
    """
    return _copies(
        own_states(
            Arguments(
                model=model, method=method, process=process, count=count, seed=seed, first=first, start=start,
                velocities=velocities, shape=shape, plan_seed=plan_seed, conditioning=conditioning,
                batch_size=batch_size, memory_limit=memory_limit, device=device, dtype=dtype, grad=grad,
                evaluate=evaluate,
            )
        )
    )  # fmt: skip


def own_states(given: Arguments) -> Generator[State]:
    """The loop with the walk's own tensors: what is written into a state goes on from there."""
    walked, run = prepare(given)
    return _to_the_end(walked, run)


def _to_the_end(method: Method, run: Run) -> Generator[State]:
    yield from _walk(method, run)
    run.read_guards()


def _copies(states: Generator[State]) -> Generator[State]:
    with contextlib.closing(states):
        for state in states:
            yield state.copy()


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
