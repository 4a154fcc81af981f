"""The compiled loops of the operations (minidl/fast/loops), on random shapes: beside the plain forms, and PyTorch's.

Each case computes forward and backward in the loops with one thread and with two, which must give the same bits, and
once more in the plain form in double precision. NaN, infinities and empty batches are cases of their own.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import platform
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from minidl import Tensor, nn, no_grad, ops
from minidl.backend import reference_only
from minidl.data.batches import batches
from minidl.fast import blas
from minidl.fast.loops import dense, gelu, layers, layout, losses, mean_pools, norm, points, pools, softmax, sums
from minidl.fast.loops.words import copy_long
from minidl.fast.threads import use_threads
from minidl.rng import CounterRng
from tests.other_blas import OtherBlas

DTYPES = [np.float32, np.float64]
Op = Callable[..., Any]


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """Random numbers; images as the loops lay them out, or else in the other order."""
    x = rng.normal(size=shape).astype(dtype)
    if len(shape) == 4 and shape[1] and rng.random() < 0.8:
        x = layout.usual(layout.stored(x, shape[1] < layout.FEW), shape[1] < layout.FEW)
    return x


def run(op: Op, arrays: list[Any], g: Any) -> list[Any]:
    """The result, and the gradients of all arrays."""
    tensors = [Tensor(a.copy("K"), requires_grad=True) for a in arrays]
    y = op(*tensors)
    assert y is not NotImplemented
    y.backward(g)
    return [y.data, *(t.grad for t in tensors)]


def check(op: Op, plain: Op, arrays: list[Any], rng: np.random.Generator, rtol: float | None = None) -> list[Any]:
    """The loops' results, compared as the file's first lines say. `op` and `plain` take Tensors."""
    with reference_only():
        shape = plain(*(Tensor(a) for a in arrays)).shape
    g = rng.normal(size=shape).astype(arrays[0].dtype)
    with use_threads(1):
        alone = run(op, arrays, g)
    with use_threads(2):
        together = run(op, arrays, g)
    with reference_only():
        expected = run(plain, [a.astype(np.float64) for a in arrays], g.astype(np.float64))
    rtol = rtol or (1e-5 if arrays[0].dtype == np.float32 else 1e-12)
    for one, two, right in zip(alone, together, expected, strict=True):
        assert (one.dtype, one.shape) == (arrays[0].dtype, right.shape)
        assert one.tobytes() == two.tobytes()
        np.testing.assert_allclose(one, right, rtol=rtol, atol=rtol * max(1, np.abs(right).max(initial=0)))
    return alone


# ---- batch norm ----

NORM_SHAPES = [(2, 1), (7, 5), (129, 300), (3, 3, 5, 4), (64, 6, 9, 9), (5, 8, 3, 3), (70, 17, 13, 11), (4, 64, 1, 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", NORM_SHAPES)
def test_batch_norm(shape: tuple[int, ...], training: bool, relu: bool, dtype: Any) -> None:
    rng = np.random.default_rng(len(shape))
    levels = (np.arange(shape[1]) % 5).reshape(-1, *[1] * (len(shape) - 2)).astype(dtype)
    x = 3 * normal(rng, shape, dtype) + levels
    w, b = normal(rng, shape[1:2], dtype), normal(rng, shape[1:2], dtype)
    statistics = [rng.normal(size=shape[1]), rng.uniform(1, 2, shape[1])]
    kept: list[list[Tensor]] = []  # the running statistics of each call

    def running(like: Tensor) -> list[Tensor]:
        kept.append([Tensor(s.astype(like.dtype)) for s in statistics])
        return kept[-1]

    def compiled(x: Tensor, w: Tensor, b: Tensor) -> Any:
        return norm.batch_norm(x, *running(x), w, b, training, 0.3, relu=relu)

    def plain(x: Tensor, w: Tensor, b: Tensor) -> Any:
        y = ops.batch_norm(x, *running(x), w, b, training, 0.3)
        return ops.relu(y) if relu else y

    check(compiled, plain, [x, w, b], rng, 1e-4 if dtype == np.float32 else 1e-10)
    for ours, right in zip(kept[1], kept[3], strict=True):
        np.testing.assert_allclose(ours.data, right.data, rtol=1e-5, atol=1e-6)


def test_batch_norm_far_from_zero() -> None:
    """Values around 1000 with a spread of 0.01: squares of the values themselves would lose all of it."""
    x = (1000 + np.random.default_rng(0).normal(0, 0.01, (64, 8, 10, 10))).astype(np.float32)
    y = norm.batch_norm(Tensor(x), None, None, None, None, True, eps=1e-12)
    right = x.astype(np.float64)
    right = (right - right.mean((0, 2, 3), keepdims=True)) / right.std((0, 2, 3), keepdims=True)
    assert np.abs(y.data - right).max() < 0.01  # half of the distance between float32 numbers at 1000 is 0.003 of 0.01


def test_batch_norm_answers_what_it_is_not_for() -> None:
    x, half = Tensor(np.ones((4, 3), np.float32)), Tensor(np.ones((4, 3), np.float16))
    assert norm.batch_norm(half, training=True) is NotImplemented
    assert norm.batch_norm(x, training=False) is NotImplemented  # no running statistics
    assert norm.batch_norm(x, weight=Tensor(np.ones(4, np.float32)), training=True) is NotImplemented
    assert norm.batch_norm(Tensor(np.ones((0, 3), np.float32)), training=True) is NotImplemented
    assert norm.batch_norm(Tensor(np.ones((1, 3), np.float32)), training=True) is NotImplemented


# ---- matrix products ----


@pytest.mark.skipif(not blas.gemm("float32"), reason="NumPy has another BLAS")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "k", "m"),
    [
        (1, 1, 1),
        (3, 1, 5),
        (1, 999, 999),
        (999, 999, 1),
        (30, 20, 10),
        (128, 784, 256),
        (256, 128, 128),
        (700, 65, 500),
        (61, 810, 77),
        (130, 1700, 210),
        (37, 31, 900),
        (5, 3000, 64),
        (130, 210, 1024),  # rows of b a multiple of 2,048 bytes long
        (97, 2048, 512),
        (700, 90, 600),  # parts along both sides
    ],
)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("unpacked", [0, 900_000])
def test_matmul(
    n: int, k: int, m: int, turned: bool, unpacked: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients read a matrix turned where it lies. Many rows and few columns, and the other way round; whole, and
    in the blocks for a BLAS that multiplies small matrices without packing."""
    monkeypatch.setattr(layers, "for_loops", lambda dtype: (blas.gemm(dtype), unpacked))
    rng = np.random.default_rng(n + k + m)
    a, b, g = normal(rng, (n, k), dtype), normal(rng, (k, m), dtype), normal(rng, (n, m), dtype)
    b = np.asfortranarray(b) if turned else b
    with use_threads(1):
        alone = run(ops.matmul, [a, b], g)
    y, da, db = run(ops.matmul, [a, b], g)
    assert all(np.array_equal(one, two) for one, two in zip(alone, (y, da, db), strict=True))
    for c, left, right in ((y, a, b), (da, g, b.T), (db, a.T, g)):
        error = np.abs(c - np.matmul(left, right, dtype=np.float64))
        assert np.all(error <= 2 * np.finfo(dtype).eps * np.sqrt(left.shape[1]) * (np.abs(left) @ np.abs(right)))


