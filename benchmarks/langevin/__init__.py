"""Bias against gradient calls: `python -m benchmarks.langevin`."""
