"""What is simulated: schedules, grids, clocks and predictions."""
