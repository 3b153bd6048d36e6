"""Run every benchmark, one after the other: about eight hours on two cores."""

from importlib.util import find_spec

import typer

from benchmarks import ladder, langevin, multilevel, noise, parallel, poisson_diffusion, substeps


def main() -> None:
    """Run all benchmarks with their standard settings; diffrax and blackjax where the extra `peers` is installed."""
    noise.main()
    ladder.main()
    multilevel.main()
    substeps.main()
    langevin.main(peers=all(find_spec(name) for name in ("jax", "diffrax", "blackjax")))
    poisson_diffusion.main()
    parallel.main()


if __name__ == "__main__":
    typer.run(main)
