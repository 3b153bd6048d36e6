"""The fixtures of the tests, for the tests of the benchmarks."""

from tests.conftest import ddpm, mixture

__all__ = ["ddpm", "mixture"]
