"""im2col, the windows of images as a matrix: for some lines of pixels at a time, as many as stay in the cache.

A convolution is a matrix product once every window is a row of a matrix. Images with many channels are stored as
(N, H, W, C): a row of a window is one contiguous run of kw * C elements. Those with few, such as grey or colour images,
are stored as (N, C, H, W): there the contiguous runs are the lines of a channel, and the windows become columns. Both
are arrays of four axes here; `few` says which, and BLAS takes the matrix row-major or column-major.
"""

from __future__ import annotations

import numpy as np

from minidl.fast.loops.compiler import part
from minidl.fast.loops.words import copy

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
    """Buffers for padded(): images like x with zero padding, and their halves; empty where they are not needed."""
    ph, pw = padding
    a, b, c = x.shape[1:]
    two = few and step == 2
    within = ph == 0 and pw == 0 and not (two and c % 2)
    shape = (a, b + 2 * ph, c + 2 * pw + (c % 2 if two else 0)) if few else (a + 2 * ph, b + 2 * pw, c)
    whole = np.zeros((0 if within else images, *shape), x.dtype)
    return whole, np.empty((images if two else 0, 2 * a, shape[1], shape[2] // 2), x.dtype)


@part
def padded(x, few, padding, whole, halves):
    """Some images with zero padding, in the buffers of padding_room(); the images themselves if they need none.

    For planes at stride 2, their halves: the pixels at even places of the lines, then those at odd ones. So what
    neighbouring windows have at the same place is contiguous.
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
    if halves.size:
        halve(images, halves)
        return halves[:m]
    return images


@part
def halve(images, halves):
    """Split each plane into two: the pixels at even places of its lines, and those at odd ones."""
    for i in range(len(images)):
        for j in range(images.shape[1]):
            pixels, even, odd = images[i, j].ravel(), halves[i, 2 * j].ravel(), halves[i, 2 * j + 1].ravel()
            for p in range(len(even)):
                even[p] = pixels[2 * p]
                odd[p] = pixels[2 * p + 1]


@part
def joined(halves):
    """The inverse of halve(): the planes."""
    m, two, lines, width = halves.shape
    images = np.empty((m, two // 2, lines, 2 * width), halves.dtype)
    for i in range(m):
        for j in range(two // 2):
            pixels, even, odd = images[i, j].ravel(), halves[i, 2 * j].ravel(), halves[i, 2 * j + 1].ravel()
            for p in range(len(even)):
                pixels[2 * p] = even[p]
                pixels[2 * p + 1] = odd[p]
    return images


@part
def lay_out(images, few, line, lines, size, kernel, stride, windows):
    """im2col: the windows of some lines of pixels as a matrix (pixels, kh*kw*C), for few channels (C*kh*kw, pixels).

    images  with their padding; the lines are those of all images in sequence, OH for each
    """
    (oh, ow), (kh, kw), (sh, sw) = size, kernel, stride
    planes = 2 if sw == 2 else 1  # of a channel: see padded()
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image) // planes):
                for i in range(kh):
                    pixels, odd = image[c * planes, top + i], image[c * planes + planes - 1, top + i]
                    for j in range(kw):
                        column = windows[(c * kh + i) * kw + j, nth * ow : (nth + 1) * ow]
                        if sw == 1:
                            copy(column, pixels[j:], ow)
                        elif sw == 2:
                            copy(column, odd[j // 2 :] if j % 2 else pixels[j // 2 :], ow)
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
    """col2im, the inverse direction: each element is added to the place that lay_out() reads it from."""
    (oh, ow), (kh, kw), (sh, sw) = size, kernel, stride
    planes = 2 if sw == 2 else 1  # of a channel: see padded()
    for nth in range(lines):
        image, top = images[(line + nth) // oh], (line + nth) % oh * sh
        if few:
            for c in range(len(image) // planes):
                for i in range(kh):
                    pixels, odd = image[c * planes, top + i], image[c * planes + planes - 1, top + i]
                    for j in range(kw):
                        column, places = windows[(c * kh + i) * kw + j, nth * ow : (nth + 1) * ow], pixels[j:]
                        if sw == 2:
                            places = odd[j // 2 :] if j % 2 else pixels[j // 2 :]
                        if sw <= 2:
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
