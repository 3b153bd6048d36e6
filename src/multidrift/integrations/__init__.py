"""Thin adapters to other libraries."""

from multidrift.integrations import arviz, diffusers

__all__ = ["arviz", "diffusers"]
