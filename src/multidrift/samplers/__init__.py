"""How it is put together: the one update rule and one file a method."""
