"""A1: autograd operations."""
