"""Benchmarks: each prints what it measures and writes it, with the machine and the versions, as JSON."""