@pytest.mark.parametrize("unpacked", [0, 900_000])
def test_a_product_is_split_into_blocks_for_a_blas_that_does_not_pack_them(
    unpacked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were split on any processor with AVX-512, and so for OpenBLAS's kernels for AVX2 too, which took a quarter
    longer for them. Each takes few enough multiplications, and together they take those of the product."""
    library = OtherBlas(ctypes.c_int64)
    monkeypatch.setattr(layers, "for_loops", lambda dtype: (library.address(dtype), unpacked))
    rng = np.random.default_rng(0)
    a, b = normal(rng, (128, 784), np.float32), normal(rng, (784, 256), np.float32)
    np.testing.assert_allclose(ops.matmul(Tensor(a), Tensor(b)).data, a.astype(np.float64) @ b, atol=1e-3)
    done = np.prod(library.calls, axis=1)
    assert done.sum() == 128 * 784 * 256
    assert max(done) <= unpacked if unpacked else {k for _, _, k in library.calls} == {784}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere they are not slow")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 3, 4), (200, 800, 300), (2, 4, 5, 3, 6)])
def test_products_take_0_for_numbers_that_are_subnormal_and_nothing_else_does(shape: Any, dtype: Any) -> None:
    """A batch fitted to a loss of 0 has such gradients: a step of a small CNN took 20 ms where PyTorch's took 2."""
    *stack, n, k, m = shape
    tiny = float(np.finfo(dtype).tiny)
    small, root = np.full((*stack, n, k), tiny / 4, dtype), np.full((*stack, n, k), tiny**0.5 / 4 / k**0.5, dtype)
    w = np.ones((*stack, k, m), dtype)
    for threads in (1, 2):
        with use_threads(threads):
            assert not (Tensor(small) @ Tensor(w)).numpy().any()
            assert not (Tensor(root) @ Tensor(w * root.flat[0])).numpy().any()
            np.testing.assert_allclose((Tensor(small * 4) @ Tensor(w)).numpy(), k * tiny, rtol=1e-5)
            assert (small / 2).all()
            assert ops.relu(Tensor(np.full((400, 1000), tiny / 4, dtype))).numpy().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [ctypes.c_int32, ctypes.c_int64])
