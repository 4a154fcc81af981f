"""Dense layers: matrix products by BLAS, with bias and ReLU applied while the output is in the cache."""

from __future__ import annotations

import numpy as np

from minidl.fast.loops.compiler import compiles_for, loop, part, processor
from minidl.fast.loops.layout import turn
from minidl.fast.loops.sums import sum_columns
from minidl.fast.loops.team import share
from minidl.fast.loops.words import copy, entry, gemm, ignore_subnormals, restore

WORTH = 1 << 19  # multiplications in a part: 10 microseconds, far more than it costs to take one
LINES, LEAST = 64, 48  # rows or columns in a part, in one of up to four: with fewer, BLAS mostly packs the other matrix
PARTS, STEP = 16, 16 if compiles_for("avx512f") else 1  # parts at most; each has a multiple of STEP lines
SIDE, MANY_LINES = 4, 512  # parts along each side, of a product with so many rows and columns
# `blas` is what blas.for_loops() returns: gemm, and up to how many multiplications it does not pack; 0 if it packs all.
# A larger product is split into blocks that are not packed, of at most WIDE columns and DEEP terms, or FAR with FEW
# rows of a. Those of a product a b^T have at most FAR terms and FLAT results, unless its sums are SHORT: then it is
# faster as a whole, and faster still with a transposed copy of b.
# Intel's processors have a larger first cache and slower ones behind it: there a block of b stays in the first. If rows
# of b are a multiple of APART bytes long, they compete for the same places in it, and MANY rows of a pay for a copy.
AMD = processor().startswith("znver")
WIDE, DEEP, FAR, FEW, FLAT, SHORT = 64, 800 if AMD else 96, 800, 32, 1024, 112
MANY, APART = 96, 0 if AMD else 2048
LONG, NARROW = 4096, 16  # terms from which a layer's sums may be split too (split-K), if it is this narrow
NEITHER, LEFT, RIGHT = range(3)  # which matrix of a product is transposed


