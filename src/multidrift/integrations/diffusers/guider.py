"""What stands in a modular pipeline for its guider during a run: a fresh one for every level."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from multidrift.basics.errors import MultidriftError
from multidrift.basics.numbers import Floats
from multidrift.drifts.guider import Guider
from multidrift.integrations.diffusers.rounds import STEP_BY_STEP


class Asked(Protocol):
    """The part of a run that a guider needs: the level and the grid's steps that the pipeline's round is about."""

    def asked(self) -> tuple[str, Floats]: ...
    @property
    def rounds(self) -> int: ...


class LevelGuider:
    """A guider in a pipeline's eyes: each level has one of its own, told of the method's steps, not of the rounds."""

    def __init__(self, own: Guider, loop: Asked) -> None:
        self.own, self.loop = own, loop
        self._of: dict[str, Guider] = {}

    @property
    def now(self) -> Guider:
        """The guider of the level that is evaluated."""
        level, _ = self.loop.asked()
        if level not in self._of:
            self._of[level] = self.own.new()
        return self._of[level]

    def __getattr__(self, name: str) -> object:
        return getattr(self.now, name)

    def __call__(self, data: object) -> object:
        """The guided prediction."""
        return self.now(data)  # type: ignore[arg-type]  # whatever prepare_inputs gave

    def set_state(self, step: int, num_inference_steps: int, timestep: Tensor) -> None:
        """The place of this round among the method's steps; raises where rows of one round are guided unlike."""
        del step, num_inference_steps
        _, steps = self.loop.asked()
        conditions = set()
        for place in {int(steps.max()), int(steps.min())}:
            self.now.set_state(step=place, num_inference_steps=self.loop.rounds, timestep=timestep)
            conditions.add(self.now.num_conditions)
        momentum = getattr(self.now, "momentum_buffer", None) is not None and len(steps) > 1
        if momentum or len(conditions) > 1:
            kind = type(self.own).__name__
            why = "has momentum" if momentum else "guides a part of the steps"
            raise MultidriftError(f"guider: {kind} {why}, and its rounds hold states of several times; {STEP_BY_STEP}")
