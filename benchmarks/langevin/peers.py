"""Langevin samplers of diffrax and blackjax, on the same targets as ours.

    pip install ".[peers]"

A peer's gradient calls are counted where the gradient runs, by a callback in short runs of a single chain. What the
count shows: diffrax's ALIGN keeps its last gradient and costs one call a step and one at the start, QUICSORT and ShARK
cost two a step, ShOULD two and one at the start; blackjax's SGLD with the full gradient is Langevin Monte Carlo, and
MALA adds an acceptance step to it, which needs the log-density too.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import blackjax
import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from numpy.typing import NDArray

JaxFunction: TypeAlias = Callable[[jax.Array], jax.Array]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class JaxTarget:
    """A target as jax sees it: the log-density [n] and its gradient [n, d] at x [n, d]."""

    log_density: JaxFunction
    score: JaxFunction


@dataclass(frozen=True)
class Peer:
    """One sampler of another library: "diffrax" or "blackjax", for "overdamped" or "underdamped" dynamics."""

    label: str
    library: str
    process: str
    name: str


PEERS = (
    Peer("diffrax ShARK", "diffrax", "overdamped", "ShARK"),
    Peer("blackjax SGLD, full gradient", "blackjax", "overdamped", "sgld"),
    Peer("blackjax MALA", "blackjax", "overdamped", "mala"),
    Peer("diffrax ALIGN", "diffrax", "underdamped", "ALIGN"),
    Peer("diffrax ShARK", "diffrax", "underdamped", "ShARK"),
    Peer("diffrax ShOULD", "diffrax", "underdamped", "ShOULD"),
    Peer("diffrax QUICSORT", "diffrax", "underdamped", "QUICSORT"),
)


@dataclass(frozen=True)
class PeerRun:
    """Positions [saved, n, d], seconds (compiled before), and the acceptance rate if any."""

    trajectory: Floats
    seconds: float
    acceptance: float | None


@dataclass(frozen=True)
class Setting:
    """What a peer is run for: `steps` over `horizon`, keeping every `every`-th state, which ends with the last."""

    horizon: float
    steps: int
    every: int
    friction: float
    seed: int


@functools.cache
def calls_of(peer: Peer) -> tuple[int, int]:
    """Gradient calls (at the start, in every step), counted as they happen."""
    counted = [0]

    def count() -> None:
        counted[0] += 1

    def score(x: jax.Array) -> jax.Array:
        jax.debug.callback(count)
        return -x

    numbers = []
    for steps in (2, 4):
        counted[0] = 0
        run = _compiled(peer, JaxTarget(lambda x: -0.5 * (x**2).sum(axis=1), score), Setting(1.0, steps, 1, 2.0, 0))
        jax.block_until_ready(run(*_initial(np.zeros((1, 1)), 0)))
        jax.effects_barrier()
        numbers.append(counted[0])
    each = (numbers[1] - numbers[0]) // 2
    return numbers[0] - 2 * each, each


def run_peer(peer: Peer, target: JaxTarget, start: Floats, setting: Setting) -> PeerRun:
    """Run the peer from `start` [n, d], with velocities from their law N(0, 1)."""
    run = _compiled(peer, target, setting)
    arguments = _initial(start, setting.seed)
    compiled = run.lower(*arguments).compile()
    began = time.perf_counter()
    trajectory, acceptance = jax.block_until_ready(compiled(*arguments))
    seconds = time.perf_counter() - began
    rate = float(acceptance) if peer.name == "mala" else None
    return PeerRun(np.asarray(trajectory, dtype=np.float64), seconds, rate)


def _initial(start: Floats, seed: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    velocity_key, key = jax.random.split(jax.random.key(seed))
    x = jnp.asarray(start, dtype=jnp.float32)
    return x, jax.random.normal(velocity_key, x.shape, x.dtype), key


def _compiled(peer: Peer, target: JaxTarget, setting: Setting) -> jax.stages.Wrapped:
    """The peer as one compiled function of start, velocities and key; gives positions and the acceptance rate."""
    simulate = _diffrax if peer.library == "diffrax" else _blackjax
    return jax.jit(lambda x, v, key: simulate(peer, target, setting, x, v, key))


def _diffrax(
    peer: Peer, target: JaxTarget, setting: Setting, x: jax.Array, v: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    solver = getattr(diffrax, peer.name)()
    area = getattr(solver, "minimal_levy_area", None)
    needs_time_time = area is diffrax.AbstractSpaceTimeTimeLevyArea
    levy = diffrax.SpaceTimeTimeLevyArea if needs_time_time else diffrax.SpaceTimeLevyArea
    path = diffrax.UnsafeBrownianPath(x.shape, key, levy_area=levy)
    h = setting.horizon / setting.steps
    if peer.process == "overdamped":
        drift = diffrax.ODETerm(lambda _, y, __: target.score(y))
        noise = diffrax.ControlTerm(lambda *_: lineax.DiagonalLinearOperator(jnp.full(x.shape, math.sqrt(2))), path)
        state = x
    else:
        drift = diffrax.UnderdampedLangevinDriftTerm(setting.friction, 1.0, lambda y, _: -target.score(y))
        noise = diffrax.UnderdampedLangevinDiffusionTerm(setting.friction, 1.0, path)
        state = (x, v)
    # Times are exact multiples of h, so that saving falls on ends of steps.
    times = jnp.asarray(h * np.arange(setting.steps + 1), dtype=jnp.float32)
    found = diffrax.diffeqsolve(
        diffrax.MultiTerm(drift, noise), solver, times[0], times[-1], None, state,
        stepsize_controller=diffrax.StepTo(times), max_steps=setting.steps + 1, adjoint=diffrax.ForwardMode(),
        saveat=diffrax.SaveAt(ts=times[setting.every :: setting.every]),
    )  # fmt: skip
    positions = found.ys if peer.process == "overdamped" else found.ys[0]
    return positions, jnp.ones(())


def _blackjax(
    peer: Peer, target: JaxTarget, setting: Setting, x: jax.Array, _: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    h = setting.horizon / setting.steps
    if peer.name == "mala":
        # blackjax differentiates the log-density; this one hands it the gradient we count.
        density = jax.custom_vjp(lambda y: target.log_density(y[None])[0])
        density.defvjp(
            lambda y: (target.log_density(y[None])[0], target.score(y[None])[0]), lambda score, g: (g * score,)
        )
        sampler = blackjax.mala(density, h)
        state = jax.vmap(sampler.init)(x)

        def one(state: object, key: jax.Array) -> tuple[object, tuple[jax.Array, jax.Array]]:
            state, info = jax.vmap(sampler.step)(jax.random.split(key, len(x)), state)
            return state, (state.position, info.acceptance_rate.mean())
    else:
        sampler = blackjax.sgld(lambda y, _: target.score(y))
        state = x

        def one(state: object, key: jax.Array) -> tuple[object, tuple[jax.Array, jax.Array]]:
            state = sampler.step(key, state, None, h)
            return state, (state, jnp.ones(()))

    def to_next_save(state: object, keys: jax.Array) -> tuple[object, tuple[jax.Array, jax.Array]]:
        state, (positions, rates) = jax.lax.scan(one, state, keys)
        return state, (positions[-1], rates.mean())

    keys = jax.random.split(key, (setting.steps // setting.every, setting.every))
    _, (positions, rates) = jax.lax.scan(to_next_save, state, keys)
    return positions, rates.mean()
