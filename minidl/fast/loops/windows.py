"""im2col, the windows of images as a matrix: for some lines of pixels at a time, as many as stay in the cache.

A convolution is a matrix product once every window is a row of a matrix. Images with many channels are stored as
(N, H, W, C): a row of a window is one contiguous run of kw * C elements. Those with few, such as grey or colour images,
are stored as (N, C, H, W): there the contiguous runs are the lines of a channel, and the windows become columns. Both
are arrays of four axes here; `few` says which, and BLAS takes the matrix row-major or column-major.
"""

from __future__ import annotations

import numpy as np

from minidl.fast.loops.compiler import part
from minidl.fast.loops.phases import phase_places, phase_size, split
from minidl.fast.loops.words import copy, copy_long

CACHE = 1 << 18  # bytes of windows at a time, ...
PIXELS = 192  # ... but windows of at least this many pixels: BLAS packs the filters anew for each product


@part
def blocks(images, size, k, itemsize):
    """The block (images, lines) whose windows are copied at a time, of this many images; k elements in a window."""
    lines = max(1, PIXELS // size[1], CACHE // (size[1] * k * itemsize))
    together = max(1, min(images, lines // size[0]))
    return together, min(lines, together * size[0])


@part
def padding_room(images, x, few, padding, step):
    """For padded(): a buffer for images like x with zero padding, empty if it is not needed; and for planes at a stride
    the places of their pixels in it (phases.py, by columns only: it is the lines that windows read)."""
    (a, b, c), (ph, pw), by_phase = x.shape[1:], padding, few and step > 1
    places = phase_places((b, c), (1, step), padding) if by_phase else np.empty(0, np.uint32)
    lines, columns = phase_size((b, c), (1, step if by_phase else 1), padding)
    shape = (a * step if by_phase else a, lines, columns) if few else (a + 2 * ph, b + 2 * pw, c)
    return np.zeros((images if ph or pw or by_phase else 0, *shape), x.dtype), places


@part
def padded(x, few, padding, whole, places):
    """Some images with zero padding, in the buffer of padding_room(); the images themselves if they need none.

    For planes at stride s > 1, their s phases: the pixels at places 0, s, 2s, ... of the lines, then those at places
    1, 1 + s, ... So what neighbouring windows have at the same place is contiguous.
    """
    ph, pw = padding
    m, a, b, c = x.shape
    for i in range(m if whole.size else 0):
        if places.size:
            for j in range(a):
                split(x[i, j].ravel(), places, phases_of(whole[i], j, a), False)
        elif few:  # (C, H, W)
            for j in range(a):
                for k in range(b):
                    copy(whole[i, j, ph + k, pw:], x[i, j, k], c)
        else:  # (H, W, C)
            for k in range(a):
                copy(whole[i, ph + k, pw], x[i, k], b * c)
    return whole[:m] if whole.size else x


@part
def phases_of(image, channel, channels):
    """The phases of a channel, flat."""
    step = len(image) // channels
    return image[channel * step : (channel + 1) * step].ravel()


@part
def lay_out(images, few, line, lines, size, kernel, stride, windows):
    """im2col: the windows of some lines of pixels as a matrix (pixels, kh*kw*C), for few channels (C*kh*kw, pixels).

    images  with their padding; the lines are those of all images in sequence, OH for each
    """
    (oh, ow), (kh, kw), (sh, sw) = size, kernel, stride
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image) // sw):  # sw phases of a channel: see padded()
                for i in range(kh):
                    for j in range(kw):
                        copy(windows[(c * kh + i) * kw + j, nth * ow :], image[c * sw + j % sw, top + i, j // sw :], ow)
        else:
            channels = image.shape[2]
            n, width = kw * channels, image.shape[1] * channels
            for p in range(ow):
                for i in range(kh):
                    copy_long(windows, ((nth * ow + p) * kh + i) * n, image, (top + i) * width + p * sw * channels, n)


@part
def add_back(windows, few, line, lines, size, kernel, stride, images):
    """col2im, the inverse direction: each element is added to the place that lay_out() reads it from."""
    (oh, ow), (kh, kw), (sh, sw) = size, kernel, stride
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image) // sw):
                for i in range(kh):
                    for j in range(kw):
                        column = windows[(c * kh + i) * kw + j, nth * ow : (nth + 1) * ow]
                        places = image[c * sw + j % sw, top + i, j // sw :]
                        for p in range(len(column)):
                            places[p] += column[p]
        else:
            n = kw * image.shape[2]
            flat = image.reshape(len(image), -1)
            for p in range(ow):
                row, start = windows[nth * ow + p], p * sw * image.shape[2]
                for i in range(kh):
                    numbers, places = row[i * n : (i + 1) * n], flat[top + i, start : start + n]
                    for k in range(len(numbers)):
                        places[k] += numbers[k]


@part
def cut_in(x, few, padding, places, whole):
    """Copy some images without their zero padding: fills x. The inverse of padded()."""
    ph, pw = padding
    m, a, b, c = x.shape
    for i in range(m):
        if places.size:
            for j in range(a):
                split(x[i, j].ravel(), places, phases_of(whole[i], j, a), True)
        elif few:
            for j in range(a):
                for k in range(b):
                    copy(x[i, j, k], whole[i, j, ph + k, pw:], c)
        else:
            for k in range(a):
                copy(x[i, k], whole[i, ph + k, pw], b * c)
