"""What parallel runs of a ladder are expected to cost in time, whichever method makes them."""

from __future__ import annotations

from multidrift.basics.checks import checked
from multidrift.basics.types import Steps
from multidrift.drifts.ladder import Ladder
from multidrift.methods.picard.forecast import Forecast
from multidrift.methods.picard.forecast import forecasts as of_picard
from multidrift.methods.speculative.forecast import forecasts as of_speculative


@checked
def forecasts(ladder: Ladder, steps: Steps) -> list[Forecast]:
    """Every choice of `Picard`'s coarse level and of `Speculative`'s drafter, the shortest critical path first.

    Rounds are assumed, as measured on the bundled ladder; those of Picard find Euler's path to an error of 1e-3 of the
    sample variance, those of Speculative draw from its law exactly and need noise. `Speculative.forecast` measures its
    rounds on the ladder at hand. Raises MultidriftError on a ladder without measured costs.
    """
    return sorted(of_picard(ladder, steps) + of_speculative(ladder, steps), key=lambda choice: choice.critical_path)