@part
def cuts(c, terms, lines):
    """How many parts a product c of sums of this many terms is split into along its lines: by shape alone.

    The lines are split into an even number of parts: three would take two cores as long as four.
    """
    pairs = max(lines // (2 * LINES), min(2, lines // (2 * LEAST)))
    return max(1, min(PARTS, 2 * pairs, c.size * terms // WORTH))


@part
def cut(c, terms):
    """Into how many parts c is split along its rows, and how many along its columns.

    BLAS packs, for each part, its rows of one matrix and its columns of the other: least if the parts are square.
    """
    rows, columns = c.shape
    across = cuts(c, terms, columns)
    if rows > 2 * columns or across == 1:
        return cuts(c, terms, rows), 1
    if min(rows, columns) >= MANY_LINES and c.size * terms >= PARTS * WORTH:
        return SIDE, SIDE
    return 1, across


@part
def lines_of(i, parts, lines):
    """The lines of part i."""
    start, stop = lines * i // parts // STEP * STEP, lines * (i + 1) // parts // STEP * STEP
    return slice(start, lines if i + 1 == parts else stop)


@part
def sizes(m, n, k, dots, unpacked):
    """The block (rows, columns, terms) of a product (m, k) @ (k, n) that BLAS gets at a time; `dots`: it is a @ b^T."""
    as_it_is = k < SHORT if dots and m * n > FLAT else m * n * k <= unpacked
    if as_it_is or not unpacked:
        return m, n, k
    columns, terms = even(n, WIDE, 16) if AMD else min(n, WIDE), even(k, FAR if dots or m < FEW else DEEP, 16)
    results = min(unpacked // terms, FLAT) if dots else unpacked // terms
    return even(m, max(1, results // columns // 4) * 4, 4), columns, terms


@part
def even(n, most, step):
    """The block size, a multiple of step, that splits n evenly into as few blocks of at most `most` as possible."""
    pieces = (n + most - 1) // most
    return ((n + pieces - 1) // pieces + step - 1) // step * step


@part
def product(blas, a, b, c, beta):
    """c = a @ b + beta c: (m, k) @ (k, n) -> (m, n). a and b are row- or column-major, c is row-major.

    Subnormal numbers count as 0, in a, b and c: the gradients of a batch that is fitted well are such numbers, and took
    most of the time.
    """
    address, unpacked = blas
    m, n = c.shape
    k = a.shape[1]
    turn_a = a.strides[1] != a.itemsize and k > 1
    turn_b = b.strides[1] != b.itemsize and n > 1
    lda = max(a.strides[1 if turn_a else 0] // a.itemsize, m if turn_a else k)
    ldb = max(b.strides[1 if turn_b else 0] // b.itemsize, k if turn_b else n)
    ldc = max(c.strides[0] // c.itemsize, n)
    rows, columns, terms = sizes(m, n, k, turn_b, unpacked)
    gathers = unpacked > 0 and APART > 0 and m >= MANY and not turn_b and b.strides[0] % APART == 0
    copied = np.empty((terms, columns) if gathers else (0, 0), c.dtype)
    before = ignore_subnormals()
    for j in range(0, n, columns):
        for t in range(0, k, terms):
            wide, deep, block = min(columns, n - j), min(terms, k - t), b[t:, j:]
            if gathers:
                for row in range(deep):
                    copy(copied[row], block[row], wide)
                block, ldb = copied[0:, 0:], columns  # sliced, for it must have the type of b[t:, j:]
            for i in range(0, m, rows):
                gemm(address, turn_a, turn_b, min(rows, m - i), wide, deep, a[i:, t:], lda, block, ldb,
                     c.dtype.type(1 if t else beta), c[i:, j:], ldc)  # fmt: skip
    restore(before)


@part
def place_of(i, split, c):
    """The rows and columns of part i."""
    down, across = split
    return lines_of(i // across, down, len(c)), lines_of(i % across, across, c.shape[1])


@part
def product_part(i, split, blas, a, b, c):
    """Part i of a product."""
    rows, columns = place_of(i, split, c)
    product(blas, a[rows], b[:, columns], c[rows, columns], 0)


@part
def deep(c, terms):
    """How many parts the sums of a product c with few rows and columns are split into (split-K); 0: they are not."""
    few = max(c.shape) < 2 * LINES or (terms >= LONG and min(c.shape) <= NARROW and c.size <= LONG)
    parts = min(cuts(c, terms, terms), terms // LINES)
    return parts if few and parts > 1 else 0


@part
def deep_part(i, parts, blas, a, b, sums):
    """The partial sums of part i: some columns of a times the same rows of b."""
    some = slice(len(b) * i // parts, len(b) * (i + 1) // parts)
    product(blas, a[:, some], b[some], sums[i], 0)


@part
def add_up(sums, c):
    """c = the sum of the results of deep_part, in order."""
    for row in range(len(c)):
        out = c[row]
        for j in range(len(out)):
            out[j] = sums[0, row, j]
        for i in range(1, len(sums)):
            more = sums[i, row]
            for j in range(len(out)):
                out[j] += more[j]


@part
def better_transposed(blas, c, terms):
    """Whether c = a @ b^T is faster with a transposed copy of b: its sums are short, or enough rows share the copy."""
    rows, columns = c.shape
    enough = 2 * (terms if AMD else max(MANY, columns))
    return blas[1] > 0 and ((terms < SHORT and c.size > FLAT) or (rows >= enough and columns >= WIDE))


@part
def transposed(b):
    """A contiguous copy of b^T."""
    out = np.empty((b.shape[1], len(b)), b.dtype)
    turn(b, out)
    return out


@loop
def matmul(team, blas, a, b, c, turned):
    """c = a @ b; with `turned` LEFT a^T @ b, with RIGHT a @ b^T."""
    terms = len(a) if turned == LEFT else a.shape[1]
    split, in_depth = cut(c, terms), deep(c, terms)
    parts = split[0] * split[1]
    if in_depth:
        sums = np.empty((in_depth, *c.shape), c.dtype)
        b = transposed(b) if turned == RIGHT else b
        if turned == LEFT:
            share(team, in_depth, entry(deep_part, (in_depth, blas, a.T, b, sums)))
        else:
            share(team, in_depth, entry(deep_part, (in_depth, blas, a, b, sums)))
        add_up(sums, c)
    elif turned == LEFT:
        share(team, parts, entry(product_part, (split, blas, a.T, b, c)))
    elif turned == RIGHT and better_transposed(blas, c, terms):
        share(team, parts, entry(product_part, (split, blas, a, transposed(b), c)))
    elif turned == RIGHT:
        share(team, parts, entry(product_part, (split, blas, a, b.T, c)))
    else:
        share(team, parts, entry(product_part, (split, blas, a, b, c)))


# ---- forward ----


@part
def finish(y, rows, columns, b, relu):
    """+ b, and max(., 0) with `relu`, in place, of these rows and columns of y (n, out). b (out,); empty: none."""
    zero, b = y.dtype.type(0), b[columns]
    for r in range(rows.start, rows.stop if len(b) else rows.start):
        row = y[r][columns]  # contiguous, as a row of y[:, columns] would not be: so the loop is vectorized
        if relu:
            for j in range(len(b)):
                v = row[j] + b[j]
                row[j] = zero if v <= zero else v  # NaN stays
        else:
            for j in range(len(b)):
                row[j] += b[j]


@part
def forward_part(i, split, blas, x, w, b, y, relu):
    """Part i, with bias and ReLU. w (in, out)."""
    product_part(i, split, blas, x, w, y)
    rows, columns = place_of(i, split, y)
    finish(y, rows, columns, b, relu)


@loop
def forward(team, blas, x, w, b, y, relu):
    """y = x w^T + b, and max(y, 0) with `relu`. x (n, in), w (out, in), b (out,), y (n, out)."""
    terms = x.shape[1]
    split, in_depth = cut(y, terms), deep(y, terms) if terms >= LONG else 0
    parts = split[0] * split[1]
    if in_depth:
        sums = np.empty((in_depth, *y.shape), y.dtype)
        share(team, in_depth, entry(deep_part, (in_depth, blas, x, w.T, sums)))
        add_up(sums, y)
        finish(y, slice(0, len(y)), slice(0, len(w)), b, relu)
    elif better_transposed(blas, y, terms):
        share(team, parts, entry(forward_part, (split, blas, x, transposed(w), b, y, relu)))
    else:
        share(team, parts, entry(forward_part, (split, blas, x, w.T, b, y, relu)))


# ---- backward ----


@part
def masked(g, y, out):
    """The gradient where the ReLU was active, else 0."""
    zero = g.dtype.type(0)
    g, y, out = g.ravel(), y.ravel(), out.ravel()
    for j in range(len(g)):
        out[j] = zero if y[j] <= zero else g[j]


@part
def mask_part(i, parts, g, y, out):
    """Part i of the same."""
    lines = slice(g.size * i // parts, g.size * (i + 1) // parts)
    masked(g.ravel()[lines], y.ravel()[lines], out.ravel()[lines])


@part
def backward_part(i, for_w, split, sums, for_x, x_split, blas, g, x, w, dx, dw, db):
    """Part i: first come the parts of w's gradient, then those of x's, and last that of b."""
    if i < len(sums):
        deep_part(i, for_w, blas, g.T, x, sums)
    elif i < for_w:
        product_part(i, split, blas, g.T, x, dw)
    elif i < for_w + for_x:
        product_part(i - for_w, x_split, blas, g, w, dx)
    else:
        sum_columns(g, slice(0, len(db)), 1.0, db)


@loop
def backward(team, blas, g, y, x, w, dx, dw, db):
    """The gradients of x (n, in), w (out, in), b (out,) from that of the output, g (n, out); empty ones are skipped.

    y  the output, where a ReLU follows; else empty
    """
    if y.size:
        masked = np.empty_like(g)
        parts = max(1, min(16, g.size >> 14))
        share(team, parts, entry(mask_part, (parts, g, y, masked)))
        g = masked
    split, x_split, in_depth = cut(dw, len(x)), cut(dx, len(w)), deep(dw, len(x))
    sums = np.empty((in_depth, *dw.shape), dw.dtype)
    for_w = 0 if not dw.size else in_depth or split[0] * split[1]
    for_x = 0 if not dx.size else x_split[0] * x_split[1]
    parts = for_w + for_x + (1 if db.size else 0)
    share(team, parts, entry(backward_part, (for_w, split, sums, for_x, x_split, blas, g, x, w, dx, dw, db)))
    if in_depth:
        add_up(sums, dw)
