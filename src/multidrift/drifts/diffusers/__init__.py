"""Networks of diffusers as denoisers: one adapter a family, and what is read of pipelines and their folders."""
