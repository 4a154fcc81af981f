"""The fast forms of the layers' operations on a GPU. They compute what the reference in ops*.py computes.

A GPU works through a small batch faster than Python can tell it what to do: each array operation is a kernel of its
own, which takes microseconds to launch. So what the reference writes as ten array operations is one kernel here, a
few lines of C for one element of the result; the matrix products stay cuBLAS's. Images lie in memory as (N, H, W, C)
behind the usual shape, as on the CPU (fast/conv.py), so that a product's rows are pixels.

A kernel has to prove itself: before its first use on a device it is compared with the reference on a small example.
One that does not compile there, or gives other numbers, is left out with a warning, and the reference runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minidl import ops
from minidl.backend import GPU_KERNELS, Array, Backend, backend_of, reference_only, to_numpy, xp_of
from minidl.fast.linear import channels_last, plain
from minidl.grad_mode import enable_grad
from minidl.ops_conv import Size, _pair
from minidl.ops_nn import _labels
from minidl.tensor import Edge, Into, Tensor, record

MANY = 2**31 - 1  # elements from which a 32-bit index would overflow
CLASSES = 512  # from here on the reference form of cross_entropy has more to do at once than a thread for each row


def trusted(what: str, both_ways: Callable[[], list[tuple[Array, Array]]]) -> bool:
    """Whether a kernel's arrays are the reference's, pair by pair; warns if not."""
    try:
        for reference, kernel in both_ways():
            np.testing.assert_allclose(to_numpy(kernel), to_numpy(reference), rtol=1e-4, atol=1e-5)
    except MemoryError:
        raise
    except Exception as error:  # whatever goes wrong in a compiler or a driver: there is another way to compute it
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"the GPU kernel of {what} is not used: {reason}", RuntimeWarning, stacklevel=4)
        return False
    return True


@lru_cache(maxsize=256)
def kernel(xp: Any, inputs: str, outputs: str, body: str) -> Any:
    """An elementwise kernel, made at its first use. `i` is the number of the element; `raw` arrays are indexed."""
    return xp.ElementwiseKernel(inputs, outputs, body, "minidl_kernel")


# ---- dense layers and activations ----


def linear(x: Tensor, w: Any, b: Any = None) -> Any:
    """See ops.linear. x (N, in), w (out, in), b (out,) -> (N, out)."""
    if not plain(x, w, b) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        return NotImplemented
    if b is not None and b.shape != w.shape[:1]:
        return NotImplemented
    y = x.data.dot(w.data.T)
    edges: list[Edge] = [
        (x, lambda g: g.dot(w.data)),  # (N, out) @ (out, in)
        (w, Into(lambda g, out: g.T.dot(x.data, out=out))),  # (out, N) @ (N, in)
    ]
    if b is not None:
        y += b.data
        edges.append((b, Into(lambda g, out: g.sum(0, out=out))))
    return record("linear", y, *edges)


def relu(x: Tensor) -> Any:
    """See ops.relu. Any shape; images that lie channels last stay so."""
    if not plain(x):
        return NotImplemented
    xp, images = xp_of(x.data), x.ndim == 4
    y = xp.maximum(channels_last(x.data), 0) if images else xp.maximum(x.data, 0)
    backward = kernel(xp, "T g, T y", "T dx", "dx = y > 0 ? g : 0;")

    def vjp(g: Array) -> Array:
        return channels_first(backward(channels_last(g), y)) if images else backward(g, y)

    return record("relu", channels_first(y) if images else y, (x, vjp))


def cross_entropy(logits: Tensor, labels: Any) -> Any:
    """See ops.cross_entropy. One thread for each row: its loss, and the gradient, softmax - truth."""
    if not plain(logits) or logits.ndim != 2 or not 0 < logits.shape[1] < CLASSES or not logits.shape[0]:
        return NotImplemented
    labels = _labels(logits, labels).astype(np.int64, copy=False)
    xp, (n, classes) = xp_of(logits.data), logits.shape
    d = xp.empty((n, classes), logits.dtype)
    rows = kernel(xp, "raw T x, int64 label, int32 classes", "T loss, raw T d", """
        const ptrdiff_t row = i * classes;
        T most = x[row], total = 0;
        for (int c = 1; c < classes; c++) most = max(most, x[row + c]);
        for (int c = 0; c < classes; c++) total += exp(x[row + c] - most);
        for (int c = 0; c < classes; c++) d[row + c] = exp(x[row + c] - most) / total - (c == label ? 1 : 0);
        const bool known = 0 <= label && label < classes;
        loss = known ? log(total) - (x[row + label] - most) : log((T)-1);  // not a number: the run will say so
    """)  # fmt: skip
    losses = xp.empty(n, logits.dtype)
    rows(logits.data, labels, classes, losses, d)
    times = kernel(xp, "T d, T g, int32 n", "T dx", "dx = d * g / n;")
    return record("cross_entropy", losses.mean(), (logits, lambda g: times(d, g, n)))


# ---- images ----

# x (N, H, W, C) -> one row for each window: (N*OH*OW, C*KH*KW). Element i of it comes from one pixel, or the border.
WINDOWS = """
    int k = i;
    const int b = k % kw; k /= kw;
    const int a = k % kh; k /= kh;
    const int ch = k % c; k /= c;
    const int col = (k % ow) * sw - pw + b; k /= ow;
    const int row = (k % oh) * sh - ph + a; k /= oh;
    const bool inside = row >= 0 && row < h && col >= 0 && col < w;
    out = inside ? x[((ptrdiff_t)(k * h + row) * w + col) * c + ch] : 0;
