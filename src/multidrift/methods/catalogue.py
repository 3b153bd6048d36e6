"""All methods, and how one is read back from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError
from multidrift.methods.euler import Euler
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.methods.method import Method
from multidrift.methods.multilevel.walk import Multilevel
from multidrift.methods.multistep import Multistep
from multidrift.methods.picard.predictor_corrector import PredictorCorrector
from multidrift.methods.picard.walk import Picard
from multidrift.methods.poisson.walk import PoissonMidpoint
from multidrift.methods.speculative.walk import Speculative

METHODS: tuple[type[Method], ...] = (
    *(Euler, Multistep, Multilevel, LadderMultistep, PoissonMidpoint, Picard, PredictorCorrector, Speculative),
)


@checked
def method_from_dict(values: Mapping[str, object]) -> Method:
    """The method that `Method.to_dict` described; unknown methods and settings raise."""
    kinds = {kind.__name__: kind for kind in METHODS}
    kind = kinds.get(str(values.get("method")))
    if kind is None:
        raise MultidriftError(f"method: got {values.get('method')!r}; it takes {', '.join(kinds)}")
    settings = {name: value for name, value in values.items() if name != "method"}
    unknown = sorted(set(settings) - {f.name for f in fields(kind)})
    if unknown:
        raise MultidriftError(f"method: {kind.__name__} has no setting {', '.join(unknown)}")
    try:
        return kind(**settings)  # checked by the method itself
    except TypeError as error:  # a setting without a default is missing
        raise MultidriftError(f"method: {kind.__name__}: {error}") from error
