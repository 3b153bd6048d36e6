"""`python -m benchmarks.langevin`."""

import typer

from benchmarks.langevin.measure import main

if __name__ == "__main__":
    typer.run(main)
