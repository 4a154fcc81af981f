"""A2: SGD and Adam."""