def test_another_blas(size: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers with a BLAS whose sizes have 32 bits, as conda's, Debian's and MKL's."""
    library = OtherBlas(size)
    monkeypatch.setattr(layers, "for_loops", lambda _: (library.address(dtype), 0))
    rng = np.random.default_rng(0)
    arrays = [normal(rng, shape, dtype) for shape in ((5, 3, 9, 8), (70, 3, 3, 3), (70,))]
    check(layers.conv2d, ops.conv2d, arrays, rng)
    arrays = [normal(rng, shape, dtype) for shape in ((150, 130), (70, 130), (70,))]
    check(layers.linear, ops.linear, arrays, rng)
    assert len(library.calls) > 10


# ---- rows of a table ----

TAKEN = {  # a table's shape, and which of its rows
    "one": ((5,), [3]),
    "words": ((50, 16), np.random.default_rng(0).integers(-50, 50, (20, 8))),
    "a long text": ((400, 64), np.random.default_rng(1).integers(0, 400, 3000)),
    "one row": ((3, 700), np.full((2, 100), 2, np.uint8)),
    "images": ((9, 3, 4, 4), [8, 0, -9, 8, 8]),
    "none": ((4, 2), np.zeros(0, int)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TAKEN)
def test_rows_of_a_table_get_all_their_gradients(name: str, dtype: Any) -> None:
    """They are added in the order in which they were taken: the bits are NumPy's, and PyTorch agrees."""
    shape, index = TAKEN[name]
    rng = np.random.default_rng(2)
    x, right = rng.normal(size=shape).astype(dtype), np.zeros(shape, dtype)
    y, dx = check(lambda x: x[index], lambda x: x[index], [x], rng, 1e-4 if dtype == np.float32 else None)
    g = rng.normal(size=y.shape).astype(dtype)
    dx = run(lambda x: x[index], [x], g)[1]
    np.add.at(right, np.asarray(index), g)
    assert np.array_equal(dx, right)
    torch = pytest.importorskip("torch")
    table = torch.tensor(x, requires_grad=True)
    table[torch.tensor(np.asarray(index, np.int64))].backward(torch.tensor(g))
    np.testing.assert_allclose(dx, table.grad.numpy(), rtol=1e-4, atol=1e-4)


def test_a_table_that_lies_turned_gets_its_gradient_too() -> None:
    """There is no loop for it; what NumPy adds must not go into a copy."""
    x = np.arange(12.0).reshape(3, 4).T
    assert np.array_equal(run(lambda x: x[[1, 1, 0]], [x], np.ones((3, 3)))[1][:, 0], [1, 2, 0, 0])


# ---- stacks of matrices ----


def lies(x: Any, *axes: int) -> Any:
    """The same numbers, in memory in the order of these axes."""
    return np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))


def stacks(rng: np.random.Generator, n: int, k: int, m: int) -> dict[str, tuple[Any, Any]]:
    """Pairs of stacks as programs make them."""
    p, q = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    a, b = rng.normal(size=(p, q, n, k)), rng.normal(size=(p, q, k, m))
    return {
        "a matrix and a stack": (a[0, 0], b),
        "heads of attention": (lies(a, 0, 2, 1, 3), lies(b, 0, 3, 1, 2)),
        "one for all": (a, b[:1]),
        "the last axis first": (lies(a, 3, 0, 1, 2), b),
        "heads before examples": (lies(a, 1, 0, 2, 3), lies(b, 1, 0, 2, 3)),
        "every other": (a[:, ::-1, ::2], b[:, ::-1]),
        "three axes before": (a[:, :, None], b[:, :, None]),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k", "m"), [(28, 64, 64), (28, 16, 28), (1, 30, 7), (9, 1, 9), (5, 40, 1), (2, 3, 2)])
def test_stacks(n: int, k: int, m: int, dtype: Any) -> None:
    """Two stacks, or a matrix and a stack: each product has NumPy's bits, as it lies; gradients are added up."""
    rng = np.random.default_rng(n + k + m)
    for a, b in stacks(rng, n, k, m).values():
        a, b = a.astype(dtype), b.astype(dtype)  # astype keeps how they lie
        g = rng.normal(size=np.matmul(a, b).shape).astype(dtype)
        tensors = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
        y = ops.matmul(*tensors)
        y.backward(g)
        assert np.array_equal(y.data, np.matmul(a, b))
        assert y.data.strides == np.matmul(a, b).strides or 1 in y.shape
        for t, each in zip(tensors, (np.matmul(g, b.swapaxes(-1, -2)), np.matmul(a.swapaxes(-1, -2), g)), strict=True):
            extra = tuple(range(each.ndim - t.ndim)) + tuple(
                i for i, size in enumerate(t.shape, each.ndim - t.ndim) if size == 1 < each.shape[i]
            )
            right = each.sum(extra, np.float64).astype(dtype).reshape(t.shape) if extra else each
            assert np.array_equal(t.grad, right)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(32, 28, 64), (3, 5, 7, 30), (1, 1, 300), (50, 1, 4), (9, 1)])
def test_a_stack_and_a_matrix(shape: tuple[int, ...], dtype: Any) -> None:
    """One product of all rows, also where the stack lies in another order; the matrix's gradient is the sum."""
    rng = np.random.default_rng(sum(shape))
    for columns in (1, 2, 70):
        a, b = rng.normal(size=shape).astype(dtype), rng.normal(size=(shape[-1], columns)).astype(dtype)
        check(ops.matmul, ops.matmul, [a, b], rng)
        check(ops.matmul, ops.matmul, [lies(a, *range(len(shape) - 1, -1, -1)), lies(b, 1, 0)], rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "k", "m"),
    [
        (896, 64, 64),
        (896, 28, 64),
        (5000, 3, 127),
        (256, 64, 64),
        (4096, 49, 32),
        (9, 100, 117),
        (300, 130, 70),
        (600, 200, 100),
    ],
)
def test_small_weights_and_many_rows(rows: int, k: int, m: int, dtype: Any) -> None:
    """The sums of the gradients are cut: of as many terms as there are rows. The output is that of w transposed."""
    rng = np.random.default_rng(rows + k)
    x, w, b = (rng.normal(size=s).astype(dtype) for s in ((rows, k), (m, k), (m,)))
    check(ops.linear, ops.linear, [x, w, b], rng)
    check(ops.matmul, ops.matmul, [x, np.ascontiguousarray(w.T)], rng)
    check(ops.matmul, ops.matmul, [x, w.T], rng)
    check(ops.matmul, ops.matmul, [np.ascontiguousarray(x.T), rng.normal(size=(rows, m)).astype(dtype)], rng)
    check(ops.matmul, ops.matmul, [w @ w.T, rng.normal(size=(m, 9)).astype(dtype)], rng)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_that_was_spread_out(dtype: Any) -> None:
    """That of a mean is one number for all places: BLAS could not read it where it lies."""
    rng = np.random.default_rng(0)
    check(lambda a, b: (a @ b).mean(1), lambda a, b: (a @ b).mean(1), [
        rng.normal(size=(6, 28, 40)).astype(dtype), rng.normal(size=(40, 50)).astype(dtype)
    ], rng)  # fmt: skip


