"""How many steps are drafted at once: one number, or one that follows how many drafts were accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multidrift.methods.picard.front import Indices, Mask

_GROWTH = 2.0  # an adaptive window is as many times what was accepted between two rejections,
_MEMORY = 0.7  # each round counting for so much of the next


class Windows:
    """How many steps each sample drafts: one number, or adapted to what was accepted in its last rounds."""

    def __init__(self, window: int | Sequence[int], count: int) -> None:
        self.least, self.most = (window, window) if isinstance(window, int) else window
        self.sizes = np.full(count, self.most)
        self._accepted, self._rejected = np.full(count, float(self.most)), np.ones(count)

    def adapt(self, reached: Indices, drafted: Indices, accepted: Mask) -> None:
        """After a round: how far each sample came of what it drafted, and whether its last step was accepted."""
        if self.least == self.most:
            return
        going = drafted > 0
        self._accepted = np.where(going, _MEMORY * self._accepted + reached - ~accepted, self._accepted)
        self._rejected = np.where(going, _MEMORY * self._rejected + ~accepted, self._rejected)
        wanted = np.ceil(_GROWTH * self._accepted / np.maximum(self._rejected, 1e-9))
        self.sizes = np.clip(wanted, self.least, self.most).astype(np.intp)
