"""A5: a small study of one's own."""