@pytest.mark.parametrize("step", [1, 16])
def test_the_parts_of_a_product_cover_it(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """(512, 784) @ (784, 300) was cut into eight slices of 37 columns, by the number of its rows; 320 columns into five
    parts, which two cores compute as fast as six, and 100 into one."""
    monkeypatch.setattr(dense, "STEP", step)
    for lines in range(1, 2000):
        parts = dense.cuts.py_func(np.broadcast_to(np.float32(0), (lines, 1000)), 1 << 30, lines)
        found = [dense.lines_of.py_func(i, parts, lines) for i in range(parts)]
        assert [0, *(part.stop for part in found)] == [*(part.start for part in found), lines]
        assert all(part.start % step == 0 for part in found)
        least = dense.LINES if parts > 4 else dense.LEAST
        assert parts == 1 or min(part.stop - part.start for part in found) >= least - step + 1
        assert parts % 2 == 0 if lines >= 2 * dense.LEAST else parts == 1


@pytest.mark.parametrize(
    ("shape", "terms", "split"),
    [
        ((10, 10), 50, (1, 1)),
        ((256, 784), 128, (1, 12)),  # a wide layer's gradient, by columns
        ((2048, 784), 64, (16, 1)),  # a tall one's, by rows
        ((1024, 1024), 128, (4, 4)),
        ((512, 784), 64, (4, 4)),
        ((512, 784), 16, (1, 12)),  # parts along both sides would not be worth handing over
        ((1024, 256), 2048, (16, 1)),
        ((100, 100), 784, (1, 2)),
        ((128, 64), 784, (2, 1)),  # too few columns for two parts, but enough rows
        ((128, 200), 784, (1, 4)),
    ],
)
def test_parts_of_a_product_are_square_where_both_its_sides_are_long(
    shape: tuple[int, int], terms: int, split: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BLAS packs what a part reads. With AVX2, a gradient of 1,024 x 1,024 takes 1.22 times as long in 16 slices as in
    one piece, and 1.10 times in 4 x 4 squares. The parts cover the product, each place once."""
    for name in ("cuts", "lines_of"):
        monkeypatch.setattr(dense, name, getattr(dense, name).py_func)
    c = np.zeros(shape, np.float32)
    assert dense.cut.py_func(c, terms) == split
    for i in range(split[0] * split[1]):
        c[dense.place_of.py_func(i, split, c)] += 1
    assert (c == 1).all()


@pytest.mark.parametrize("amd", [False, True])
@pytest.mark.parametrize("dots", [False, True])
@pytest.mark.parametrize("k", [1, 9, 32, 112, 784, 801, 20000])
def test_pieces_of_a_product_are_small_enough(k: int, dots: bool, amd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS with AVX-512 multiplies as they lie: a million multiplications; of a @ b^T 1200 results."""
    for name, value in (("AMD", amd), ("DEEP", 800 if amd else 96), ("even", dense.even.py_func)):
        monkeypatch.setattr(dense, name, value)
    for m, n in itertools.product((1, 3, 10, 47, 128, 600, 5000), (1, 10, 33, 64, 300, 1024)):
        rows, columns, terms = dense.sizes.py_func(m, n, k, dots, 900_000)
        if dots and k < dense.SHORT and m * n > dense.FLAT:
            assert (rows, columns, terms) == (m, n, k)
            continue
        assert min(rows, columns, terms) > 0
        assert rows * columns * terms <= 1_000_000
        assert not dots or min(rows, m) * min(columns, n) <= 1200
        if m * n * k > 20_000_000:
            assert rows * columns * terms > 100_000  # or calls would take longer than products


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "k", "m"), [(1, 20000, 10), (32, 36864, 10), (300, 4096, 10), (7, 5000, 120)])
def test_few_results_of_long_sums(rows: int, k: int, m: int, dtype: Any) -> None:
    """Ten classes of a large image, flattened: the sums are cut, or all would be done by one thread."""
    rng = np.random.default_rng(rows)
    arrays = [rng.normal(size=s).astype(dtype) for s in ((rows, k), (m, k), (m,))]
    check(ops.linear, ops.linear, arrays, rng)
    check(layers.linear_relu, lambda x, w, b: ops.relu(ops.linear(x, w, b)), arrays, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(40))
