"""Run every benchmark, one after the other: about two and a half hours on two cores."""

import typer

from benchmarks import ladder, multilevel, noise, poisson_diffusion


def main() -> None:
    """Run all benchmarks with their standard settings."""
    noise.main()
    ladder.main()
    multilevel.main()
    poisson_diffusion.main()


if __name__ == "__main__":
    typer.run(main)
