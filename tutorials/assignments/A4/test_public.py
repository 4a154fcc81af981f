"""Public tests of A4, small enough to check by hand. The hidden tests use strides, padding and several channels."""

import numpy as np
import public

from minidl.gradcheck import gradcheck
from minidl.ops_conv import _windows, avg_pool2d, conv2d, max_pool2d
from minidl.tensor import Tensor

IMAGE = np.array([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])  # (1, 1, 3, 3)


def gradients(op, *arrays, **options):
    """The value of an operation, and the gradients of the sum of its outputs."""
    tensors = [Tensor(np.array(a, dtype=np.float64), requires_grad=True) for a in arrays]
    out = op(*tensors, **options)
    out.backward(np.ones(out.shape))
    return out.data, *(t.grad for t in tensors)


def same(got, wanted):
    public.same(got, wanted, rtol=1e-12)


def test_windows():
    """_windows: the four 2 x 2 windows of a 3 x 3 image, without a copy"""
    view = _windows(IMAGE, (2, 2), (1, 1))
    assert view.shape == (1, 1, 2, 2, 2, 2)
    same(view[0, 0, 1, 0], [[4, 5], [7, 8]])
    assert np.shares_memory(view, IMAGE)


def test_conv():
    """conv2d: the filter [[1, 0], [0, 2]] gives 1 + 2 * 5 = 11 at the first position"""
    y, _, _ = gradients(conv2d, IMAGE, [[[[1.0, 0], [0, 2]]]])
    same(y, [[[[11, 14], [20, 23]]]])


def test_conv_filters():
    """conv2d: a weight's gradient is the sum of the pixels that it was multiplied by"""
    _, _, w, b = gradients(conv2d, IMAGE, [[[[1.0, 0], [0, 2]]]], [0.0])
    same(w, [[[[12, 16], [24, 28]]]])
    same(b, [4])


def test_conv_images():
    """conv2d: a pixel's gradient is the sum of the weights that it was multiplied by"""
    _, x, _ = gradients(conv2d, IMAGE, [[[[1.0, 0], [0, 2]]]])
    same(x, [[[[1, 1, 0], [1, 3, 2], [0, 2, 2]]]])


def test_conv_against_finite_differences():
    """conv2d with stride and padding, against finite differences (see minidl/gradcheck.py)"""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((2, 2, 5, 4), (3, 2, 3, 2), (3,))]
    gradcheck(lambda x, w, b: conv2d(x, w, b, stride=2, padding=1), arrays)


def test_max_pool():
    """max_pool2d with stride 1: 5, 6, 8 and 9 are each the maximum of one window"""
    y, x = gradients(max_pool2d, IMAGE, kernel_size=2, stride=1)
    same(y, [[[[5, 6], [8, 9]]]])
    same(x, [[[[0, 0, 0], [0, 1, 1], [0, 1, 1]]]])


def test_avg_pool():
    """avg_pool2d with stride 1: the pixel in the middle is in all four windows"""
    y, x = gradients(avg_pool2d, IMAGE, kernel_size=2, stride=1)
    same(y, [[[[3, 4], [6, 7]]]])
    same(x, [[[[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]]])


if __name__ == "__main__":
    public.run(globals())
