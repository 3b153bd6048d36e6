"""Run every benchmark, one after the other: about an hour on two cores."""

import typer

from benchmarks import ladder, multilevel, noise


def main() -> None:
    """Run all benchmarks with their standard settings."""
    noise.main()
    ladder.main()
    multilevel.main()


if __name__ == "__main__":
    typer.run(main)
