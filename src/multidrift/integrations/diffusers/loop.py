"""One run of a pipeline whose denoise loop is a method's walk.

The pipeline's loop stays the outer one. Each of its rounds evaluates what the walk asks for: the time that it iterates
on, the states that its scheduler gave it and the level behind its network are the question's, so that conditioning and
guidance are the pipeline's, whatever they are. The first round, whose states only the pipeline knows, starts the walk.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats
from multidrift.drifts.denoiser import Denoiser
from multidrift.drifts.ladder import Ladder
from multidrift.integrations.diffusers.calls import Calls
from multidrift.integrations.diffusers.levels import Question, walked_model
from multidrift.integrations.diffusers.network import Call
from multidrift.integrations.diffusers.regrid import holds_grid, on_times, reaching
from multidrift.integrations.diffusers.rounds import STEP_BY_STEP
from multidrift.integrations.diffusers.settings import Settings
from multidrift.integrations.diffusers.turns import Turns
from multidrift.methods.picard.predictor_corrector import PredictorCorrector
from multidrift.prepare import Arguments
from multidrift.processes.diffusion import Diffusion
from multidrift.runs.result import State
from multidrift.sampling import own_states
from multidrift.schedules.continuous import Flow

Callback = Callable[[object, int, object, dict[str, Tensor]], dict[str, Tensor] | None]
Legacy = Callable[[int, object, Tensor], object]


class Loop:
    """The run; a pipeline reaches it through its scheduler (`set_times`, `iterate`, `step`) and its network (`called`).

    `state`: the newest state of the walk; `news`: whether it has come since the last look at it. `now`: the time of the
    pipeline's round, nan where it has several, None before the first. `answered`: rounds so far.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.schedule = settings, settings.like.schedule
        self.times: Floats = np.empty(0)
        self.timesteps: Tensor = torch.empty(0)
        self.state: State | None = None
        self.news = False
        self.now: float | None = None
        self._before: State | None = None
        self._question: Question | None = None
        self._turns: Turns[Question, Tensor] | None = None
        self._offered: Tensor | None = None
        self._twice = self._moved = False
        self.answered = self._first = 0
        self._count = 0
        self._dtype = torch.float32
        self._calls = Calls(settings)

    # What the pipeline's scheduler passes on --------------------------------------------------------

    def set_times(self, timesteps: Tensor, shift: float | None) -> Tensor:
        """The grid: the method's, where it names one, else the pipeline's own times; as a tensor like theirs."""
        if shift is not None and isinstance(self.schedule, Flow):
            self.schedule = replace(self.schedule, shift=shift)
        method = self.settings.method
        given = holds_grid(method)
        if given.grid is not None or given.times is not None:
            self.times = method.grid_for(Diffusion(self.schedule, self.settings.eta))
            self.timesteps = torch.from_numpy(self.times).to(timesteps.device, torch.float32)
            return self.timesteps
        self.timesteps = torch.unique_consecutive(timesteps)
        self.times = self.timesteps.double().cpu().numpy()
        self.schedule = reaching(self.schedule, self.times)
        return self.timesteps

    def iterate(self, first: int) -> Iterator[Tensor]:
        """The times of what the walk asks for, to its end or until the pipeline stops answering (an interrupt)."""
        self._first, self.now = first, float(self.times[first])
        yield self.timesteps[first]
        before = 0
        while self.answered > before and self._question is not None:
            before, times = self.answered, self._question.times
            self.now = float(times[0]) if len(times) == 1 else math.nan
            yield self._time(self._question)

    @property
    def ahead(self) -> Tensor | None:
        """The time of what the walk asks for, none before its first question and after its last."""
        return None if self._question is None else self._time(self._question)

    @property
    def unmoved(self) -> Tensor | None:
        """The states, where the last round ended no step: the next one asks another level about the same."""
        still = self._question is not None and not self._moved and self._is_state(self._question)
        return self._offered if still else None

    def _time(self, question: Question) -> Tensor:
        """One time of a question, as the pipeline's own would be."""
        t = float(question.times.max())
        whole = self.timesteps.is_floating_point() or t == round(t)
        dtype = self.timesteps.dtype if whole else torch.float32
        return torch.full((), t, dtype=dtype, device=self.timesteps.device)

    def step(self, output: Tensor, sample: Tensor) -> Tensor:
        """Answer the walk with a guided prediction; returns the states of its next question, or the sample."""
        self.answered += 1
        if self._turns is None:
            self._twice = self.settings.doubles and _is_twice(sample)
        if self._twice:
            output, sample = output[: len(output) // 2], sample[: len(sample) // 2]
        if output.ndim == sample.ndim and output.shape[1] == 2 * sample.shape[1]:
            output = output[:, : sample.shape[1]]  # a learned variance lies behind
        before = self.state
        if self._turns is None:
            question = self._begin(output.float(), sample)
        else:
            self._honour(sample)
            question = self._turns.answer(output.float())
        self._question, self._moved = question, self.state is not before
        self._offered = self._result() if question is None else question.x
        return torch.cat((self._offered, self._offered)) if self._twice else self._offered

    def report(
        self, callback: Callback, pipe: object, number: int, timestep: object, tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The user's callback, where a step has come to its end; what it changes goes back to the pipeline."""
        del number
        if not self.news or self.state is None:
            return {}
        self.news = False
        now = self._offered if self._question is None else self.state.x
        assert now is not None
        seen = {**tensors, "latents": now} if "latents" in tensors else dict(tensors)
        changed = dict(callback(pipe, self.state.step - 1, timestep, seen) or {})
        latents = changed.get("latents", now)
        stopped = bool(getattr(pipe, "interrupt", False))
        if latents is not now and self._question is not None and not stopped:
            self._check_change(self._question)
        if latents is not now or stopped:
            changed["latents"] = latents.to(self._dtype) if stopped else latents
        else:
            changed.pop("latents", None)
        return changed

    def tell(self, callback: Legacy, every: int, number: int, timestep: object, latents: Tensor) -> None:
        """A callback of the old kind, where `every` steps have come to their end."""
        del number, latents
        if self.news and self.state is not None:
            self.news = False
            if (self.state.step - 1) % every == 0:
                callback(self.state.step - 1, timestep, self.state.x)

    @property
    def at_many_times(self) -> bool:
        """Whether the pipeline now holds states of other than all samples at one time."""
        return self._question is not None and not self._question.whole

    def close(self) -> None:
        """End the walk where it is."""
        if self._turns is not None:
            self._turns.close()

    def asked(self) -> tuple[str, Floats]:
        """The level of the pipeline's round, and the places of its times among the steps, counted from 0."""
        question = self._question
        if question is None:
            return self._probed, np.zeros(1)
        places = np.interp(-question.times, -self.times[self._first :], np.arange(self.rounds))
        return question.level, np.floor(places + 1e-6)

    @property
    def rounds(self) -> int:
        """Evaluations of one network at every step."""
        return len(self.times) - self._first

    # The walk ---------------------------------------------------------------------------------------

    def _begin(self, output: Tensor, sample: Tensor) -> Question | None:
        """Start the walk at the pipeline's own states; its first question may be what was just evaluated."""
        start = sample.detach().to(torch.float32, copy=True)
        self._count, self._dtype = len(start), sample.dtype
        run, device = self.settings, sample.device

        def walk(ask: Callable[[Question], Tensor]) -> None:
            model = walked_model(run.networks, run.ladder, ask, self._like())
            grad, inference = torch.set_grad_enabled(mode=False), torch.inference_mode(mode=inferring)
            with grad, inference, stream:
                for state in self._states(model, start):
                    self._before, self.state, self.news = self.state, state, True

        on_gpu = device.type == "cuda"
        stream = torch.cuda.stream(torch.cuda.current_stream(device)) if on_gpu else contextlib.nullcontext()
        inferring = torch.is_inference_mode_enabled()
        self._turns = Turns(walk)
        question = self._turns.start()
        if question is not None and self._is_probe(question, start):
            question = self._turns.answer(output)
        return question

    def _states(self, model: Denoiser | Ladder, start: Tensor) -> Iterator[State]:
        run = self.settings
        process = Diffusion(self.schedule, run.eta)
        random = process.noisy or isinstance(run.method, PredictorCorrector)
        seed = run.seed(len(start)) if random else 0
        method = on_times(run.method, self.times[self._first :])
        return own_states(
            Arguments(model=model, method=method, process=process, start=start, seed=seed, plan_seed=run.plan_seed)
        )

    def _like(self) -> Denoiser:
        """The pipeline's network on this call's schedule: flows shift by resolution."""
        like = self.settings.like
        return Denoiser(like.net, self.schedule, like.predicts, like.clip, like.name, modules=())

    def _is_probe(self, question: Question, start: Tensor) -> bool:
        """Whether the walk asks first for what the pipeline's first round evaluated."""
        same = question.whole and question.x.data_ptr() == start.data_ptr()
        return same and question.level == self._probed and float(question.times[0]) == self.times[self._first]

    @cached_property
    def _probed(self) -> str:
        """The level that the first round evaluates: the cheapest of the method's, which most walks begin with."""
        model = walked_model(self.settings.networks, self.settings.ladder, _unasked, self._like())
        chosen = self.settings.method.for_model(model).levels_of(model)
        return next(name for name in self.settings.networks if name in chosen)

    def _honour(self, sample: Tensor) -> None:
        """Take over states that the pipeline or its callback changed (inpainting, changed latents)."""
        question = self._question
        assert question is not None
        if sample is self._offered or self._twice:
            return
        same = sample.shape == question.x.shape
        if same and sample.dtype != question.x.dtype and torch.equal(sample, question.x.to(sample.dtype)):
            return  # a pipeline that casts its latents after every step has not changed them
        self._check_change(question)
        question.x.copy_(sample)

    def _check_change(self, question: Question) -> None:
        """Raise where the states of a question are no one state of the walk, which goes on from it."""
        if self._is_state(question):
            return
        raise MultidriftError(
            "pipe: its latents were changed between steps, by itself or by callback_on_step_end; "
            f"{type(self.settings.method).__name__} has no one state there for a change to go into; {STEP_BY_STEP}"
        )

    def _is_state(self, question: Question) -> bool:
        """Whether a question is about the one state of the walk."""
        return question.whole and (self.state is None or question.x.data_ptr() == self.state.x.data_ptr())

    def _result(self) -> Tensor:
        """The sample, at the noise level at which the pipeline's own scheduler ends."""
        assert self.state is not None
        data, kept = self.state.x, self.settings.final_signal
        if kept < 1 and self.settings.eta == 0 and self._before is not None:
            t = float(self.times[-1])
            alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
            noise = (self._before.x - alpha * data) / sigma
            data = kept**0.5 * data + (1.0 - kept) ** 0.5 * noise
        return data.to(self._dtype)

    # What the pipeline's network passes on ----------------------------------------------------------

    def called(self, network: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """A call of the pipeline's network, as the question has it."""
        call = Call(network, args, kwargs)
        if self._question is None:
            return self._calls.first(call, self._probed, float(self.times[self._first]))
        return self._calls.asked(call, self._question, self._count)


def _unasked(question: Question) -> Tensor:
    raise AssertionError(question)


def _is_twice(sample: Tensor) -> bool:
    """Whether the second half of the states is the first once more."""
    return len(sample) % 2 == 0 and torch.equal(sample[: len(sample) // 2], sample[len(sample) // 2 :])
