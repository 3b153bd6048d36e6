"""Where ladders come from."""
