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
def padded(x, few, padding):
    """Some images with zeros around them; themselves where no padding is."""
    ph, pw = padding
    if ph == 0 and pw == 0:
        return x
    zero = x.dtype.type(0)
    m, a, b, c = x.shape
    if few:  # (m, C, H, W)
        out = np.empty((m, a, b + 2 * ph, c + 2 * pw), x.dtype)
        for i in range(m):
            for j in range(a):
                plane = out[i, j]
                plane[:ph] = zero
                plane[ph + b :] = zero
                for k in range(b):
                    line = plane[ph + k]
                    line[:pw] = zero
                    line[pw + c :] = zero
                    copy(line[pw:], x[i, j, k], c)
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

    images  with their padding; the lines are those of all images one after the other, OH for each
    """
    (oh, ow), (kh, kw), (sh, sw) = size, kernel, stride
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image)):
                for i in range(kh):
                    pixels = image[c, top + i]
                    for j in range(kw):
                        column = windows[(c * kh + i) * kw + j, nth * ow : (nth + 1) * ow]
                        if sw == 1:
                            copy(column, pixels[j:], ow)
                        elif sw == 2:  # said as a number, it takes several at once
                            for p in range(len(column)):
                                column[p] = pixels[p * 2 + j]
                        else:
                            for p in range(len(column)):
                                column[p] = pixels[p * sw + j]
        else:
            n = kw * image.shape[2]
            for p in range(ow):
                row = windows[nth * ow + p]
                for i in range(kh):
                    copy(row[i * n :], image[top + i, p * sw], n)


@part
def add_back(windows, few, line, lines, size, kernel, stride, images):
    """The way back: each number is added to the place that it would have come from."""
    (oh, ow), (kh, kw), (sh, sw) = size, kernel, stride
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image)):
                for i in range(kh):
                    pixels = image[c, top + i]
                    for j in range(kw):
                        column, places = windows[(c * kh + i) * kw + j, nth * ow : (nth + 1) * ow], pixels[j:]
                        if sw == 1:
                            for p in range(len(column)):
                                places[p] += column[p]
                        else:
                            for p in range(len(column)):
                                places[p * sw] += column[p]
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
    """Some images without the zeros around them: fills x."""
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