"""
# The other way: each pixel (n, row, col, ch) adds up what it gets from the windows that see it. It is at (a, b) in the
# window (n, y, z), whose number, counting the channels too, is `at`.
FROM_WINDOWS = """
    int k = i;
    const int ch = k % c; k /= c;
    const int col = k % w + pw; k /= w;
    const int row = k % h + ph; k /= h;
    T total = 0;
    for (int a = row % sh; a < kh && a <= row; a += sh) {
        const int y = (row - a) / sh;
        if (y >= oh) continue;
        for (int b = col % sw; b < kw && b <= col; b += sw) {
            const int z = (col - b) / sw;
            if (z >= ow) continue;
            const ptrdiff_t at = ((ptrdiff_t)(k * oh + y) * ow + z) * c + ch;
            ADD
        }
    }
    out = total;
"""
PIXELS = FROM_WINDOWS.replace("ADD", "total += rows[(at * kh + a) * kw + b];")
SIZES = "int32 c, int32 h, int32 w, int32 oh, int32 ow, int32 kh, int32 kw, int32 sh, int32 sw, int32 ph, int32 pw"


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW)."""
    if not plain(x, w, b) or x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.size * w.size:
        return NotImplemented
    if b is not None and b.shape != w.shape[:1]:
        return NotImplemented
    sizes = _sizes(x, w.shape[2:], _pair(stride), _pair(padding))
    if sizes is None:
        return NotImplemented
    xp, (n, c, h, width), o = xp_of(x.data), x.shape, len(w.data)
    oh, ow, across = sizes[3], sizes[4], w.data[0].size
    filters = w.data.reshape(o, across)  # (out, C*kh*kw)
    windows = kernel(xp, "raw T x, " + SIZES, "T out", WINDOWS)
    pixels = kernel(xp, "raw T rows, " + SIZES, "T out", PIXELS)

    def lay_out() -> Array:
        rows = xp.empty((n * oh * ow, across), x.dtype)
        windows(channels_last(x.data), *sizes, rows)
        return rows

    rows = lay_out()
    y = rows.dot(filters.T)  # (N*OH*OW, out)
    if b is not None:
        y += b.data

    def vjp_x(g: Array) -> Array:
        dx = xp.empty((n, h, width, c), x.dtype)
        pixels(_rows(g).dot(filters), *sizes, dx)
        return channels_first(dx)

    edges: list[Edge] = [
        (x, vjp_x),
        (w, Into(lambda g, out: _rows(g).T.dot(rows, out=out.reshape(o, across)))),
    ]
    if b is not None:
        edges.append((b, Into(lambda g, out: _rows(g).sum(0, out=out))))
    return record("conv2d", channels_first(y.reshape(n, oh, ow, o)), *edges)


