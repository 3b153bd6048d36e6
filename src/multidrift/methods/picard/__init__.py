"""Parallel Picard iteration."""