def test_convolution(seed: int, dtype: Any) -> None:
    """Few and many channels before and behind it, every stride, windows of x or of the gradient laid out."""
    rng = np.random.default_rng(seed)
    c, o = (int(rng.choice([1, 2, 3, 5, 8, 16])) for _ in range(2))
    o *= int(rng.choice([1, 1, 3, 5]))
    kernel, stride, padding = ([int(v) for v in rng.integers(1, high, 2)] for high in (6, 5, 4))
    h, w = (int(k + rng.integers(0, 12)) for k in kernel)
    shapes = [(int(rng.integers(1, 20)), c, h, w), (o, c, *kernel), (o,)]
    arrays = [normal(rng, shape, dtype) for shape in shapes]

    def op(*tensors: Tensor) -> Tensor:
        return ops.conv2d(*tensors, tuple(stride), tuple(p - 1 for p in padding))

    check(op, op, arrays, rng)


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolution_of_planes_two_pixels_apart(channels: int, padding: int, width: int) -> None:
    """Their pixels at even and at odd places are laid out apart; the last of an odd line has no neighbour."""
    rng = np.random.default_rng(width)
    for k in (1, 2, 3, 4):
        arrays = [rng.normal(size=shape) for shape in ((3, channels, 5, width), (9, channels, 3, k), (9,))]

        def op(*tensors: Tensor) -> Tensor:
            return ops.conv2d(*tensors, (1, 2), padding)

        check(op, op, arrays, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 49, 32), (3, 2, 28, 64), (1, 1, 300), (50, 1, 4), (64, 49, 20)])
def test_linear_of_more_than_two_axes(shape: tuple[int, ...], dtype: Any) -> None:
    """One product of all rows, with a ReLU after it too."""
    rng = np.random.default_rng(sum(shape))
    arrays = [rng.normal(size=s).astype(dtype) for s in (shape, (70, shape[-1]), (70,))]
    check(ops.linear, ops.linear, arrays, rng)
    check(layers.linear_relu, lambda x, w, b: ops.relu(ops.linear(x, w, b)), arrays, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("op", "shape", "weights"), [(ops.conv2d, (2, 2, 6, 6), (9, 2, 3, 3)), (ops.linear, (2, 5), (9, 5))]
)
def test_a_bias_that_is_a_column_of_a_matrix(op: Op, shape: Any, weights: Any, dtype: Any) -> None:
    """Its numbers do not lie side by side."""
    rng = np.random.default_rng(0)
    x, w, many = (rng.normal(size=s).astype(dtype) for s in (shape, weights, (9, 3)))
    for b in (many[:, 1], many[::-1, 2]):
        y = op(Tensor(x), Tensor(w), Tensor(b)).numpy()
        assert (y == op(Tensor(x), Tensor(w), Tensor(b.copy())).numpy()).all()


# ---- sums ----


@pytest.mark.parametrize("shape", [(5000,), (40, 60), (7, 9, 40), (20, 9, 7, 8), (64, 49, 64), (1, 4000, 1)])
def test_sums(shape: tuple[int, ...]) -> None:
    """Over any axes, of arrays that lie in any order: as NumPy adds them in double precision."""
    rng = np.random.default_rng(sum(shape))
    numbers, taken = rng.normal(100, 1, size=shape).astype(np.float32), 0
    for order in itertools.permutations(range(len(shape))):
        x = numbers.transpose(order)
        for dims in itertools.chain(*(itertools.permutations(range(len(shape)), n) for n in range(len(shape) + 1))):
            for keepdims in (False, True):
                found, right = sums.total(x, dims, keepdims, 3), x.sum(dims, np.float64, keepdims=keepdims) / 3
                if found is not NotImplemented:
                    assert (found.shape, found.dtype) == (right.shape, x.dtype)
                    np.testing.assert_allclose(found, right, rtol=1e-7)
                    taken += 1
    assert taken > len(shape)
    assert sums.total(numbers, None, True, 1).shape == (1,) * len(shape)


def test_sums_that_are_not_for_loops() -> None:
    x = np.ones((50, 60, 2), np.float32)
    assert sums.total(x, (0, 2), False, 1) is NotImplemented  # not side by side
    assert sums.total(x, (), False, 1) is NotImplemented
    assert sums.total(x[:, ::2], (0,), False, 1) is NotImplemented
    assert sums.total(x.astype(np.float64), (0,), False, 1) is NotImplemented
    assert sums.total(x[:3], (0,), False, 1) is NotImplemented  # few


