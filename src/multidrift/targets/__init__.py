"""What is known beforehand: problems in closed form, and data sets."""
