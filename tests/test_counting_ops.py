"""Every operation and layer on a device that is not the CPU: forward, gradient, and nothing read from it."""

import pytest

from minidl import Tensor
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
