"""`python -m benchmarks.overhead`."""

import typer

from benchmarks.overhead.measure import main

if __name__ == "__main__":
    typer.run(main)
