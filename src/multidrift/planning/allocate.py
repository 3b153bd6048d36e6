"""A multilevel method for a budget or a target error, by a fixed rule: no search, no run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Positive, Steps
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import final_calls, process_for
from multidrift.methods.multilevel.draws import Draws
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.planning.calibration import Calibration
from multidrift.planning.rules import Rule, Setting, subsets
from multidrift.processes.process import Process
from multidrift.schedules.grids import Grid

_STEPS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # of which one is chosen


@dataclass(frozen=True, eq=False)
class Allocation:
    """A method that a rule chose, with what it predicts of it.

    - `seconds` of a sample, at the calibration's batch; `error`: mean squared distance per coordinate to the exact path
      of the top level for independent draws, to first order (evenly spread ones have less)
    """

    method: Multilevel
    seconds: float
    error: float


@checked
def allocate(
    ladder: Ladder,
    calibration: Calibration,
    process: Process | None = None,
    *,
    rule: Rule = "time",
    seconds: Positive | None = None,
    error: Positive | None = None,
    steps: Steps | None = None,
    levels: Sequence[str] | None = None,
    grid: Grid | None = None,
    draws: Draws = "systematic",
    force: bool = False,
) -> Allocation:
    """The multilevel method with the least predicted error for so many `seconds` a sample, or the cheapest for `error`.

    - `rule`: what probabilities are in proportion to (`Setting.preferences`); `error` is a mean squared distance
    - `steps`, `levels`: by default those that come out best, of 8 to 256 steps and all choices of up to four levels
      that end with the top one
    - `force`: use a calibration of something else, with a warning

    Raises MultidriftError on neither or both of `seconds` and `error`, on a budget that pays for no such method, an
    error that none reaches, and a calibration of something else.
    """
    require((seconds is None) != (error is None), "seconds", seconds, "a number, or None with error=")
    process = process_for(ladder, process)
    calibration.check(ladder, process, force=force)
    return best_allocation(
        ladder, calibration, process, rule=rule, seconds=seconds, error=error, steps=steps, levels=levels, grid=grid,
        draws=draws,
    )  # fmt: skip


def best_allocation(
    ladder: Ladder,
    calibration: Calibration,
    process: Process,
    *,
    rule: Rule,
    seconds: float | None = None,
    error: float | None = None,
    steps: int | None = None,
    levels: Sequence[str] | None = None,
    grid: Grid | None = None,
    draws: Draws,
) -> Allocation:
    """What `allocate` returns, of a calibration that was checked, or is used by force."""
    final = final_calls(ladder)
    lengths: Iterable[int] = _STEPS if steps is None else (steps,)
    there = [name for name in calibration.levels if name in ladder.with_gaussian()]  # it may have been of more
    choices = subsets(there, ladder.top) if levels is None else [tuple(ladder.choose(levels))]
    found: list[Allocation] = []
    for number in lengths:
        for names in choices:
            require(
                len(names) >= 2 and names[-1] == ladder.top, "levels", names, f"two and more, {ladder.top} the last"
            )
            times = Multilevel(number, grid, levels=names, probabilities=1.0).grid_for(process)
            setting = Setting(calibration, process, names, times)
            table = _table(setting, rule, seconds, error, draws)
            if table is not None:
                method = Multilevel(number, grid, levels=names, probabilities=table.tolist(), draws=draws)
                found.append(Allocation(method, setting.seconds(table, draws), setting.error(table)))
    if not found:
        least = calibration.cost(ladder.top) * final / calibration.batch
        what = f"more; one call of {ladder.top} takes {least:.3g}" if seconds is not None else "a larger error"
        raise MultidriftError(
            f"{'seconds' if seconds is not None else 'error'}: got {seconds if seconds is not None else error}; no "
            f"multilevel method of these levels and steps does with that: it takes {what}"
        )
    return min(found, key=lambda a: a.error if seconds is not None else a.seconds)


def _table(setting: Setting, rule: Rule, seconds: float | None, error: float | None, draws: Draws) -> Floats | None:
    """The rule's table for the budget or the error."""
    preferences = setting.preferences(rule)
    if seconds is not None:
        return setting.within(preferences, seconds, draws)
    assert error is not None
    return setting.reaching(preferences, error)
