"""What is evaluated: denoisers, ladders, closed-form targets and the one timer."""
