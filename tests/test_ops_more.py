"""The rarely used operations: gradient against finite differences, value against NumPy."""

import numpy as np
import pytest

from minidl import Tensor, gradcheck, ops

X = np.random.default_rng(0).permutation(24).reshape(2, 3, 4) * 0.2 - 2.3  # distinct, none at 0 or at a limit below

UNARY = {
    "sqrt": (lambda x: ops.sqrt(x * x), np.abs),
    "abs": (abs, np.abs),
    "clamp": (lambda x: x.clamp(-1.0, 1.6), lambda x: x.clip(-1.0, 1.6)),
    "clamp from below": (lambda x: x.clamp(min=0), lambda x: x.clip(0)),
    "clamp from above": (lambda x: x.clamp(max=np.float32(0)), lambda x: x.clip(None, 0)),
    "min": (lambda x: x.min(), np.min),
    "min of an axis": (lambda x: x.min(1, keepdim=True), lambda x: x.min(1, keepdims=True)),
    "var": (lambda x: x.var(), lambda x: x.var(ddof=1)),
    "var of axes": (lambda x: x.var((0, -1), correction=0, keepdim=True), lambda x: x.var((0, 2), keepdims=True)),
    "where": (lambda x: ops.where(x > 0, x, 2 * x), lambda x: np.where(x > 0, x, 2 * x)),
    "where with numbers": (lambda x: ops.where(x.data > 0, 1, x), lambda x: np.where(x > 0, 1, x)),
    "cat": (lambda x: ops.cat([x, 2 * x[:, :1], x], 1), lambda x: np.concatenate([x, 2 * x[:, :1], x], 1)),
    "stack": (lambda x: ops.stack([x, 2 * x], dim=-1), lambda x: np.stack([x, 2 * x], -1)),
    "squeeze": (lambda x: x[:, :1].squeeze(), lambda x: x[:, 0]),
    "squeeze an axis": (lambda x: x[:1, :1].squeeze((1, 2)), lambda x: x[:1, 0]),
    "unsqueeze": (lambda x: x.unsqueeze(-1).unsqueeze(0), lambda x: x[None, ..., None]),
    "view": (lambda x: x.view(4, -1), lambda x: x.reshape(4, -1)),
}


@pytest.mark.parametrize("name", UNARY)
def test_value_and_gradient(name):
    op, numpy_op = UNARY[name]
    np.testing.assert_allclose(op(Tensor(X)).data, numpy_op(X), rtol=1e-14)
    assert op(Tensor(X)).shape == numpy_op(X).shape
    assert gradcheck(op, [X])


def test_argmax():
    for dim, keepdim in ((None, False), (1, False), (-1, True), (None, True)):
        np.testing.assert_array_equal(Tensor(X).argmax(dim, keepdim), X.argmax(dim, keepdims=keepdim))
    labels = ops.argmax(X, dim=np.int64(1))
    assert labels.dtype.kind == "i"
    assert int(Tensor([1.0, 3.0, 3.0]).argmax()) == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_at_corners_the_gradients_are_pytorchs():
    x = Tensor(np.array([-1.0, 0.0, 2.0, np.nan]), requires_grad=True)
    (abs(x) + x.clamp(0, 2)).sum().backward()
    np.testing.assert_array_equal(x.grad, [-1, 1, 2, 0])
    y = Tensor(np.array([0.0, 4.0]), requires_grad=True)
    ops.sqrt(y).sum().backward()
    np.testing.assert_array_equal(y.grad, [np.inf, 0.25])
    assert np.isnan(Tensor(np.ones(1)).var().item())


ERRORS = {
    "clamp: at least one": lambda: ops.clamp(X),
    "clamp: max must be a number": lambda: ops.clamp(X, 0, Tensor(X)),
    "where: the condition must be booleans": lambda: ops.where(X, X, X),
    r"where: shapes \(2, 3, 4\) and \(5,\)": lambda: ops.where(X > 0, X, np.ones(5)),
    r"cat: shapes \[\(2, 3, 4\), \(3,\)\]": lambda: ops.cat([X, X[0, :, 0]]),
    "cat: give a list": lambda: ops.cat(Tensor(X)),
    "cat: the list of Tensors is empty": lambda: ops.cat([]),
    "cat: dim 3 is out of range for 3 axes": lambda: ops.cat([X, X], 3),
    "stack: shapes": lambda: ops.stack([X, X[0]]),
    "squeeze: dim 4 is out of range": lambda: ops.squeeze(X, 4),
    "unsqueeze: dim 5 is out of range for 4 axes": lambda: ops.unsqueeze(X, 5),
    "argmax: dim 3": lambda: ops.argmax(X, 3),
    "var: dim 3": lambda: ops.var(X, 3),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises((TypeError, ValueError), match=message):
        ERRORS[message]()