# Element i of the result: the largest pixel of its window, and the place in the window of the first that is so large.
LARGEST = """
    int k = i;
    const int ch = k % c; k /= c;
    const int z = (k % ow) * sw - pw; k /= ow;
    const int y = (k % oh) * sh - ph; k /= oh;
    bool found = false;
    for (int a = max(0, -y); a < kh && y + a < h; a++)
        for (int b = max(0, -z); b < kw && z + b < w; b++) {
            const T value = x[((ptrdiff_t)(k * h + y + a) * w + z + b) * c + ch];
            if (!found || value > best || value != value) { best = value; winner = a * kw + b; found = true; }
            if (value != value) { a = kh; break; }
        }
"""
# Each pixel takes the gradient of every window that it is the largest of.
TAKEN = FROM_WINDOWS.replace("ADD", "if (winner[at] == a * kw + b) total += g[at];")


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    if not plain(x) or x.ndim != 4 or not x.size:
        return NotImplemented
    size = _pair(k)
    sizes = _sizes(x, size, _pair(size if stride is None else stride), _pair(padding))
    if sizes is None or 2 * sizes[-2] > size[0] or 2 * sizes[-1] > size[1]:
        return NotImplemented
    xp, (n, c, h, w) = xp_of(x.data), x.shape
    y = xp.empty((n, sizes[3], sizes[4], c), x.dtype)
    winner = xp.empty(y.shape, np.int32)
    kernel(xp, "raw T x, " + SIZES, "T best, int32 winner", LARGEST)(channels_last(x.data), *sizes, y, winner)
    backward = kernel(xp, "raw T g, raw int32 winner, " + SIZES, "T out", TAKEN)

    def vjp(g: Array) -> Array:
        dx = xp.empty((n, h, w, c), x.dtype)
        backward(channels_last(g), winner, *sizes, dx)
        return channels_first(dx)

    return record("max_pool2d", channels_first(y), (x, vjp))


def channels_first(y: Array) -> Array:
    """The (N, C, H, W) view of images (N, H, W, C)."""
    return y.transpose(0, 3, 1, 2)


def _rows(g: Array) -> Array:
    """Images (N, C, H, W) as a matrix of pixels (N*H*W, C); no copy where they lie channels last."""
    return channels_last(g).reshape(-1, g.shape[1])


def _sizes(x: Tensor, kernel: Any, stride: Any, padding: Any) -> tuple[int, ...] | None:
    """The numbers in SIZES; None where a window does not fit, or there are too many elements."""
    (n, c, h, w), (kh, kw), (sh, sw), (ph, pw) = x.shape, kernel, stride, padding
    if min(kh, kw, sh, sw) < 1 or min(ph, pw) < 0 or kh > h + 2 * ph or kw > w + 2 * pw:
        return None
    oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    if max(n * oh * ow * c * kh * kw, x.size) > MANY:
        return None
    return c, h, w, oh, ow, kh, kw, sh, sw, ph, pw


# ---- each proves itself before its first use ----


def checked(
    fast: Callable[..., Any], reference: Callable[..., Any], shapes: list[tuple[int, ...]], **arguments: Any
) -> Callable[..., Any]:
    """The fast form, used where it has been compared with the reference: on random Tensors of these shapes."""

    @lru_cache(maxsize=16)
    def good(backend: Backend, dtype: Any) -> bool:
        return trusted(reference.__name__, lambda: _both_ways(backend, dtype))

    def _both_ways(backend: Backend, dtype: Any) -> list[tuple[Array, Array]]:
        rng, results = np.random.default_rng(0), []
        values = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        more = {k: backend.from_host(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
        for form in (reference, fast):
            tensors = [Tensor(backend.from_host(v), requires_grad=True) for v in values]
            with reference_only(), enable_grad():
                y = form(*tensors, **more)
                y.backward(backend.from_host(np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype)))
            results.append([y.data, *(t.grad for t in tensors)])
        return list(zip(*results, strict=True))

    def guarded(x: Any, *args: Any, **kwargs: Any) -> Any:
        if type(x) is not Tensor or not plain(x) or not good(backend_of(x.data), x.dtype):
            return NotImplemented
        return fast(x, *args, **kwargs)

    return guarded


GPU_KERNELS["linear"] = checked(linear, ops.linear, [(6, 4), (5, 4), (5,)])
GPU_KERNELS["relu"] = checked(relu, ops.relu, [(2, 3, 4, 5)])
GPU_KERNELS["cross_entropy"] = checked(cross_entropy, ops.cross_entropy, [(6, 5)], labels=np.arange(6) % 5)
GPU_KERNELS["conv2d"] = checked(conv2d, ops.conv2d, [(2, 3, 6, 5), (4, 3, 3, 2), (4,)], stride=(2, 1), padding=1)
GPU_KERNELS["max_pool2d"] = checked(max_pool2d, ops.max_pool2d, [(2, 3, 7, 6)], k=3, stride=2, padding=1)
