"""Colours that colour-blind readers can tell apart: Paul Tol's bright scheme."""

BLUE, RED, GREEN, YELLOW, CYAN, PURPLE = "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"
