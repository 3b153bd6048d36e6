"""The pipeline's calls of its network, made as the walk asks: of another level, on some rows, at other times."""

from __future__ import annotations

from collections.abc import Callable

import torch

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats
from multidrift.integrations.diffusers.levels import Question
from multidrift.integrations.diffusers.network import Call, time_map
from multidrift.integrations.diffusers.rounds import STEP_BY_STEP
from multidrift.integrations.diffusers.settings import Settings


class Calls:
    """Calls of one run, and the units in which the pipeline passes times, as its first call has shown them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._seen: tuple[float, float] | None = None
        self._map: Callable[[Floats], Floats] | None = None

    def first(self, call: Call, level: str, time: float) -> object:
        """A call of the round that begins the run, which only the pipeline knows, at one `time` of its grid."""
        if self._seen is None:  # reading it waits for the device: once, and not for each branch of a guidance
            self._seen = (call.time(), time)
        return self._run(call, level)

    def asked(self, call: Call, question: Question, count: int) -> object:
        """A call of a later round, of which the question may take some of `count` samples, or several times."""
        if not question.whole:
            self._check_alone(call, question)
            call.cut(question.rows, count)
        if len(question.times) > 1:
            call.at_times(self._units(call, question.times))
        return self._run(call, question.level)

    def _check_alone(self, call: Call, question: Question) -> None:
        """Raise where some rows, or rows of many times, are not all that the network is passed or guided by."""
        why = self.settings.one_time if len(question.times) > 1 else None
        if call.x.shape[1:] != question.x.shape[1:]:
            why = "passes more than the states to its network"
        if why is not None:
            name = type(self.settings.method).__name__
            raise MultidriftError(
                f"pipe: {why}, and rounds of {name} hold some samples or several times; {STEP_BY_STEP}"
            )

    def _units(self, call: Call, times: Floats) -> Floats:
        """Times in the units in which the pipeline passes them to its network."""
        if self._map is None:
            assert self._seen is not None
            self._map = time_map(*self._seen, self.settings.training_steps, call.time_scale)
        return self._map(times)

    def _run(self, call: Call, level: str) -> object:
        """The call made of the network of a level; of the top one, of whichever of the pipeline's own was called."""
        network = call.network if level == list(self.settings.networks)[-1] else self.settings.networks[level]
        try:
            return call.run(network)
        except torch.OutOfMemoryError as error:
            message = (
                f"level {level}: out of memory on {len(call.x)} rows at once; it takes fewer prompts or images a call"
            )
            raise MultidriftError(f"{message}, or of a parallel method a smaller window= ({error})") from error
