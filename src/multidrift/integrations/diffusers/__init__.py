"""Pipelines of diffusers with the denoise loop of any method."""

from multidrift.integrations.diffusers.accelerated import Accelerated, accelerate

__all__ = ["Accelerated", "accelerate"]
