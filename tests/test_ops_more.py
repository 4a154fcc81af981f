"""The rarely used operations: gradient against finite differences, value against NumPy."""

import numpy as np
import pytest

from minidl import Tensor, gradcheck, nn, ops

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
    "std": (lambda x: x.std(), lambda x: x.std(ddof=1)),
    "std of axes": (lambda x: x.std((0, -1), correction=0, keepdim=True), lambda x: x.std((0, 2), keepdims=True)),
    "norm": (lambda x: x.norm(), np.linalg.norm),
    "norm of an axis": (lambda x: ops.norm(x, dim=1, keepdim=True), lambda x: np.linalg.norm(x, axis=1, keepdims=True)),
    "maximum": (lambda x: ops.maximum(x, x[::-1] * 0.5), lambda x: np.maximum(x, x[::-1] * 0.5)),
    "minimum": (lambda x: ops.minimum(0.25, x), lambda x: np.minimum(0.25, x)),
    "cube": (lambda x: x**3, lambda x: x**3),
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


@pytest.mark.pytorch
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("call", [
    lambda f, x, y: f.maximum(x, y), lambda f, x, y: f.minimum(x, y), lambda f, x, y: (x * 0 + y[:1]).std(0),
    lambda f, x, y: x.std(1, correction=0), lambda f, x, y: (x - x).norm(), lambda f, x, y: (x[:2] * 0).norm(dim=1),
    lambda f, x, y: abs(x) ** 3, lambda f, x, y: x[::2, 1:] + y[::2, :1],
])  # fmt: skip
def test_ties_zeros_and_nan_have_pytorchs_values_and_gradients(call):
    """Where two are equal, a deviation or a norm is 0, a number is NaN or infinite."""
    torch = pytest.importorskip("torch")
    x = np.array([[0.0, 1, 2], [3, 3, 3], [-1, np.inf, 5], [2, -2, 0.5]])
    y = np.array([[0.0, 2, 1], [3, 4, np.nan], [-1, np.inf, -np.inf], [1, -2, 0.5]])
    here = [Tensor(a, requires_grad=True) for a in (x, y)]
    there = [torch.tensor(a, requires_grad=True) for a in (x, y)]
    found, wanted = call(ops, *here), call(torch, *there)
    np.testing.assert_allclose(found.numpy(), wanted.detach().numpy(), rtol=1e-12)
    found.sum().backward()
    wanted.sum().backward()
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(0 if a.grad is None else a.grad, 0 if b.grad is None else b.grad.numpy(), rtol=1e-12)


@pytest.mark.pytorch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_loss_of_yes_or_no_is_pytorchs(reduction):
    """At a logit of 0, where training begins; far out, where e^z overflows; and with soft targets."""
    torch = pytest.importorskip("torch")
    z = np.array([[0.0, 0, 0], [800, -800, 3], [-0.5, 2, 1e-9]])
    y = np.array([[0.0, 1, 0.3], [0, 1, 0.9], [1, 0, 0.5]])
    here, there = Tensor(z, requires_grad=True), torch.tensor(z, requires_grad=True)
    target, theirs = Tensor(y, requires_grad=True), torch.tensor(y, requires_grad=True)
    found = nn.BCEWithLogitsLoss(reduction=reduction)(here, target)
    wanted = torch.nn.BCEWithLogitsLoss(reduction=reduction)(there, theirs)
    np.testing.assert_allclose(found.numpy(), wanted.detach().numpy(), rtol=1e-12)
    found.sum().backward()
    wanted.sum().backward()
    np.testing.assert_allclose(here.grad, there.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(target.grad, theirs.grad.numpy(), rtol=1e-12)


def test_an_index_or_a_mask_may_change_afterwards():
    p, rows, mask = Tensor(np.arange(4.0), requires_grad=True), [0, 1], np.array([True, False, True, False])
    picked, chosen = p[rows], ops.where(mask, p, 0)
    rows[0], mask[:] = 3, ~mask
    (picked.sum() + 10 * chosen.sum()).backward()
    np.testing.assert_array_equal(p.grad, [11, 1, 10, 0])


def test_stack_is_one_operation_and_names_itself():
    parts = [Tensor(X, requires_grad=True) for _ in range(3)]
    for dim in (0, 1, -1):
        y = ops.stack(parts, dim)
        assert [y.node.name, *(p.node for p in parts)] == ["stack", None, None, None]
        assert all(parent is part for (parent, _), part in zip(y.node.edges, parts, strict=True))
        np.testing.assert_array_equal(y.numpy(), np.stack([X] * 3, dim))
    with pytest.raises(ValueError, match="stack: dim 9 is out of range for"):
        ops.stack(parts, 9)


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
    "norm: p must be 2, got 1; an axis is dim": lambda: ops.norm(X, 1),
    r"logits \(2, 3, 4\) and target \(3, 4\) must": lambda: ops.binary_cross_entropy_with_logits(X, X[0]),
    "clamp: at least one": lambda: ops.clamp(X),
    "clamp: max must be a number": lambda: ops.clamp(X, 0, Tensor(X)),
    "where: the condition must be booleans": lambda: ops.where(X, X, X),
    r"where: shapes \(2, 3, 4\) and \(5,\)": lambda: ops.where(X > 0, X, np.ones(5)),
    r"where \(condition, a, b\): shapes \(3,\), \(2, 3, 4\) and \(\) do not": lambda: ops.where(X[0, :, 0] > 0, X, 0),
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
