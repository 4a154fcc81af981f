"""A5: a small study of your own."""
