"""The same method with another number of steps, or on times that a pipeline gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from multidrift.basics.errors import require
from multidrift.basics.numbers import Floats
from multidrift.methods.method import GridMethod, Method
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.picard.predictor_corrector import PredictorCorrector
from multidrift.schedules.continuous import Flow
from multidrift.schedules.schedule import Schedule

AnyMethod = TypeVar("AnyMethod", bound=GridMethod)


def holds_grid(method: Method) -> GridMethod:
    """The method whose settings are the grid: itself, or a part of it."""
    own = method.predictor if isinstance(method, PredictorCorrector) else method
    assert isinstance(own, GridMethod)  # all others of the package are
    return own


def with_steps(method: Method, number: int) -> Method:
    """The method with so many steps; the calls of a Multilevel method follow in proportion."""
    if number == method.number_of_evaluations:
        return method
    own = method.number_of_evaluations
    own_times = holds_grid(method).times
    require(own_times is None, "num_inference_steps", number, f"{own}, the number of the method's own times=")
    if isinstance(method, PredictorCorrector):
        return replace(method, predictor=replace(method.predictor, steps=number))
    if isinstance(method, Multilevel) and method.calls is not None:
        return replace(method, steps=number, calls=_in_proportion(method, number))
    return replace(holds_grid(method), steps=number)


def on_times(method: Method, times: Floats) -> Method:
    """The method on these times; the calls of a Multilevel method follow in proportion."""
    require(len(times) >= 2, "strength", f"one that leaves {len(times)} of the steps", "a larger one, or more steps")
    if isinstance(method, PredictorCorrector):
        return replace(method, predictor=_placed(method.predictor, times))
    if isinstance(method, Multilevel) and method.calls is not None:
        return replace(_placed(method, times), calls=_in_proportion(method, len(times)))
    return _placed(holds_grid(method), times)


def _placed(method: AnyMethod, times: Floats) -> AnyMethod:
    return replace(method, steps=None, grid=None, times=tuple(times.tolist()), integer=False)


def _in_proportion(method: Multilevel, number: int) -> tuple[float, ...]:
    """The calls of each level with another number of evaluations, the final one of the top level always among them."""
    assert method.calls is not None
    share = (number - 1) / (method.number_of_evaluations - 1)
    *lower, top = method.calls
    return (*(share * calls for calls in lower), 1.0 + share * (top - 1.0))


def reaching(schedule: Schedule, times: Floats) -> Schedule:
    """The schedule with an end that these times do not go below."""
    if isinstance(schedule, Flow) and times[-1] < schedule.t_min:
        return replace(schedule, smallest=float(times[-1]))
    return schedule
