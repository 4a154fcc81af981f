"""Every operation: its gradient against central differences in float64, its value against a plain loop or formula."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import Tensor, gradcheck, no_grad, ops, reference_only


@pytest.fixture(scope="module", params=["fast", "reference"], autouse=True)
def form(request):
    """Everything twice: with the CPU's fast kernels, and with the readable form that they must equal."""
    with contextlib.nullcontext() if request.param == "fast" else reference_only():
        yield


sizes = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(sizes, min_size=0, max_size=4).map(tuple)


def values(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-2, 2, shape) for shape in shapes]


def apart(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Distinct values at least 0.1 from each other and from 0: no ties, no corners within the step."""
    n = math.prod(shape)
    return ((np.random.default_rng(seed).permutation(n) - n // 2 + 0.5) * 0.2).reshape(shape)


@st.composite
def broadcast_pair(draw):
    """Two shapes that broadcast: axes of size 1, and leading axes that one of them lacks."""
    full = draw(shapes)
    a = tuple(draw(st.sampled_from([n, 1])) for n in full)
    b = tuple(n if m == 1 else draw(st.sampled_from([n, 1])) for n, m in zip(full, a, strict=True))
    return a, b[draw(st.integers(0, len(b))) :]


BINARY = {
    "add": (ops.add, np.add),
    "sub": (ops.sub, np.subtract),
    "mul": (ops.mul, np.multiply),
    "div": (ops.div, np.divide),
}


@pytest.mark.parametrize("name", BINARY)
@given(pair=broadcast_pair(), seed=seeds)
def test_binary(name, pair, seed):
    op, numpy_op = BINARY[name]
    a, b = values(seed, *pair)
    b = np.where(np.abs(b) < 0.2, 0.5, b)  # away from a division by zero
    assert gradcheck(op, [a, b])
    assert np.array_equal(op(a, b).data, numpy_op(a, b))


@given(pair=broadcast_pair(), seed=seeds)
def test_pow(pair, seed):
    a, b = values(seed, *pair)
    assert gradcheck(ops.pow, [np.abs(a) + 0.3, b])


UNARY = {
    "neg": (ops.neg, lambda x: -x),
    "exp": (ops.exp, math.exp),
    "relu": (ops.relu, lambda x: x if x > 0 else 0.0),
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + math.exp(-x))),
    "tanh": (ops.tanh, math.tanh),
}


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes, seed=seeds)
def test_unary(name, shape, seed):
    op, scalar = UNARY[name]
    x = apart(seed, shape)
    assert gradcheck(op, [x])
    assert np.allclose(op(x).data, np.vectorize(scalar, otypes=[float])(x), rtol=1e-14)


@given(shape=shapes, seed=seeds)
def test_log(shape, seed):
    x = np.abs(apart(seed, shape)) + 0.2
    assert gradcheck(ops.log, [x])


def test_sigmoid_and_softmax_do_not_overflow():
    big = Tensor(np.array([[-1e4, 0.0, 1e4]]))
    with np.errstate(all="raise", under="ignore"):
        assert np.array_equal(ops.sigmoid(big).data, [[0, 0.5, 1]])
        assert np.array_equal(ops.softmax(big).data, [[0, 0, 1]])
        assert np.array_equal(ops.log_softmax(big).data, [[-2e4, -1e4, 0]])
        assert ops.cross_entropy(big, [0]).item() == 2e4


@given(shape=shapes.filter(len), seed=seeds, data=st.data())
def test_softmaxes(shape, seed, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    (x,) = values(seed, shape)
    for op in (ops.softmax, ops.log_softmax):
        assert gradcheck(lambda t, op=op: op(t, dim), [x])
    plain = np.exp(x) / np.exp(x).sum(dim, keepdims=True)
    assert np.allclose(ops.softmax(x, dim).data, plain, rtol=1e-13)
    assert np.allclose(ops.log_softmax(x, dim).data, np.log(plain), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
@given(shape=shapes, seed=seeds, keepdim=st.booleans(), data=st.data())
def test_reductions(name, shape, seed, keepdim, data):
    one = st.integers(-len(shape), len(shape) - 1)
    axes = st.lists(one, min_size=1, unique_by=lambda d: d % len(shape)) if shape else st.none()
    dim = data.draw(st.none() | axes | (one if shape else st.none()))
    op, x = getattr(ops, name), apart(seed, shape)
    dims = tuple(dim) if isinstance(dim, list) else dim
    expected = getattr(np, name)(x, axis=dims, keepdims=keepdim)
    result = op(x, dim, keepdim)
    assert result.shape == expected.shape
    assert np.allclose(result.data, expected, rtol=1e-14)
    assert gradcheck(lambda t: op(t, dim, keepdim), [x])


def test_max_shares_the_gradient_among_equal_maxima():
    x = Tensor(np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]), requires_grad=True)
    ops.max(x, 1).backward([1.0, 1.0])
    assert np.array_equal(x.grad, [[0, 0.5, 0.5], [1, 0, 0]])


@given(shape=shapes, seed=seeds, data=st.data())
def test_shape_operations(shape, seed, data):
    (x,) = values(seed, shape)
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    assert np.array_equal(ops.permute(x, *order).data, x.transpose(order))
    assert gradcheck(lambda t: ops.permute(t, order), [x])
    assert gradcheck(lambda t: ops.reshape(t, -1) * 2, [x])
    if len(shape) >= 2:
        i, j = order[:2]
        assert np.array_equal(ops.transpose(x, i, j).data, x.swapaxes(i, j))
        assert gradcheck(lambda t: ops.transpose(t, i, j), [x])
        assert ops.flatten(x, 1).shape == (shape[0], math.prod(shape[1:]))
        assert gradcheck(lambda t: ops.flatten(t, 1), [x])


@pytest.mark.parametrize(
    "index",
    [1, -1, slice(None, None, 2), (slice(1), 2), (None, 1), np.array([0, 2, 0, 0]), np.array([True, False, True])],
)
def test_getitem(index):
    (x,) = values(0, (3, 4))
    assert np.array_equal(ops.getitem(x, index).data, x[index])
    assert gradcheck(lambda t: t[index], [x])


def test_the_gradient_of_a_slice_keeps_the_sign_of_zero():
    """As in PyTorch: it is copied into zeros, not added to them."""
    t = Tensor(np.ones((2, 3)), requires_grad=True)
    t[:, 1:].backward(np.full((2, 2), -0.0))
    assert np.signbit(t.grad).tolist() == [[False, True, True]] * 2


@given(n=sizes, k=sizes, m=sizes, leading=broadcast_pair(), seed=seeds)
def test_matmul(n, k, m, leading, seed):
    a, b = values(seed, (*leading[0][-2:], n, k), (*leading[1][-2:], k, m))
    assert gradcheck(ops.matmul, [a, b])
    assert np.allclose(ops.matmul(a, b).data, np.einsum("...nk,...km->...nm", a, b), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("a", "b"), [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (4, 3, 2)), ((4, 2, 3), (3,))]
)
def test_matmul_with_vectors(a, b):
    x, y = values(1, a, b)
    assert np.allclose(ops.matmul(x, y).data, x @ y, rtol=1e-13)
    assert ops.matmul(x, y).shape == (x @ y).shape
    assert gradcheck(ops.matmul, [x, y])


@given(n=sizes, i=sizes, o=sizes, bias=st.booleans(), seed=seeds)
def test_linear(n, i, o, bias, seed):
    x, w, b = values(seed, (n, i), (o, i), (o,))
    assert gradcheck(ops.linear, [x, w, b] if bias else [x, w])
    expected = [[sum(x[r, k] * w[c, k] for k in range(i)) + (b[c] if bias else 0) for c in range(o)] for r in range(n)]
    assert np.allclose(ops.linear(x, w, b if bias else None).data, expected, rtol=1e-12, atol=1e-14)


# ---- convolution and pooling, against loops over every output pixel ----


@st.composite
def windows(draw, pool: bool = False):
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    limit = [k // 2 if pool else 2 for k in kernel]
    padding = tuple(draw(st.integers(0, m)) for m in limit)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 6)) for k, p in zip(kernel, padding, strict=True))
    return size, kernel, stride, padding


def each_window(x, kernel, stride, padding, fill):
    """(n, i, j, the window at output pixel i, j as (C, kh, kw)) for every image and pixel."""
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    for n in range(x.shape[0]):
        for i in range((x.shape[2] - kh) // sh + 1):
            for j in range((x.shape[3] - kw) // sw + 1):
                yield n, i, j, x[n, :, i * sh : i * sh + kh, j * sw : j * sw + kw]


@given(window=windows(), n=st.integers(1, 3), c=st.integers(1, 3), out=st.integers(1, 3), seed=seeds)
def test_conv2d(window, n, c, out, seed):
    size, kernel, stride, padding = window
    x, w, b = values(seed, (n, c, *size), (out, c, *kernel), (out,))
    assert gradcheck(lambda *t: ops.conv2d(*t, stride=stride, padding=padding), [x, w, b])
    y = ops.conv2d(x, w, b, stride, padding).data
    for m, i, j, patch in each_window(x, kernel, stride, padding, 0.0):
        assert np.allclose(y[m, :, i, j], [(patch * w[o]).sum() + b[o] for o in range(out)], rtol=1e-12, atol=1e-13)


@given(window=windows(pool=True), n=st.integers(1, 3), c=st.integers(1, 3), seed=seeds)
def test_pools(window, n, c, seed):
    size, kernel, stride, padding = window
    x = apart(seed, (n, c, *size))
    for op, reduce, fill in ((ops.max_pool2d, np.max, -np.inf), (ops.avg_pool2d, np.mean, 0.0)):
        assert gradcheck(lambda t, op=op: op(t, kernel, stride, padding), [x])
        y = op(x, kernel, stride, padding).data
        for m, i, j, patch in each_window(x, kernel, stride, padding, fill):
            assert np.allclose(y[m, :, i, j], reduce(patch, axis=(1, 2)), rtol=1e-13)


def test_pool_stride_defaults_to_the_window():
    assert ops.max_pool2d(np.ones((1, 1, 7, 7)), 3).shape == (1, 1, 2, 2)


def test_max_pool_of_an_image_that_is_changed_before_backward():
    """Where one window covers the image, the windows are no copy: the old gradient, or an error."""
    x = Tensor(np.array([[[[1.0, 2.0], [4.0, 3.0]]]]), requires_grad=True)
    loss = ops.max_pool2d(x, 2).sum()
    with no_grad():
        x += 1
    with contextlib.suppress(RuntimeError):
        loss.backward()
        assert np.array_equal(x.grad, [[[[0, 0], [1, 0]]]])


def test_max_pool_gives_a_ties_gradient_to_the_first():
    x = Tensor(np.zeros((1, 1, 2, 4)), requires_grad=True)
    ops.max_pool2d(x, 2).sum().backward()
    assert np.array_equal(x.grad, [[[[1, 0, 1, 0], [0, 0, 0, 0]]]])


# ---- batch norm, dropout, losses ----


@given(n=st.integers(2, 4), c=sizes, image=st.none() | st.tuples(sizes, sizes), training=st.booleans(), seed=seeds)
def test_batch_norm(n, c, image, training, seed):
    x, w, b, mean = values(seed, (n, c, *(image or ())), (c,), (c,), (c,))
    var = np.abs(mean) + 0.5

    def f(x, w, b):
        return ops.batch_norm(x, Tensor(mean.copy()), Tensor(var.copy()), w, b, training)

    assert gradcheck(f, [x, w, b])
    for k in range(c):
        v = x[:, k]
        m, s2 = (v.mean(), ((v - v.mean()) ** 2).mean()) if training else (mean[k], var[k])
        assert np.allclose(f(x, w, b).data[:, k], (v - m) / np.sqrt(s2 + 1e-5) * w[k] + b[k], rtol=1e-10, atol=1e-12)


def test_batch_norm_moves_its_running_statistics():
    (x,) = values(0, (8, 3))
    mean, var = Tensor(np.zeros(3)), Tensor(np.ones(3))
    ops.batch_norm(x, mean, var, training=True, momentum=0.1)
    assert np.allclose(mean.data, 0.1 * x.mean(0))
    assert np.allclose(var.data, 0.9 + 0.1 * x.var(0, ddof=1))


def test_batch_norm_needs_more_than_one_value_and_statistics():
    with pytest.raises(ValueError, match=r"more than one value.*\(1, 3\)"):
        ops.batch_norm(np.ones((1, 3)), training=True)
    with pytest.raises(ValueError, match="running_mean"):
        ops.batch_norm(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        ops.batch_norm(np.ones((2, 3, 4)), training=True)


@given(shape=shapes, seed=seeds, p=st.floats(0, 0.9))
def test_dropout(shape, seed, p):
    x = np.abs(apart(seed, shape)) + 1
    assert gradcheck(lambda t: ops.dropout(t, p, np.random.default_rng(seed)), [x])


def test_dropout_drops_the_share_it_is_told_and_keeps_the_mean():
    x = np.ones((200, 500))
    y = ops.dropout(x, 0.3, np.random.default_rng(0)).data
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.005)
    assert np.allclose(y[y != 0], 1 / 0.7)
    assert np.array_equal(y, ops.dropout(x, 0.3, np.random.default_rng(0)).data)
    for p in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"\[0, 1\)"):
            ops.dropout(x, p, np.random.default_rng(0))


@given(n=sizes, classes=st.integers(1, 5), seed=seeds, dtype=st.sampled_from([np.uint8, np.int32, np.int64]))
def test_cross_entropy(n, classes, seed, dtype):
    (logits,) = values(seed, (n, classes))
    labels = np.random.default_rng(seed).integers(0, classes, n).astype(dtype)
    assert gradcheck(lambda t: ops.cross_entropy(t, labels), [logits])
    plain = [-math.log(math.exp(z[k]) / sum(math.exp(v) for v in z)) for z, k in zip(logits, labels, strict=True)]
    assert ops.cross_entropy(logits, labels).item() == pytest.approx(sum(plain) / n, rel=1e-12, abs=1e-15)


@given(n=sizes, classes=st.integers(1, 5), seed=seeds, e=st.sampled_from([0.0, 0.1, 1.0]))
def test_label_smoothing_and_reductions(n, classes, seed, e):
    (logits,) = values(seed, (n, classes))
    labels = np.random.default_rng(seed).integers(0, classes, n)
    truth = (1 - e) * np.eye(classes)[labels] + e / classes
    losses = -(truth * np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))).sum(1)
    for reduction, wanted in (("mean", losses.mean()), ("sum", losses.sum()), ("none", losses)):
        how = {"reduction": reduction, "label_smoothing": e}
        assert np.allclose(ops.cross_entropy(logits, labels, **how).data, wanted, rtol=1e-12, atol=1e-14)
        assert gradcheck(lambda t, how=how: ops.cross_entropy(t, labels, **how), [logits])


@given(shape=shapes, seed=seeds)
def test_mse_loss(shape, seed):
    a, b = values(seed, shape, shape)
    assert gradcheck(ops.mse_loss, [a, b])
    assert ops.mse_loss(a, b).item() == pytest.approx(((a - b) ** 2).mean(), rel=1e-13)


# ---- errors name what is wrong, with the numbers ----

ERRORS = {
    r"add: shapes \(2, 3\) and \(2,\) do not broadcast": lambda: ops.add(np.ones((2, 3)), np.ones(2)),
    r"matmul: .*\(2, 3\) @ \(2, 3\)": lambda: ops.matmul(np.ones((2, 3)), np.ones((2, 3))),
    r"matmul of \(2, 1, 1\) @ \(3, 1, 1\), leading axes: shapes \(2,\) and \(3,\) do not": lambda: ops.matmul(
        np.ones((2, 1, 1)), np.ones((3, 1, 1))
    ),
    r"linear: x \(2, 3\) and weight \(4, 5\)": lambda: ops.linear(np.ones((2, 3)), np.ones((4, 5))),
    r"linear: bias \(5,\) must be \(4,\)": lambda: ops.linear(np.ones((2, 3)), np.ones((4, 3)), np.ones(5)),
    r"conv2d: x \(1, 2, 5, 5\) and weight \(3, 1, 3, 3\)": lambda: ops.conv2d(
        np.ones((1, 2, 5, 5)), np.ones((3, 1, 3, 3))
    ),
    r"conv2d: bias \(2,\)": lambda: ops.conv2d(np.ones((1, 1, 5, 5)), np.ones((3, 1, 3, 3)), np.ones(2)),
    r"\(3, 3\) is larger than the padded image \(2, 2\)": lambda: ops.conv2d(
        np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))
    ),
    r"stride \(0, 0\)": lambda: ops.conv2d(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)), stride=0),
    r"max_pool2d: x \(5, 5\)": lambda: ops.max_pool2d(np.ones((5, 5)), 2),
    r"padding \(2, 2\) must be at most half": lambda: ops.avg_pool2d(np.ones((1, 1, 5, 5)), 2, padding=2),
    r"6 values of shape \(2, 3\) do not fit shape \(4, -1\)": lambda: ops.reshape(np.ones((2, 3)), 4, -1),
    r"sum: dim 2 is out of range for 2 axes": lambda: ops.sum(np.ones((2, 3)), 2),
    r"label 7 at position 1 is not in \[0, 3\)": lambda: ops.cross_entropy(np.ones((2, 3)), [0, 7]),
    r"label -1 at position 0": lambda: ops.cross_entropy(np.ones((2, 3)), [-1, 0]),
    r"logits \(2, 3\) need labels of shape \(2,\), got \(3,\)": lambda: ops.cross_entropy(np.ones((2, 3)), [0, 1, 2]),
    r"prediction \(2,\) and target \(2, 1\)": lambda: ops.mse_loss(np.ones(2), np.ones((2, 1))),
}


@pytest.mark.parametrize("message", ERRORS)
def test_shape_errors(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()


def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="float64"):
        ops.cross_entropy(np.ones((2, 3)), np.array([0.0, 1.0]))
