"""A plane, with its padding, split into phases: so a pooling reads one place of all its windows as one line.

At stride (sh, sw) there are sh * sw phases: the pixels at every sh-th line and every sw-th column, from each of the
first ones on. Windows are sh lines and sw columns apart, so pixel (a, b) of all windows is in one phase, and there the
windows are neighbours: window (oh, ow) at oh * columns + ow from phase_start(a, b). Between the last window of a line
and the first of the next are places of no window; what is computed there is ignored.
"""

from __future__ import annotations

from minidl.fast.loops.compiler import part

MANY = 32  # windows of a plane from which this pays; fewer are scanned one after another


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
def split(plane, stride, padding, size, phases, back):
    """Fill the phases, except for the padding, from a plane (H, W). Or the plane from them, with `back`."""
    (sh, sw), (ph, pw), (lines, columns) = stride, padding, size
    for r in range(len(plane)):
        row = plane[r]
        for b in range(sw):
            first = (b - pw) % sw  # the first pixel of this phase
            start = (((r + ph) % sh * sw + b) * lines + (r + ph) // sh) * columns + (first + pw) // sw
            line = phases[start : start + (len(row) - first + sw - 1) // sw]
            if back:
                for p in range(len(line)):
                    row[first + p * sw] = line[p]
            else:
                for p in range(len(line)):
                    line[p] = row[first + p * sw]
