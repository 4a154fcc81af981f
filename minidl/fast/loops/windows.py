"""The windows of images, laid out as a matrix: for some lines of pixels at a time, as much as stays in the cache.

A convolution is a matrix product once every window is a row of a matrix. Images with many channels lie in memory as
(N, H, W, C): a row of a window is one stretch of kw * C numbers. Those with few, such as grey or colour pictures, lie
as they come, (N, C, H, W): there the stretches are the lines of a channel, and the windows become columns. Both are
arrays of four axes here; `few` says which, and BLAS takes a matrix with its rows or its columns side by side.
"""

from __future__ import annotations

import numpy as np

from minidl.fast.loops.compiler import part
from minidl.fast.loops.words import copy

CACHE = 1 << 18  # bytes of laid out windows at a time, ...
PIXELS = 192  # ... but windows of so many pixels at least: for each product BLAS arranges the filters anew


@part
def blocks(images, size, k, itemsize):
    """(images, lines) that are laid out at a time, of so many images; k numbers in a window."""
    lines = max(1, PIXELS // size[1], CACHE // (size[1] * k * itemsize))
    together = max(1, min(images, lines // size[0]))
    return together, min(lines, together * size[0])


@part
def padded(x, few, padding, step):
    """Some images with zeros around them; themselves where no padding is.

    Lines of few channels are combed where windows are `step` > 1 pixels apart: every step-th pixel, from the first on,
    then every step-th from the second on, ... So what the windows have at one place lies side by side there too.
    """
    ph, pw = padding
    if ph == 0 and pw == 0 and not (few and step > 1):
        return x
    zero = x.dtype.type(0)
    m, a, b, c = x.shape
    if few:  # (m, C, H, W)
        tooth = -(-(c + 2 * pw) // step)  # pixels that lie side by side
        out = np.empty((m, a, b + 2 * ph, step * tooth), x.dtype)
        for i in range(m):
            for j in range(a):
                plane = out[i, j]
                plane[:] = zero
                for k in range(b):
                    line, pixels = plane[ph + k], x[i, j, k]
                    for first in range(min(step, c)):
                        places = line[(first + pw) % step * tooth + (first + pw) // step :]
                        if step == 1:
                            copy(places, pixels, c)
                        else:
                            for p in range(len(pixels[first::step])):
                                places[p] = pixels[first + p * step]
    else:  # (m, H, W, C)
        out = np.empty((m, a + 2 * ph, b + 2 * pw, c), x.dtype)
        for i in range(m):
            image = out[i]
            image[:ph] = zero
            image[ph + a :] = zero
            for k in range(a):
                line = image[ph + k]
                line[:pw] = zero
                line[pw + b :] = zero
                copy(line[pw], x[i, k], b * c)
    return out


@part
def lay_out(images, few, line, lines, size, kernel, stride, windows):
    """The windows of some lines of pixels as a matrix: rows (pixels, kh*kw*C), of few channels (C*kh*kw, pixels).

    images  of padded(); the lines are those of all images one after the other, OH for each
    """
    (oh, ow), (kh, kw), (sh, sw), tooth = size, kernel, stride, images.shape[3] // stride[1]
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image)):
                for i in range(kh):
                    pixels = image[c, top + i]
                    for j in range(kw):
                        column = windows[(c * kh + i) * kw + j, nth * ow : (nth + 1) * ow]
                        copy(column, pixels[j % sw * tooth + j // sw :], ow)
        else:
            n = kw * image.shape[2]
            for p in range(ow):
                row = windows[nth * ow + p]
                for i in range(kh):
                    copy(row[i * n :], image[top + i, p * sw], n)


@part
def add_back(windows, few, line, lines, size, kernel, stride, images):
    """The way back: each number is added to the place that it would have come from."""
    (oh, ow), (kh, kw), (sh, sw), tooth = size, kernel, stride, images.shape[3] // stride[1]
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image)):
                for i in range(kh):
                    pixels = image[c, top + i]
                    for j in range(kw):
                        column = windows[(c * kh + i) * kw + j, nth * ow : (nth + 1) * ow]
                        places = pixels[j % sw * tooth + j // sw :]
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
def cut_in(x, few, padding, step, places):
    """Some images out of what padded() makes of them: fills x."""
    ph, pw = padding
    m, a, b, c = x.shape
    tooth = places.shape[3] // step
    for i in range(m):
        if few:
            for j in range(a):
                for k in range(b):
                    pixels, line = x[i, j, k], places[i, j, ph + k]
                    for p in range(c):
                        pixels[p] = line[(p + pw) % step * tooth + (p + pw) // step]
        else:
            for k in range(a):
                copy(x[i, k], places[i, ph + k, pw], b * c)
