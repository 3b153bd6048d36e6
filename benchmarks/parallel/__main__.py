"""`python -m benchmarks.parallel`."""

import typer

from benchmarks.parallel.measure import main

if __name__ == "__main__":
    typer.run(main)