def test_means_and_variances() -> None:
    """What is made of sums: layer norm by hand."""
    rng = np.random.default_rng(0)

    def norm_of(x: Tensor, g: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * g

    check(norm_of, norm_of, [rng.normal(size=s).astype(np.float32) for s in ((16, 49, 64), (64,))], rng)


# ---- softmax ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("shape", [(5,), (3, 7), (32, 4, 28, 28), (2, 1), (4, 1000), (6, 3, 50)])
def test_softmax(shape: tuple[int, ...], log: bool, dtype: Any) -> None:
    rng = np.random.default_rng(sum(shape))
    x, name = (10 * rng.normal(size=shape)).astype(dtype), "log_softmax" if log else "softmax"
    check(getattr(softmax, name), getattr(ops, name), [x], rng)
    check(getattr(softmax, name), getattr(ops, name), [lies(x, *range(len(shape) - 1, -1, -1))], rng)
    assert getattr(softmax, name)(Tensor(x[..., None]), 0) is NotImplemented  # another axis


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_what_is_masked_or_far_away(dtype: Any) -> None:
    """What is masked by -infinity gets exactly nothing; rows of these, or with NaN or infinity, are NaN: as PyTorch."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(6, 40)).astype(dtype)
    x[0, 3:], x[1], x[2, 5], x[3, 6], x[4, 7], x[5, 8] = -np.inf, -np.inf, np.nan, np.inf, 1e4, -1e30
    for name in ("softmax", "log_softmax"):
        t = torch.from_numpy(x.copy()).requires_grad_()
        right = getattr(torch, name)(t, -1)
        right.backward(torch.ones_like(right))
        y, dx = run(getattr(softmax, name), [x], np.ones_like(x))
        np.testing.assert_allclose(y, right.detach().numpy(), rtol=2e-6, atol=1e-37)
        np.testing.assert_allclose(dx, t.grad.numpy(), atol=4e-5)
    assert not softmax.softmax(Tensor(x)).data[0, 3:].any()


# ---- pooling ----


def windows(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[Any, Any, Any]]:
    """The shape of some images, and a window that fits."""
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    if rng.random() < 0.3:
        kernel = (2, 2)
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    stride = tuple(int(s) for s in rng.integers(1, 5, 2))
    h, w = (int(rng.integers(max(1, k - 2 * p), 14)) for k, p in zip(kernel, padding, strict=True))
    return (int(rng.integers(1, 20)), int(rng.choice([1, 2, 3, 6, 8, 11, 16, 33])), h, w), (kernel, stride, padding)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(25))
def test_pooling(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    shape, window = windows(rng)
    check(
        lambda x: mean_pools.avg_pool2d(x, *window),
        lambda x: ops.avg_pool2d(x, *window),
        [normal(rng, shape, dtype)],
        rng,
    )
    x = normal(rng, shape, dtype)
    if seed % 2:
        x = np.round(x)  # many are equal: the first gets the gradient
    y, _ = check(lambda x: pools.max_pool2d(x, *window), lambda x: ops.max_pool2d(x, *window), [x], rng)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(y, torch.nn.functional.max_pool2d(torch.from_numpy(x.copy()), *window).numpy())


@pytest.mark.parametrize("channels", [1, 3, 8, 16, 40])
def test_max_pooling_of_what_is_no_number(channels: int) -> None:
    """NaN passes, and gets the gradient; where all is -infinity, nothing beside the image does."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(channels)
    x = rng.choice(
        np.array([np.nan, np.inf, -np.inf, 0, 1], np.float32), (6, channels, 9, 9), p=[0.1, 0.1, 0.6, 0.1, 0.1]
    )
    for window in [(2, 2, 0), (2, 1, 1), (3, 2, 1), (3, 1, 1), (9, 9, 0), ((3, 2), (3, 1), (1, 0))]:
        t = torch.from_numpy(x.copy()).requires_grad_()
        right = torch.nn.functional.max_pool2d(t, *window)
        right.backward(torch.ones_like(right))
        y, dx = run(lambda x, w=window: pools.max_pool2d(x, *w), [x], np.ones(right.shape, np.float32))
        np.testing.assert_array_equal(y, right.detach().numpy())
        np.testing.assert_array_equal(dx, t.grad.numpy())


@pytest.mark.parametrize("channels", [2, 9])
def test_average_pooling_takes_a_gradient_that_is_read_only(channels: int) -> None:
    """As the mean over axes gives, and as a user may give."""
    x = Tensor(np.random.default_rng(0).normal(size=(2, channels, 4, 4)), requires_grad=True)
    ops.avg_pool2d(x, 4).mean((2, 3)).sum().backward()
    assert (x.grad == 1 / 16).all()
    x.grad, g = None, np.ones((2, channels, 2, 2))
    g.flags.writeable = False
    ops.avg_pool2d(x, 2).backward(g)
    assert (x.grad == 1 / 4).all()


def test_pooling_answers_what_it_is_not_for() -> None:
    x = Tensor(np.ones((2, 3, 4, 4), np.float32))
    for pool in (pools.max_pool2d, mean_pools.avg_pool2d):
        assert pool(Tensor(np.ones((2, 3), np.float32)), 2) is NotImplemented
        assert pool(Tensor(np.ones((0, 3, 4, 4), np.float32)), 2) is NotImplemented
        assert pool(x, 5) is NotImplemented
        assert pool(x, 2, 0) is NotImplemented
        assert pool(x, 2, padding=2) is NotImplemented


# ---- the order of memory ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_copy_writes_its_run_and_nothing_beside_it(dtype: Any) -> None:
    """Shorter than a block of 64 bytes, of whole blocks, and between."""

    @pytest.importorskip("numba").njit
    def copied(to: Any, i: int, source: Any, j: int, count: int) -> None:
        copy_long(to, i, source, j, count)

    source = np.arange(1, 201, dtype=dtype)
    for count in range(70):
        to = np.zeros(100, dtype)
        copied(to, 17, source, 90, count)
        np.testing.assert_array_equal(to, [0] * 17 + list(range(91, 91 + count)) + [0] * (83 - count))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 4), (70, 9, 6, 7), (40, 33, 9, 1), (0, 3, 2, 2)])
def test_orders_of_memory(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    turned = layout.last(x)
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, x.transpose(0, 2, 3, 1))
    for view in (x, turned.transpose(0, 3, 1, 2), x[:, :, ::-1]):
        for few in (True, False):
            stored = layout.stored(view, few)
            assert stored.flags.c_contiguous
            np.testing.assert_array_equal(layout.usual(stored, few), view)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 8, 5, 4), (130, 16, 7, 7)])
