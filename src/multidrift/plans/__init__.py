"""When a level fires, and with what weight: numbers only."""
