"""What a step costs beside its network call: ours, diffusers' own loop, and a pipeline with our loop."""
