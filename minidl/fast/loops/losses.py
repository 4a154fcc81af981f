"""Cross-entropy in one pass over the rows of a batch; the softmax is kept for backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast.linear import plain
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.layout import crew, cuts
from minidl.fast.loops.points import exp
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry
from minidl.ops_nn import SOFTENED, tell_softened
from minidl.tensor import Tensor, record


@part
def entropy_part(i, parts, logits, labels, p, losses):
    """Some rows."""
    for n in range(len(p) * i // parts, len(p) * (i + 1) // parts):
        row, out, largest, total = logits[n], p[n], logits[n, 0], 0.0
        for c in range(len(row)):
            largest = max(largest, row[c])
        for c in range(len(row)):
            out[c] = exp(row[c] - largest)  # the largest exponent is 0: nothing overflows
        for c in range(len(row)):
            total += out[c]
        scale = p.dtype.type(1 / total)
        for c in range(len(row)):
            out[c] *= scale
        losses[n] = math.log(total) - (row[labels[n]] - largest)


@loop
def entropy(team, logits, labels, p):
    """The mean of -log softmax(logits)[label]; p (N, classes): the softmax. And whether all labels are in range."""
    for n in range(len(labels)):
        if labels[n] < 0 or labels[n] >= logits.shape[1]:
            return 0.0, False
    losses, total = np.empty(len(p)), 0.0
    parts = cuts(len(p), 4 * p.size)
    share(team, parts, entry(entropy_part, (parts, logits, labels, p, losses)))
    for n in range(len(losses)):
        total += losses[n]
    return total / len(losses), True


@part
def entropy_back_part(i, parts, p, labels, scale, d):
    """Some rows."""
    for n in range(len(p) * i // parts, len(p) * (i + 1) // parts):
        row, out = p[n], d[n]
        for c in range(len(row)):
            out[c] = row[c] * scale
        out[labels[n]] = (row[labels[n]] - p.dtype.type(1)) * scale


@loop
def entropy_back(team, p, labels, scale, d):
    """d = (p - the one-hot labels) * scale. p, d (N, classes)."""
    parts = cuts(len(p), p.size)
    share(team, parts, entry(entropy_back_part, (parts, p, labels, scale, d)))


# ---- the operations ----


def cross_entropy(logits: Tensor, labels: Any) -> Any:
    """See ops.cross_entropy. logits (N, classes), labels (N,) -> a scalar."""
    if type(logits) is not Tensor or not plain(logits) or logits.ndim != 2 or not logits.data.size:
        return NotImplemented
    if type(labels) is not np.ndarray or labels.dtype.kind not in "iu" or labels.shape != logits.shape[:1]:
        return NotImplemented
    if logits.node is not None and logits.node.name in SOFTENED:
        tell_softened(logits.node.name)
    labels, dtype = np.array(labels, np.int64), logits.dtype  # a copy: they may be changed before backward()
    p = CPU.empty(logits.shape, dtype)
    loss, fits = entropy(crew(4 * p.size), np.ascontiguousarray(logits.data), labels, p)
    if not fits:
        return NotImplemented

    def vjp(g: Array) -> Array:
        d = CPU.empty(p.shape, dtype)
        entropy_back(crew(p.size), p, labels, dtype.type(g / len(p)), d)
        return d

    return record("cross_entropy", np.array(loss, dtype), (logits, vjp))
