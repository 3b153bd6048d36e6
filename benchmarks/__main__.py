"""Run every benchmark, one after the other: about eight hours on two cores."""

from importlib.util import find_spec

import typer

from benchmarks import grids, ladder, noise, plans, theorem
from benchmarks.frontier import measure as frontier
from benchmarks.frontier import timing as frontier_timing
from benchmarks.langevin import measure as langevin
from benchmarks.multilevel import measure as multilevel
from benchmarks.overhead import measure as overhead
from benchmarks.parallel import measure as parallel
from benchmarks.poisson import measure as poisson_diffusion
from benchmarks.poisson import order as poisson_order
from benchmarks.poisson import substeps
from benchmarks.scale import measure as scale


def main() -> None:
    """Run all benchmarks with their standard settings; diffrax and blackjax where the extra `peers` is installed."""
    noise.main()
    overhead.main()
    grids.main()
    ladder.main()
    theorem.main()
    multilevel.main()
    frontier.main()
    frontier_timing.main()
    plans.main()
    substeps.main()
    langevin.main(peers=all(find_spec(name) for name in ("jax", "diffrax", "blackjax")))
    poisson_order.main()
    poisson_diffusion.main()
    parallel.main()
    scale.main()


if __name__ == "__main__":
    typer.run(main)
