"""`python -m benchmarks.frontier`."""

import typer

from benchmarks.frontier.measure import main

if __name__ == "__main__":
    typer.run(main)
