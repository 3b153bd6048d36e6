"""Multilevel Euler-Maruyama."""
