"""What methods with random choices share: a plan, drawn before the run, that it follows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from multidrift.basics.numbers import Floats
from multidrift.drifts.model import Model
from multidrift.methods.method import GridMethod
from multidrift.processes.process import Process
from multidrift.runs.plan import Plan, counted_calls


@dataclass(frozen=True)
class DrawingMethod(GridMethod):
    """A method that draws: a run of it follows a plan, and has keys for choices that are made as it goes."""

    @abstractmethod
    def weight_table(self, model: Model, process: Process, times: Floats, seed: int, samples: Sequence[int]) -> Floats:
        """The weight of each difference of levels in each step, [1 or samples, increments, levels]."""

    @property
    @abstractmethod
    def draws_are_shared(self) -> bool:
        """Whether one draw of the random choices serves every sample."""

    @property
    @abstractmethod
    def luck_is_shared(self) -> bool:
        """Whether that one draw is one of many: then another `plan_seed` is another law of the samples of a run."""

    def planned_calls(self, weights: Floats, final: int) -> Floats:
        """Calls of each level per sample that a plan with these weights makes."""
        return counted_calls(weights, final)

    def plan_for(self, model: Model, process: Process, times: Floats, seed: int, samples: Sequence[int]) -> Plan:
        """The plan of a run of these samples along these times."""
        weights = self.weight_table(model, process, times, seed, samples)
        calls = self.planned_calls(weights, process.final_calls)
        own = None if self.draws_are_shared else tuple(samples)
        return self._planned(model, process, times, seed, weights, calls, own)
