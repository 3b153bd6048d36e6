"""Samples as ArviZ knows them: R-hat, effective sample sizes and trace plots come from there."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Index
from multidrift.runs.result import Result

if TYPE_CHECKING:
    from arviz import InferenceData


@dataclass(frozen=True)
class Diagnostics:
    """What ArviZ finds in the chains, one number a coordinate, in the order of a flattened sample.

    - `r_hat`: rank-normalised split R-hat; above 1.01 the chains do not agree yet
    - `effective`: bulk effective sample size over all chains
    """

    r_hat: Floats
    effective: Floats


def available() -> bool:
    """Whether ArviZ is installed."""
    return importlib.util.find_spec("arviz") is not None


@checked
def to_inference_data(result: Result, names: Sequence[str] | None = None, burn_in: Index = 1) -> InferenceData:
    """The trajectory of a run as an ArviZ InferenceData: every sample of the batch is a chain.

    - `result`: of `md.sample(…, save=k)`, whose `trajectory` [saved, count, …] becomes draws [count, saved, …]
    - `names`: one a coordinate, each then a variable of its own (chain, draw), for samples of shape (d,); by default
      one variable `x` (chain, draw, …)
    - `burn_in`: saved states left out at the beginning; 1 leaves out the start, which no step has moved yet

    The times of the draws and the calls are kept as attributes. Raises MultidriftError where the run kept no
    trajectory, where nothing is left after the burn-in, on wrong names, and where ArviZ is not installed.
    """
    trajectory = result.trajectory
    require(trajectory is not None, "result", "a run without a trajectory", "one of md.sample(…, save=k)")
    assert trajectory is not None
    saved, shape = len(trajectory), tuple(trajectory.shape[2:])
    require(burn_in < saved, "burn_in", burn_in, f"an integer from 0 to {saved - 1}, below the {saved} saved states")
    listed = None if names is None else list(names)
    if listed is not None:
        fits = len(shape) == 1 and len(listed) == shape[0] and len(set(listed)) == len(listed)
        require(fits, "names", names, f"distinct names, one for each coordinate of a sample of shape {shape}")
    if not available():
        raise MultidriftError("arviz is not installed; pip install 'multidrift[arviz]'")
    draws = trajectory[burn_in:].detach().double().cpu().numpy().swapaxes(0, 1)  # [chain, draw, …]
    variables = {"x": draws} if listed is None else {name: draws[..., i] for i, name in enumerate(listed)}
    times = np.asarray(result.trajectory_times)[burn_in:]
    calls = {f"calls_{name}": number for name, number in result.calls.items()}
    attributes = {"inference_library": "multidrift", "times": times, **calls}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces its own next version at import
        warnings.filterwarnings("ignore", message="More chains")  # batches of many chains are the rule here
        import arviz

        return arviz.from_dict(posterior=variables, posterior_attrs=attributes)


@checked
def diagnose(result: Result, burn_in: Index = 1) -> Diagnostics:
    """R-hat and effective sample size of every coordinate; arguments and errors as for `to_inference_data`.

    ArviZ needs two chains or more, and four draws or more, to tell anything; with fewer it says nan.
    """
    data = to_inference_data(result, burn_in=burn_in)
    import arviz

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a coordinate that does not move divides by zero, and shows as nan
        found = (np.atleast_1d(np.asarray(f(data)["x"])).ravel() for f in (arviz.rhat, arviz.ess))
        return Diagnostics(*found)
