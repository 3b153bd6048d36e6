"""The one update rule: every method, sequential or parallel, goes through this function."""

from __future__ import annotations

from torch import Tensor


def increment(z: Tensor, dtau: float | Tensor, drift: Tensor, dw: float | Tensor) -> Tensor:
    """Z + Δτ·D + ΔW: one exact step of dz = D dτ + dW(v) while D is held (z, D and ΔW of one shape)."""
    return z + dtau * drift + dw
