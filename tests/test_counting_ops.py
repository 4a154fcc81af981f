"""Every operation and layer on a device that is not the CPU: forward, gradient, and nothing read from it."""

from typing import Any

import numpy as np
import pytest

from minidl import Tensor
from minidl.fast.gpu.products import _laid_out, _layout
from tests import device_checks as checks
from tests.counting import Counting


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", checks.OPS)
def test_an_operation_is_the_cpus(name, dtype, device):
    checks.check_op(name, device.backend.name, dtype)


@pytest.mark.parametrize("name", checks.LAYERS)
def test_a_layer_is_the_cpus(name, device):
    checks.check_layer(name, device.backend.name)


@pytest.mark.parametrize("name", checks.OPS)
def test_no_operation_reads_from_the_device(name, device: Counting):
    function, shapes = checks.OPS[name]
    arrays = [device.from_host(a) for a in checks.inputs(name, shapes, "float32")]
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    function(*tensors).sum().backward()  # a kernel is checked before its first use
    with device.forbid_reads(), device.measure() as traffic:
        function(*tensors).sum().backward()
    sends = {"dropout": 1, "getitem list": 2, "cross_entropy, list": 1}  # the mask; the list, twice; the labels
    labels = name.startswith("cross_entropy")
    assert traffic.uploads <= sends.get(name, 1 if labels else 0)


@pytest.mark.parametrize("part", [np.s_[:, :], np.s_[::-1], np.s_[:, ::2], np.s_[::2], np.s_[:, :1], np.s_[:1, ::-1]])
def test_a_product_reads_a_matrix_as_it_lies(part: Any) -> None:
    """What cuBLAS is told of a matrix, and of its transpose, leads to its numbers."""
    for a in (np.arange(20.0).reshape(4, 5)[part], np.arange(20.0).reshape(4, 5)[part].T):
        there = _laid_out(a)
        turned, step = _layout(there)
        strides = (8, 8 * step) if turned else (8 * step, 8)
        assert (np.lib.stride_tricks.as_strided(there, a.shape, strides) == a).all()
