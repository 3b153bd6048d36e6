"""`python -m benchmarks.poisson`."""

import typer

from benchmarks.poisson.measure import main

if __name__ == "__main__":
    typer.run(main)