def test_flatten(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = layout.usual(layout.last(rng.normal(size=shape).astype(dtype)), few=False)
    y, _ = check(lambda x: layout.reshape(x, len(x), -1), lambda x: ops.flatten(x, 1), [x], rng)
    assert y.flags.c_contiguous
    assert layout.reshape(Tensor(x), -1, shape[-1]) is NotImplemented
    assert layout.reshape(Tensor(y), len(y), -1) is NotImplemented


# ---- activations, dropout, losses, batches ----

SHAPES = [(), (1,), (7, 5), (300, 311), (3, 5, 4, 4), (65, 16, 9, 7)]


# Each activation as a loop, as the plain form, and PyTorch's.
ACTIVATIONS: dict[str, tuple[Op, Op, Callable[[Any], Any]]] = {
    "relu": (points.relu, ops.relu, lambda torch: torch.relu),
    "sigmoid": (points.sigmoid, ops.sigmoid, lambda torch: torch.sigmoid),
    "tanh": (points.tanh, ops.tanh, lambda torch: torch.tanh),
    "leaky_relu": (points.leaky_relu, ops.leaky_relu, lambda torch: torch.nn.LeakyReLU()),
    "leaky_relu 0.3": (
        lambda x: points.leaky_relu(x, 0.3), lambda x: ops.leaky_relu(x, 0.3), lambda torch: torch.nn.LeakyReLU(0.3)
    ),
    "gelu": (gelu.gelu, ops.gelu, lambda torch: torch.nn.GELU()),
    "gelu, tanh": (
        lambda x: gelu.gelu(x, "tanh"), lambda x: ops.gelu(x, "tanh"), lambda torch: torch.nn.GELU("tanh")
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x = np.asarray(normal(rng, shape, dtype) * dtype(10))
    check(*ACTIVATIONS[name][:2], [x], rng)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_what_is_no_number(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1000, -1000, 88, -88] * 9, np.float32)
    t = torch.from_numpy(x.copy()).requires_grad_()
    right = ACTIVATIONS[name][2](torch)(t)
    right.backward(torch.ones_like(t))
    y, dx = run(ACTIVATIONS[name][0], [x], np.ones_like(x))
    if name == "gelu":
        right = right.detach().masked_fill(t == math.inf, math.inf)  # PyTorch's vectors say NaN there, its scalars not
    np.testing.assert_allclose(y, right.detach().numpy(), rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-6, atol=1e-37)


def test_a_gate_that_is_shut_is_zero() -> None:
    y, dx = run(points.sigmoid, [np.array([-np.inf, -1e30, -104] * 9, np.float32)], np.ones(27, np.float32))
    assert not y.any()
    assert not dx.any()


def test_gelu_is_exact_to_two_units_of_its_largest_digits() -> None:
    """Beside Python's erfc in double precision; far below 0 it is right to 2 %, where 1 + erf has no digit left."""
    x = np.concatenate([np.linspace(-9, 9, 20_001), np.linspace(-0.01, 0.01, 2_001)]).astype(np.float32)
    y, slope = run(gelu.gelu, [x], np.ones_like(x))
    phi = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(np.float64)])
    density = np.exp(-(x.astype(np.float64) ** 2) / 2) / math.sqrt(2 * math.pi)
    assert np.abs(y - x * phi).max() < 2 * 2.0**-24 * 9  # the largest result is 9
    small = np.abs(x) < 4
    assert np.abs(y - x * phi)[small].max() < 5e-7
    assert np.abs(slope - (phi + x * density)).max() < 5e-7
    far = x < -3
    assert np.abs(y[far] / (x * phi)[far] - 1).max() < 0.02


def test_activations_answer_what_they_are_not_for() -> None:
    x = Tensor(np.ones(3, np.float32))
    assert points.leaky_relu(x, -0.5) is NotImplemented  # where the result would not tell which side x was on
    assert gelu.gelu(x, "other") is NotImplemented
    for f in (points.leaky_relu, gelu.gelu):
        assert f(Tensor(np.ones(3, np.float16))) is NotImplemented
        assert f(Tensor(np.ones(0, np.float32))) is NotImplemented
    y, dx = run(lambda x: ops.leaky_relu(x, -0.5), [np.array([-2.0, 2.0])], np.ones(2))
    assert (y.tolist(), dx.tolist()) == ([1.0, 2.0], [-0.5, 1.0])


def test_exp_is_exact_to_two_units_in_the_last_place() -> None:
    x = np.linspace(-87, 87, 1_000_001, dtype=np.float32)
    sigmoids = points.sigmoid(Tensor(-x)).data.astype(np.float64)
    right = 1 / (1 + np.exp(x.astype(np.float64)))
    assert np.abs(sigmoids / right - 1).max() < 4 * 2.0**-24 * 2


def test_tanh_is_exact_to_two_units_in_the_last_place() -> None:
    small = np.geomspace(1e-38, 1, 100_001)
    x = np.concatenate([np.linspace(-12, 12, 1_000_001), small, -small]).astype(np.float32)
    right = np.tanh(x.astype(np.float64))
    apart = np.abs(points.tanh(Tensor(x)).data - right)
    assert (apart <= 4 * 2.0**-24 * np.abs(right)).all()
    signs = np.signbit(points.tanh(Tensor(np.array([-0.0, 0.0, -9.0], np.float32))).data)
    assert signs.tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (128, 512)])
