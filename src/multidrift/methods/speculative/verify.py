"""Keep a drafted step or correct it, so that what comes out has the top level's law exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multidrift.basics.numbers import aligned
from multidrift.methods.picard.front import Indices
from multidrift.runs.transitions import StepNoise


@dataclass(frozen=True)
class Verdict:
    """Of m drafted steps, each on its own: whether it was accepted, how likely that was, and its noise about m_q.

    `noise` [m, …] is ΔW with which the step's state is enter(x) + Δτ D_q + ΔW: the drafted state where it was
    accepted, the corrected one elsewhere.
    """

    accepted: Tensor
    probability: Tensor
    noise: Tensor


def verify(law: StepNoise, steps: Indices, shift: Tensor, noise: Tensor, uniforms: Tensor) -> Verdict:
    """Accept if U ≤ min(1, exp(−⟨Z, Δ⟩ − ‖Δ‖²/2)), else reflect Z: N(m_q, std²) comes out either way.

    - `shift` [m, …]: m_p − m_q = Δτ(D_p − D_q), float64; `noise`: ΔW of the draft, about m_p
    - Z and Δ are the two in units of the noise, with sums over all of a sample's coordinates in float64

    Z' = Z − 2⟨e, Z⟩e with e = Δ/‖Δ‖ is the reflection between the two means, which couples N(m_p, std²) and
    N(m_q, std²) so that they agree as often as they can: with probability 2Φ(−‖Δ‖/2). Source: De Bortoli et al. 2025,
    arXiv 2501.05370, Algorithm 3.
    """
    delta, z = law.whitened(shift, steps), law.whitened(noise, steps)
    along, size = (z * delta).sum(1), delta.square().sum(1)
    accepted = uniforms.log() <= -along - 0.5 * size
    sure = torch.from_numpy(~law.noisy[steps]).to(accepted.device)
    alike = (shift == 0).flatten(1).all(1)
    accepted = torch.where(sure, alike, accepted)
    back = torch.where(size > 0, 2.0 * along / torch.where(size > 0, size, 1.0), 0.0)
    factor = torch.where(accepted, 1.0, -back)
    probability = torch.where(sure, alike.double(), torch.special.erfc(size.sqrt() / np.sqrt(8.0)))
    return Verdict(accepted, probability, noise + (aligned(factor, shift) * shift).to(noise))
