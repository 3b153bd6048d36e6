"""Ladder multistep."""
