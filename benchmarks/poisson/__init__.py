"""The law of samples against calls: `python -m benchmarks.poisson`."""
