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
    decided = method.for_model(ladder, process)
    nodes = method.nodes or default_nodes(process, decided.inner_nodes)
    fine = reference_steps or 8 * method.number_of_evaluations
    training, unseen = (
        Judge(ladder, process, "path", fine, (base + seed) % (1 << 63)) for base in (_TRAINING, _VALIDATION)
    )

    def logs(judge: Judge, found: CellNodes, count: int) -> Floats:
        measured = judge.measure(Candidate("", "ladder", replace(method, nodes=found), 0.0), count)
        return (
            np.full(count, np.inf)
            if measured.errors is None
            else np.log(measured.errors.double().cpu().numpy() + _TINY)
        )

    result = _minimise(lambda found: float(logs(training, found, paths).mean()), nodes, evaluations)
    ours, theirs = (logs(unseen, found, validation) for found in (result.nodes, nodes))
    return FoundNodes(
        method=replace(method, nodes=result.nodes),
        evaluations=result.evaluations,
        ratio=_ratio(ours - theirs),
        error=float(np.exp(ours).mean()),
        converged=result.converged,
    )


@dataclass(frozen=True)
class _Minimum:
    nodes: CellNodes
    evaluations: int
    converged: bool


def _minimise(error: Callable[[CellNodes], float], start: CellNodes, evaluations: int) -> _Minimum:
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
    return _Minimum(CellNodes(*found.x.tolist()), int(found.nfev), bool(found.success))


def _ratio(differences: Floats) -> tuple[float, float, float]:
    """The mean of paired differences of logarithms, as a ratio, with its 95% interval over samples."""
    drawn = np.random.default_rng(0).integers(len(differences), size=(_RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(np.exp(differences.mean())), float(np.exp(low)), float(np.exp(high))
