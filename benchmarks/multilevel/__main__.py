"""`python -m benchmarks.multilevel`."""

import typer

from benchmarks.multilevel.measure import main

if __name__ == "__main__":
    typer.run(main)
