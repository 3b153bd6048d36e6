"""Triangular Anderson acceleration of a fixed-point iteration over time points."""

from __future__ import annotations

import torch
from torch import Tensor

from multidrift.basics.numbers import aligned
from multidrift.methods.picard.front import Mask
from multidrift.methods.picard.points import Points

_MEMORY = 2  # iterates that are combined, as in the code of ParaTAA; more of them gained nothing
_RIDGE = 1e-3  # of the Gram matrix's own trace, so that it does not depend on the scale of the data


class Anderson:
    """Combines the last iterates so that the residuals before each time point are least.

    With R = F(x) − x, and ΔX and ΔR the last differences of iterates and residuals, a point t becomes

        x_t + R_t − (ΔX_t + ΔR_t) g_t,      g_t = (Σ_{s ≤ t} ⟨ΔR_s, ΔR_s⟩ + λ)⁻¹ Σ_{s ≤ t} ⟨ΔR_s, R_s⟩

    where s runs over the open points from the noise end to t: what lies behind a point has no say in it, as it has
    none in F. The safeguard: points that this round settled, the first open one among them, keep the plain update.
    Source: ParaTAA (Tang et al. 2024), Algorithm 1; there λ is 1e-3 whatever the scale.
    """

    def __init__(self, points: Points) -> None:
        self.points = points
        self._last: tuple[Tensor, Tensor, Mask] | None = None
        self._differences: list[tuple[Tensor, Tensor]] = []  # (ΔX, ΔR) [N, count, …] each, the newest last

    def accelerate(self, before: Tensor, opened: Mask) -> None:
        """Move the states on, which are F(before), where points that were `opened` in this round are still open."""
        points = self.points
        states, residual = before[1:], points.x[1:] - before[1:]
        if self._last is not None:
            last_states, last_residual, last_opened = self._last
            both = points.mask(opened & last_opened, states)
            difference = tuple(
                torch.where(both, now - then, 0.0) for now, then in ((states, last_states), (residual, last_residual))
            )
            self._differences = [*self._differences, (difference[0], difference[1])][-(_MEMORY - 1) :]
        self._last = (states, residual, opened)
        going = opened & points.front.open()
        if not self._differences or not going.any():
            return
        moves = torch.stack([dx + dr for dx, dr in self._differences])  # [m, N, count, …]
        known = points.mask(going, residual)
        changes = torch.where(known, torch.stack([dr for _, dr in self._differences]), 0.0).flatten(3).double()
        wanted = torch.where(known, residual, 0.0).flatten(2).double()
        gram = torch.einsum("intd,jntd->ntij", changes, changes).cumsum(0)
        right = torch.einsum("intd,ntd->nti", changes, wanted).cumsum(0)
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
        ridge = (_RIDGE * trace + torch.finfo(torch.float64).tiny)[..., None, None]
        g = torch.linalg.solve(gram + ridge * torch.eye(len(moves), dtype=gram.dtype, device=gram.device), right)
        share = aligned(g.to(moves).movedim(-1, 0).contiguous(), moves)
        points.x[1:] = torch.where(known, points.x[1:] - (share * moves).sum(0), points.x[1:])
