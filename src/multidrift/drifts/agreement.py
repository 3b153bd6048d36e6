"""Whether the levels of a ladder belong together: each is called once, and what it says compared with the top one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats, aligned
from multidrift.drifts.conditioning import check_conditioning, cut_conditioning
from multidrift.drifts.drift import Drift
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.schedules.schedule import Schedule

# Where the signal is weak all levels of a ladder see nearly the same noise (the smallest of the bundled digits ladder
# is 3% and 9% away from the largest at these places), while a wrong `predicts` is 25% away or more.
_LARGEST_MISMATCH = 0.2
_WEAK_SIGNAL = -1.0  # λ
PLACES = ("start", "weak signal", "end")  # where levels are asked


def check_scales(
    levels: Mapping[str, Drift],
    schedule: Schedule,
    shape: tuple[int, ...],
    conditioning: Mapping[str, object] | None,
) -> None:
    """Raise, naming the level, where a prediction of the noise has another scale than the last level's."""
    weak = float(np.clip(schedule.time(_WEAK_SIGNAL), schedule.t_min, schedule.t_max))
    times = np.array([schedule.t_max, weak, schedule.t_min])
    given = _whole(conditioning, len(times))
    seen = {name: _noise(level, schedule, times, shape, given) for name, level in levels.items()}
    *_, top = levels
    for name, noise in seen.items():
        for place in (0, 1):
            away = float((noise[place] - seen[top][place]).norm() / seen[top][place].norm())
            if away > _LARGEST_MISMATCH:
                raise MultidriftError(
                    f"level {name}: at t = {times[place]:g} its prediction is {away:.0%} away from {top}'s; "
                    f"a ladder takes levels of one scale (is predicts={levels[name].settings[0]!r} right?)"
                )


def check_gradients(levels: Sequence[Drift], shape: tuple[int, ...], conditioning: Mapping[str, object] | None) -> None:
    """Of drifts of Langevin dynamics nothing is known but that they are finite and of the right shape."""
    given = _whole(conditioning, 2)
    for level in levels:
        x = torch.zeros((2, *shape), device=level.device or "cpu")
        with torch.no_grad(), evaluation_mode([level]):
            good = bool(torch.isfinite(level.predict(x, 0.0, "score", given)).all())
        require(good, f"level {level.name}", "values that are not finite at x = 0", "finite gradients there")


def _noise(
    level: Drift, schedule: Schedule, times: Floats, shape: tuple[int, ...], conditioning: Mapping[str, object]
) -> Tensor:
    """What the level takes for the noise when shown pure noise at some times."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn((len(times), *shape), generator=generator).to(level.device or "cpu")
    x = normal * aligned(torch.from_numpy(schedule.sigma(times)).to(normal), normal)
    with torch.no_grad(), evaluation_mode([level]):
        noise = level.predict(x, times, "epsilon", conditioning)
    good = bool(torch.isfinite(noise).all())
    require(good, f"level {level.name}", "an output that is not finite", f"finite ones at t = {times.tolist()}")
    return noise


def _whole(conditioning: Mapping[str, object] | None, count: int) -> dict[str, object]:
    """The conditioning of all of so many samples."""
    return cut_conditioning(check_conditioning(conditioning, count), count, torch.arange(count))
