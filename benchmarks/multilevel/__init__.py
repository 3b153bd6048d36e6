"""Error against seconds on the bundled ladder: `python -m benchmarks.multilevel`."""
