"""What everything stands on: errors, files, arrays."""
