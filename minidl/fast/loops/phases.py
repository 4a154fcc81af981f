"""A plane, with its padding, split into phases: so a pooling reads one place of all its windows as one line.

At stride (sh, sw) there are sh * sw phases: the pixels at every sh-th line and every sw-th column, from each of the
first ones on. Windows are sh lines and sw columns apart, so pixel (a, b) of all windows is in one phase, and there the
windows are neighbours: window (oh, ow) at oh * columns + ow from phase_start(a, b). Between the last window of a line
and the first of the next are places of no window; what is computed there is ignored. A convolution splits planes by
columns only, at stride (1, sw): see windows.py.
"""

from __future__ import annotations

import numpy as np

from minidl.fast.loops.compiler import part
from minidl.fast.loops.words import copy

MANY = 12  # windows of a plane from which this pays; fewer are scanned one after another


@part
def phase_size(size, stride, padding):
    """(lines, columns) of each phase of a plane of this size."""
    (h, w), (sh, sw), (ph, pw) = size, stride, padding
    return (h + 2 * ph + sh - 1) // sh, (w + 2 * pw + sw - 1) // sw


@part
def phase_start(a, b, stride, size):
    """The index in the phases, of this size, from which on pixel (a, b) of the windows lies."""
    (sh, sw), (lines, columns) = stride, size
    return ((a % sh * sw + b % sw) * lines + a // sh) * columns + b // sw


@part
def phase_places(size, stride, padding):
    """The index of each pixel of a plane in its phases, which follow one another."""
    (h, w), (sh, sw), (ph, pw), (lines, columns) = size, stride, padding, phase_size(size, stride, padding)
    places, in_line = np.empty(h * w, np.uint32), np.empty(w, np.int64)  # unsigned: numba tests others for < 0
    for c in range(w):
        in_line[c] = (c + pw) % sw * lines * columns + (c + pw) // sw
    for r in range(h):
        line = ((r + ph) % sh * sw * lines + (r + ph) // sh) * columns
        for c in range(w):
            places[r * w + c] = line + in_line[c]
    return places


@part
def split(plane, places, phases, back):
    """Fill the phases, except for the padding, from a plane, flat. Or the plane from them, with `back`."""
    if back:
        for p in range(len(plane)):
            plane[p] = phases[places[p]]
    else:
        for p in range(len(plane)):
            phases[places[p]] = plane[p]


@part
def gather(values, columns, y):
    """Fill y (OH, OW) with what was computed for the windows, without the places between two lines of them."""
    for line in range(len(y)):
        copy(y[line], values[line * columns :], y.shape[1])
