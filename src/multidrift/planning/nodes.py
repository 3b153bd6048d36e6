"""Where LadderMultistep should call the top level of a ladder: a search on real runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from multidrift.basics.checks import checked
from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.numbers import Floats
from multidrift.basics.types import Paths, Seed, Size
from multidrift.drifts.ladder import Ladder
from multidrift.drifts.model import process_for
from multidrift.methods.ladder_multistep.nodes import CellNodes, default_nodes
from multidrift.methods.ladder_multistep.walk import LadderMultistep
from multidrift.planning.candidates import Candidate
from multidrift.planning.trial import Judge
from multidrift.processes.diffusion import Diffusion
from multidrift.processes.process import Process

_TRAINING, _VALIDATION = 1 << 46, 1 << 47  # seeds far from those that users take
_STEP = (0.4, 0.4, 0.25)  # of the first simplex, in first, last and straight
_TINY = 1e-30
_RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class FoundNodes:
    """What `md.search_nodes` found.

    - `method`: with the nodes that were best on the training paths, which may be those it had
    - `evaluations`: runs tried
    - `ratio`: the geometric mean over samples of its error by that of the method as it was, on noise that was not
      searched on, with a 95% interval over samples; below 1 the nodes found are better
    - `error`: mean squared distance per coordinate there
    - `converged`: False where the search ended before its result settled
    """

    method: LadderMultistep
    evaluations: int
    ratio: tuple[float, float, float]
    error: float
    converged: bool


@checked
def search_nodes(
    ladder: Ladder,
    method: LadderMultistep,
    process: Process | None = None,
    *,
    paths: Paths = 16,
    evaluations: Size = 30,
    validation: Paths = 32,
    reference_steps: Size | None = None,
    seed: Seed = 0,
) -> FoundNodes:
    """The nodes of a LadderMultistep with least error on `paths` paths, by so many `evaluations`, each a whole run.

    Nelder and Mead's search (scipy) over `CellNodes`, from those the method has, on one set of noises; it minimises the
    mean logarithm of the samples' errors, so that no sample which ends as another picture decides. Errors are distances
    to `reference_steps` of the top level by Multistep, by default 8 times the method's. `validation`: samples of other
    noise that the result is measured on. Raises MultidriftError on a method with a grid or times, on Langevin dynamics,
    and on fewer than 2 paths.
    """
    process = process_for(ladder, process)
    if not isinstance(process, Diffusion):
        raise MultidriftError(f"process: got {type(process).__name__}; it takes a Diffusion, for which nodes are made")
    require(
        method.grid is None and method.times is None, "method", method.grid or "times=", "one without grid or times"
    )
    fine = reference_steps or 8 * method.number_of_evaluations
    training, unseen = (
        Judge(ladder, process, "path", fine, (base + seed) % (1 << 63)) for base in (_TRAINING, _VALIDATION)
    )
    result = least_nodes(training, method, paths, evaluations)
    found = replace(method, nodes=result.nodes)
    ours, theirs = (_logs(unseen, one, validation) for one in (found, method))
    return FoundNodes(
        method=found,
        evaluations=result.evaluations,
        ratio=_ratio(ours - theirs),
        error=float(np.exp(ours).mean()),
        converged=result.converged,
    )


def least_nodes(judge: Judge, method: LadderMultistep, paths: int, evaluations: int) -> LeastNodes:
    """The nodes of least mean logarithm of the errors on a judge's first `paths` samples, or those that there were.

    - `judge`: of paths, of a Diffusion; `method`: without grid or times, from whose nodes the search goes out
    """
    assert isinstance(judge.process, Diffusion)
    nodes = method.nodes or default_nodes(judge.process, method.for_model(judge.ladder, judge.process).inner_nodes)
    return _minimise(lambda found: float(_logs(judge, replace(method, nodes=found), paths).mean()), nodes, evaluations)


def _logs(judge: Judge, method: LadderMultistep, count: int) -> Floats:
    """Logarithms of the errors of a judge's first samples, infinite where the run fails, float64 [count]."""
    errors = judge.measure(Candidate("", "ladder", method, 0.0), count).errors
    return np.full(count, np.inf) if errors is None else np.log(errors.double().cpu().numpy() + _TINY)


@dataclass(frozen=True)
class LeastNodes:
    """What a search of nodes ended with, after so many `evaluations`; `converged`: whether it had settled."""

    nodes: CellNodes
    evaluations: int
    converged: bool


def _minimise(error: Callable[[CellNodes], float], start: CellNodes, evaluations: int) -> LeastNodes:
    """Nelder and Mead's search from `start`, which it returns where nothing is better; what is no nodes is not run."""
    try:
        from scipy.optimize import minimize  # an optional extra
    except ImportError as missing:
        raise MultidriftError("a search of nodes needs scipy: pip install 'multidrift[eval]'") from missing

    def value(numbers: Floats) -> float:
        try:
            return error(CellNodes(*numbers.tolist()))
        except MultidriftError:
            return float("inf")

    middle = np.array([start.first, start.last, start.straight])
    simplex = np.vstack([middle, middle + np.diag(_STEP)])
    options = {"initial_simplex": simplex, "maxfev": evaluations, "xatol": 0.02, "fatol": 0.01}
    found = minimize(value, middle, method="Nelder-Mead", options=options)
    return LeastNodes(CellNodes(*found.x.tolist()), int(found.nfev), bool(found.success))


def _ratio(differences: Floats) -> tuple[float, float, float]:
    """The mean of paired differences of logarithms, as a ratio, with its 95% interval over samples."""
    drawn = np.random.default_rng(0).integers(len(differences), size=(_RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(np.exp(differences.mean())), float(np.exp(low)), float(np.exp(high))
