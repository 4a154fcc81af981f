"""Public tests of A1, small enough to check by hand. The hidden tests cover all functions, with more inputs."""

import numpy as np
import public

from minidl import ops
from minidl.gradcheck import gradcheck
from minidl.tensor import Tensor, record


def gradients(op, *arrays, **options):
    """The value of an operation, and the gradients of the sum of its outputs."""
    tensors = [Tensor(np.array(a, dtype=np.float64), requires_grad=True) for a in arrays]
    out = op(*tensors, **options)
    out.backward(np.ones(out.shape))
    return out.data, *(t.grad for t in tensors)


def same(got, wanted):
    public.same(got, wanted, rtol=1e-12, atol=1e-12)


def test_backward_chain():
    """backward: a chain"""
    x = Tensor(np.array([3.0]), requires_grad=True)
    double = record("double", 2 * x.data, (x, lambda g: 2 * g))
    record("times five", 5 * double.data, (double, lambda g: 5 * g)).backward()
    same(x.grad, [10.0])


def test_backward_diamond():
    """backward: y = a + 3a with a = 2x has the slope 8"""
    x = Tensor(np.array([1.0]), requires_grad=True)
    a = record("double", 2 * x.data, (x, lambda g: 2 * g))
    b = record("triple", 3 * a.data, (a, lambda g: 3 * g))
    record("add", a.data + b.data, (a, lambda g: g), (b, lambda g: g)).backward()
    same(x.grad, [8.0])


def test_broadcast():
    """_fit: a scalar broadcast to six elements gets the sum of six gradients"""
    _, _, b = gradients(ops.add, np.zeros((2, 3)), 1.0)
    same(b, 6.0)


def test_mul():
    """mul"""
    y, a, b = gradients(ops.mul, [2.0, 3.0], [5.0, 7.0])
    same(y, [10, 21])
    same(a, [5, 7])
    same(b, [2, 3])


def test_div():
    """div"""
    y, a, b = gradients(ops.div, [6.0], [3.0])
    same([y, a, b], [[2], [1 / 3], [-6 / 9]])


def test_relu():
    """relu: no gradient at 0"""
    y, x = gradients(ops.relu, [-1.0, 0.0, 2.0])
    same(y, [0, 0, 2])
    same(x, [0, 0, 1])


def test_sigmoid():
    """sigmoid at 0: value 1/2, slope 1/4"""
    y, x = gradients(ops.sigmoid, [0.0])
    same([y, x], [[0.5], [0.25]])


def test_mean():
    """mean along dim=1: each of three elements gets 1/3"""
    y, x = gradients(ops.mean, [[1.0, 2.0, 6.0]], dim=1)
    same(y, [3])
    same(x, [[1 / 3] * 3])


def test_max():
    """max: two tied maxima share the gradient"""
    y, x = gradients(ops.max, [1.0, 4.0, 4.0])
    same(y, 4)
    same(x, [0, 0.5, 0.5])


def test_getitem():
    """x[[0, 0, 1]]: element 0 gets two gradients"""
    _, x = gradients(lambda x: ops.getitem(x, np.array([0, 0, 1])), [1.0, 2.0, 3.0])
    same(x, [2, 1, 0])


def test_matmul():
    """matmul"""
    y, a, b = gradients(ops.matmul, [[1.0, 2.0]], [[3.0], [4.0]])
    same(y, [[11]])
    same(a, [[3, 4]])
    same(b, [[1], [2]])


def test_linear():
    """linear, against finite differences (see minidl/gradcheck.py)"""
    rng = np.random.default_rng(0)
    gradcheck(ops.linear, [rng.normal(size=shape) for shape in ((4, 3), (2, 3), (2,))])


def test_softmax():
    """log_softmax of large inputs stays finite"""
    y, _ = gradients(ops.log_softmax, [[1000.0, 1000.0]])
    same(y, [[-np.log(2)] * 2])


def test_cross_entropy():
    """cross_entropy of equal logits: log 2, and the gradient is (p - target) / N"""
    y, x = gradients(lambda x: ops.cross_entropy(x, [0, 1]), [[0.0, 0.0], [0.0, 0.0]])
    same(y, np.log(2))
    same(x, [[-0.25, 0.25], [0.25, -0.25]])


def test_cross_entropy_sum():
    """cross_entropy, reduction="sum": 2 log 2 for two examples, and the gradient is p - target"""
    y, x = gradients(lambda x: ops.cross_entropy(x, [0, 1], reduction="sum"), [[0.0, 0.0], [0.0, 0.0]])
    same(y, 2 * np.log(2))
    same(x, [[-0.5, 0.5], [0.5, -0.5]])


def test_cross_entropy_smoothed():
    """cross_entropy, label_smoothing=0.5: the target is 3/4 at the label, 1/4 at the other class"""
    y, x = gradients(lambda x: ops.cross_entropy(x, [0], label_smoothing=0.5), [[0.0, 0.0]])
    same(y, np.log(2))
    same(x, [[-0.25, 0.25]])


if __name__ == "__main__":
    public.run(globals())
