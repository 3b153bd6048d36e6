"""Drifts of all levels along paths of the top one: what LadderMultistep's coefficients are fitted to."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from multidrift.basics.errors import require
from multidrift.drifts.covariance import DriftCovariance
from multidrift.drifts.drift import Drift
from multidrift.drifts.evaluation_mode import evaluation_mode
from multidrift.drifts.model import Model
from multidrift.methods.multistep import History
from multidrift.noise.counter import Keys, Stream
from multidrift.noise.path import BrownianPath
from multidrift.processes.process import Process
from multidrift.runs import update


def measure_covariance(
    model: Model, process: Process, levels: Mapping[str, Drift], paths: int, seed: int, steps: int
) -> DriftCovariance:
    """The covariance of the drifts of `levels`, the top one last, along `paths` paths of it.

    Each path takes `steps` calls of every level, second order without noise. Raises MultidriftError on fewer than 2
    paths or 8 steps, a process that is no diffusion, and a model that does not know its sample's shape.
    """
    require(type(paths) is int and paths >= 2, "paths", paths, "an integer of at least 2")
    require(type(steps) is int and steps >= 8, "steps", steps, "an integer of at least 8")
    require(
        process.model_schedule is not None, "process", type(process).__name__, "a Diffusion; others have closed forms"
    )
    shape, top = model.shape, list(levels)[-1]
    require(shape is not None, "model", model, "one that knows its sample's shape")
    assert shape is not None
    device = levels[top].device or torch.device("cpu")
    seeds, samples = (seed,) * paths, range(paths)
    times = process.nodes(steps, "blend", integer=False)
    x = Keys.of(seeds, samples, Stream.START, device).normals([0], shape, torch.float32)[0]
    x = x * process.start_std(float(times[0]))
    keys = Keys.of(seeds, samples, Stream.NOISE, device)
    path = BrownianPath(process, keys, shape, x.dtype, process.place(times)) if process.noisy else None
    found: dict[str, list[torch.Tensor]] = {name: [] for name in levels}
    history = History(process, 1 if process.noisy else 2)
    with torch.no_grad(), evaluation_mode(levels.values()):
        for interval in [*process.intervals(times[:-1], times[1:]).each(x), None]:
            t = float(times[len(found[top])])
            for name, level in levels.items():
                found[name].append(level.predict(x, t, process.drift_is, {}))
            if interval is not None:
                ahead = history.extrapolate(found[top][-1], interval)
                noise = 0.0 if path is None else path.increment(interval.low, interval.high) * interval.std
                x = interval.leave(update.increment(interval.enter(x), interval.dtau, ahead, noise))
    values = torch.cat([torch.stack(drifts).flatten(1).double() for drifts in found.values()])
    places = process.place(times)
    places[0] = max(places[0], 2.0 * places[1] - places[2])  # a start from pure noise lies at λ = −∞
    return DriftCovariance(
        levels=tuple(levels),
        ladder={name: level.fingerprint for name, level in levels.items()},
        process=process.to_dict(),
        places=tuple(places.tolist()),
        products=(values @ values.T / values.shape[1]).cpu().numpy(),
        paths=paths,
    )
