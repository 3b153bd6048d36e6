"""Rounds, calls and critical path of speculative sampling."""
