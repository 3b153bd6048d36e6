"""Many samples and many requests: what `generate` and `Sampler` cost, and whether anything is lost on the way."""
