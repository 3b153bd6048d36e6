"""Run every benchmark, one after the other: about three hours on two cores."""

import typer

from benchmarks import ladder, multilevel, noise, parallel, poisson_diffusion


def main() -> None:
    """Run all benchmarks with their standard settings."""
    noise.main()
    ladder.main()
    multilevel.main()
    parallel.main()
    poisson_diffusion.main()


if __name__ == "__main__":
    typer.run(main)
