"""im2col, the windows of images as a matrix: for some lines of pixels at a time, as many as stay in the cache.

A convolution is a matrix product once every window is a row of a matrix. Images with many channels are stored as
(N, H, W, C): a row of a window is one contiguous run of kw * C elements. Those with few, such as grey or colour images,
are stored as (N, C, H, W): there the contiguous runs are the lines of a channel, and the windows become columns. Both
are arrays of four axes here; `few` says which, and BLAS takes the matrix row-major or column-major.
"""

from __future__ import annotations

import numpy as np

from minidl.fast.loops.compiler import part
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
    """Buffers for padded(): images like x with zero padding, and their phases; empty where they are not needed."""
    ph, pw = padding
    a, b, c = x.shape[1:]
    phases = step if few else 1
    width = (c + 2 * pw + phases - 1) // phases * phases
    within = ph == 0 and pw == 0 and (width == c or not few)
    shape = (a, b + 2 * ph, width) if few else (a + 2 * ph, b + 2 * pw, c)
    whole = np.zeros((0 if within else images, *shape), x.dtype)
    return whole, np.empty((images if phases > 1 else 0, phases * a, b + 2 * ph, width // phases), x.dtype)


@part
def padded(x, few, padding, whole, phases):
    """Some images with zero padding, in the buffers of padding_room(); the images themselves if they need none.

    For planes at stride s > 1, their s phases: the pixels at places 0, s, 2s, ... of the lines, then those at places
    1, 1 + s, ... So what neighbouring windows have at the same place is contiguous.
    """
    ph, pw = padding
    m, a, b, c = x.shape
    for i in range(m if whole.size else 0):
        if few:  # (C, H, W)
            for j in range(a):
                for k in range(b):
                    copy(whole[i, j, ph + k, pw:], x[i, j, k], c)
        else:  # (H, W, C)
            for k in range(a):
                copy(whole[i, ph + k, pw], x[i, k], b * c)
    images = whole[:m] if whole.size else x
    if phases.size:
        split(images, phases)
        return phases[:m]
    return images


@part
def split(images, phases):
    """Split each plane into its phases."""
    step = phases.shape[1] // images.shape[1]
    for i in range(len(images)):
        for j in range(images.shape[1]):
            pixels = images[i, j].ravel()
            for phase in range(step):
                some = phases[i, step * j + phase].ravel()
                for p in range(len(some)):
                    some[p] = pixels[p * step + phase]


@part
def joined(phases, step):
    """The inverse of split(): the planes."""
    m, all_phases, lines, width = phases.shape
    images = np.empty((m, all_phases // step, lines, width * step), phases.dtype)
    for i in range(m):
        for j in range(all_phases // step):
            pixels = images[i, j].ravel()
            for phase in range(step):
                some = phases[i, step * j + phase].ravel()
                for p in range(len(some)):
                    pixels[p * step + phase] = some[p]
    return images


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
def cut_in(x, few, padding, places):
    """Copy some images without their zero padding: fills x."""
    ph, pw = padding
    m, a, b, c = x.shape
    for i in range(m):
        if few:
            for j in range(a):
                for k in range(b):
                    copy(x[i, j, k], places[i, j, ph + k, pw:], c)
        else:
            for k in range(a):
                copy(x[i, k], places[i, ph + k, pw], b * c)
