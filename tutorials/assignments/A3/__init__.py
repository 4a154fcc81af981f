"""A3: the hybrid switch and SWATS."""
