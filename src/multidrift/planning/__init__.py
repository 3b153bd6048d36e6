"""What is best: is a ladder worth it, and which plan for a budget."""
