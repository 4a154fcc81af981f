"""Figures for lessons: graphs, digits, curves and the geometry of a step."""
