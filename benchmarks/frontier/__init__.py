"""Error against seconds over all methods, ours and peers: `python -m benchmarks.frontier`."""