def test_dropout_draws_the_same_mask(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.asarray(normal(np.random.default_rng(1), shape, dtype))
    g = np.asarray(np.random.default_rng(2).normal(size=shape).astype(dtype))
    results = []
    for compiled in (False, True, True):
        rng = CounterRng(5)
        with use_threads(1 + len(results) % 2):
            for _ in range(2):  # the second step has another mask
                y, dx = run(lambda x, r=rng, c=compiled: (points if c else plain_ops).dropout(x, 0.3, r), [x], g)
        results.append((y.tobytes(), dx.tobytes()))
    assert results[0] == results[1] == results[2]


class plain_ops:
    """The plain forms."""

    @staticmethod
    def dropout(*args: Any) -> Any:
        with reference_only():
            return ops.dropout(*args)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (128, 10), (2000, 37)])
def test_cross_entropy(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x, labels = normal(rng, shape, dtype) * dtype(20), rng.integers(0, shape[1], shape[0])
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    check(lambda x: losses.cross_entropy(x, labels), lambda x: ops.cross_entropy(x, labels), [x], rng, rtol)


def test_cross_entropy_of_what_is_no_number() -> None:
    x = np.zeros((4, 3), np.float32)
    x[0, 1], x[1, 2], x[2, 0] = np.nan, np.inf, -np.inf
    labels = np.array([1, 2, 0, 0])
    y, dx = run(lambda x: losses.cross_entropy(x, labels), [x], np.float32(1))
    assert np.isnan(y)
    assert np.isnan(dx[:2]).all()
    assert np.isfinite(dx[2:]).all()
    with pytest.raises(ValueError, match="label 3 at position 2"):
        ops.cross_entropy(Tensor(x), np.array([0, 1, 3, 0]))


@pytest.mark.parametrize("forms", [nullcontext, reference_only])
def test_labels_may_be_changed_before_backward(forms: Any) -> None:
    x, labels = Tensor(np.zeros((3, 4), np.float32), requires_grad=True), np.array([0, 1, 2])
    with forms():
        loss = ops.cross_entropy(x, labels)
        labels[:] = 1000  # as a buffer that is filled anew
        loss.backward()
    np.testing.assert_allclose(x.grad, (0.25 - np.eye(4)[:3]) / 3, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_taking_a_batch(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 9, 7), np.uint8), rng.integers(0, 10, 50)
    with reference_only():
        right = list(batches(images, labels, 16, np.random.default_rng(1), dtype=dtype))
    for n in (1, 2):
        with use_threads(n):
            for (x, y), (a, b) in zip(
                batches(images, labels, 16, np.random.default_rng(1), dtype=dtype), right, strict=True
            ):
                assert x.data.tobytes() == a.data.tobytes()
                assert (y == b).all()
    assert points.take(images, labels, np.array([50]), dtype) is NotImplemented


def test_an_infinite_corner_of_a_padded_image_is_felt_where_it_takes_part() -> None:
    torch = pytest.importorskip("torch")
    x, w = np.random.default_rng(0).normal(size=(2, 8, 6, 6)), np.random.default_rng(1).normal(size=(9, 8, 3, 3))
    x[0, 3, 0, 0] = np.inf
    a, b = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    y = ops.conv2d(a, b, padding=1)
    y.backward(np.ones(y.shape))
    ta, tb = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    torch.nn.functional.conv2d(ta, tb, padding=1).backward(torch.ones(2, 9, 6, 6, dtype=torch.float64))
    np.testing.assert_allclose(b.grad, tb.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(a.grad, ta.grad.numpy(), rtol=1e-12)


SEQUENCES = {
    "linear, ReLU": ((5, 12), lambda bias: [nn.Flatten(), nn.Linear(12, 7, bias=bias, rng=0), nn.ReLU()]),
    "convolution, ReLU": ((3, 2, 9, 7), lambda bias: [nn.Conv2d(2, 4, 3, bias=bias, rng=0), nn.ReLU()]),
    "many filters, ReLU": ((2, 6, 8, 8), lambda bias: [nn.Conv2d(6, 16, 2, bias=bias, rng=0), nn.ReLU()]),
    "convolution, ReLU, pooling": (
        (2, 3, 9, 9),
        lambda bias: [nn.Conv2d(3, 16, 3, bias=bias, rng=0), nn.ReLU(), nn.MaxPool2d(2)],
    ),
    "convolution, pooling, ReLU": (
        (2, 3, 9, 9),
        lambda bias: [nn.Conv2d(3, 16, 3, bias=bias, rng=0), nn.MaxPool2d(2), nn.ReLU()],
    ),
    "batch norm, ReLU": ((4, 3, 5, 5), lambda bias: [nn.BatchNorm2d(3, affine=bias), nn.ReLU()]),
}


@pytest.mark.parametrize("learning", [True, False], ids=["learning", "no_grad"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_is_its_layers_with_a_bias_and_without(name, bias, learning):
    """Once, without a bias, the ReLU that is done in the pass which adds it was not done at all."""
    shape, make = SEQUENCES[name]
    model, rng = nn.Sequential(*make(bias)), np.random.default_rng(3)
    x = rng.normal(0, 1, shape).astype(np.float32)

    def results() -> list[np.ndarray]:
        for p in model.parameters():
            p.grad = None
        inputs = Tensor(x, requires_grad=learning)
        with nullcontext() if learning else no_grad():
            y = model(inputs)
        if learning:
            (y * Tensor(np.linspace(-1, 1, y.size, dtype=np.float32).reshape(y.shape))).sum().backward()
        gradients = [p.grad for p in model.parameters()] + [inputs.grad]
        return [y.numpy(), *(np.array(g) for g in gradients if learning)]

    found = results()
    with reference_only():
        expected = results()
    assert (found[0] >= 0).all()
    assert (found[0] > 0).any()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
