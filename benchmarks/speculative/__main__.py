"""`python -m benchmarks.speculative`."""

import typer

from benchmarks.speculative.measure import main

if __name__ == "__main__":
    typer.run(main)
