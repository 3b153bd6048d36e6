"""The Poisson midpoint method."""
