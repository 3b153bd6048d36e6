"""One run: calls counted and guarded, the one update rule, the plan and the result."""
