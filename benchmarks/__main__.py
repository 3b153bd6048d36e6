"""Run every benchmark, one after the other: about an hour and a half on two cores."""

import typer

from benchmarks import ladder, multilevel, noise, parallel


def main() -> None:
    """Run all benchmarks with their standard settings."""
    noise.main()
    ladder.main()
    multilevel.main()
    parallel.main()


if __name__ == "__main__":
    typer.run(main)
