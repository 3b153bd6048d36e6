"""Rounds and critical paths of parallel Picard: `python -m benchmarks.parallel`."""
