"""The counting device itself: it refuses what CuPy refuses, and counts what crosses."""

import numpy as np
import pytest

from minidl import backend, reference_only
from minidl.backend import GPU_KERNELS
from minidl.fast.gpu.launch import Kernels
from tests import cupy_names
from tests import device_checks as checks
from tests.counting import Counting, HostRead
from tests.counting_kernels import COMPILER

FAR = Counting()
ARRAY = FAR.from_host(np.arange(6.0).reshape(2, 3))
HERE = np.ones((2, 3))


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: ARRAY + HERE, lambda: HERE + ARRAY, lambda: HERE * ARRAY, lambda: ARRAY @ HERE.T, lambda: np.exp(ARRAY),
        lambda: np.asarray(ARRAY), lambda: np.maximum(ARRAY, 0), lambda: FAR.xp.add(ARRAY, HERE),
        lambda: FAR.xp.where(HERE > 0, ARRAY, ARRAY), lambda: ARRAY + np.array(2.0), lambda: ARRAY.dot(HERE.T),
        lambda: ARRAY.__iadd__(HERE), lambda: ARRAY.__setitem__(0, HERE[0]), lambda: HERE.__setitem__(0, ARRAY[0]),
        lambda: FAR.xp.multiply(ARRAY, 2, out=HERE), lambda: HERE.__iadd__(ARRAY),
        lambda: ARRAY + Counting().from_host(HERE),
    ],
)  # fmt: skip
def test_arrays_of_two_devices_do_not_mix(mixed):
    with pytest.raises((TypeError, ValueError)):
        mixed()


@pytest.mark.parametrize(
    "missing",
    [
        lambda xp, a: xp.sum(a, where=a > 0), lambda xp, a: a.sum(initial=0), lambda xp, a: a.max(initial=0),
        lambda xp, a: xp.einsum("ij,kj->ik", a, a, out=a), lambda xp, a: xp.add(a, 1, where=a > 0),
        lambda xp, a: xp.add.reduce, lambda xp, a: xp.add.outer, lambda xp, a: xp.nanquantile(a),
        lambda xp, a: xp.random, lambda xp, a: xp.vecdot(a, a), lambda xp, a: xp.multiply.at, lambda xp, a: a.ctypes,
        lambda xp, a: xp.lib.stride_tricks.sliding_window_view, lambda xp, a: a.astype("f4", order="C", foo=1),
        lambda xp, a: a.setflags(write=False), lambda xp, a: xp.matrix, lambda xp, a: xp.ascontiguousarray(a, like=a),
        lambda xp, a: a.mean(where=True), lambda xp, a: xp.full((), 1.0, like=a),
    ],
)  # fmt: skip
def test_what_cupy_lacks_is_refused(missing):
    with pytest.raises((AttributeError, TypeError)):
        missing(FAR.xp, ARRAY)


@pytest.mark.parametrize(
    "index",
    [lambda a: [1, 2, 3][a], lambda a: range(a), lambda a: np.zeros(a), lambda a: bytes(3)[a], lambda a: "a" * a],
)
def test_a_value_of_the_device_is_no_index_of_pythons(index):
    with pytest.raises((TypeError, HostRead)), FAR.forbid_reads():
        index(FAR.from_host(np.array(1)))


READS = {
    "float": float, "int": int, "bool": bool, "item": lambda a: a.item(), "tolist": lambda a: a.tolist(), "print": str,
    "format": lambda a: f"{a:.2f}", "if": lambda a: 1 if a > 0 else 2, "max": lambda a: max(a, a + 1),
    "assert ==": lambda a: a == a and 1, "to host": FAR.to_host, "in": lambda a: 1 in a.reshape(1),
    "get": lambda a: a.get(), "mask": lambda a: a.reshape(1)[a.reshape(1) > 0],
    "nonzero": lambda a: a.reshape(1).nonzero(),
    "where": lambda a: FAR.xp.flatnonzero(a.reshape(1)),
    "bincount": lambda a: FAR.xp.bincount(a.reshape(1).astype(int)),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_reading_a_value_counts_and_can_be_forbidden(name):
    one = FAR.from_host(np.array(1.5))
    with FAR.measure() as traffic:
        READS[name](one)
    assert traffic.downloads == 1
    assert traffic.download_bytes > 0
    with pytest.raises(HostRead), FAR.forbid_reads():
        READS[name](one)


def test_what_is_sent_counts_with_its_bytes():
    with FAR.measure() as traffic:
        a = FAR.from_host(np.zeros((3, 4), np.float32))
        FAR.xp.asarray([1.0, 2.0])
        FAR.xp.array(3, dtype=np.int32)
        a[[0, 2]]
        FAR.xp.asarray(a)
    assert (traffic.uploads, traffic.upload_bytes, traffic.downloads) == (4, 48 + 16 + 8 + 16, 0)


def test_results_are_cupys():
    total = ARRAY.sum()
    assert type(total) is FAR.array_type
    assert total.shape == ()
    assert (ARRAY.astype(np.float32) * 2.5).dtype == np.float32  # Python's numbers are weak ...
    assert (ARRAY.astype(np.float32) * np.float64(2.5)).dtype == np.float64  # ... NumPy's are not
    view = ARRAY[1]
    view += 10  # a view: the array changes with it
    assert FAR.to_host(ARRAY).tolist() == [[0, 1, 2], [13, 14, 15]]
    view -= 10


def test_what_happens_on_the_host_does_not_show_on_the_device():
    here = np.zeros(3)
    there = FAR.from_host(here)
    here += 1
    FAR.to_host(there)[0] = 5
    assert FAR.to_host(there).tolist() == [0, 0, 0]


def test_the_list_of_names_is_that_of_the_installed_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: nothing to compare the list with")
    text = cupy_names.FILE.read_text()
    if cupy.__version__ != text.split("\n")[0].split()[-1]:
        pytest.skip(f"the list is of another version than CuPy {cupy.__version__}")
    assert cupy_names.derive(cupy) == text


# ---- kernels ----


SOURCE = """
KERNEL scale(T *y, const T *x, double factor, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * factor;
}
KERNEL turned(T *y, const T *x) {  // each block's numbers in the opposite order: threads wait for each other
    SHARED T all[BLOCK];
    all[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    SYNC
    y[blockIdx.x * blockDim.x + threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}
"""


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_a_kernel_is_checked_as_cupy_checks_it():
    kernels, out = Kernels(FAR.xp, np.float64, SOURCE), FAR.xp.zeros((2, 3), np.float64)
    kernels("scale", 6, out, ARRAY.astype(np.float64), 2.0, 6)
    assert FAR.to_host(out).tolist() == [[0, 2, 4], [6, 8, 10]]
    with pytest.raises(TypeError, match="Unsupported"):
        kernels("scale", 6, out, HERE, 2.0, 6)
    with pytest.raises(AssertionError, match="not contiguous"):
        kernels("scale", 6, out.T, ARRAY, 2.0, 6)
    with pytest.raises(AssertionError, match="1024 threads"):
        kernels("scale", ((1,), (2048,)), out, ARRAY, 2.0, 6)
    with pytest.raises(RuntimeError, match="undeclared"):
        Kernels(FAR.xp, np.float64, "KERNEL broken(T *y) { y[0] = nothing; }")


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_threads_that_wait_see_what_the_others_wrote():
    kernels, out = Kernels(FAR.xp, np.float32, SOURCE), FAR.xp.zeros(8, np.float32)
    kernels("turned", ((2,), (4,)), out, FAR.from_host(np.arange(8, dtype=np.float32)))
    assert FAR.to_host(out).tolist() == [3, 2, 1, 0, 7, 6, 5, 4]


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("name", ["linear", "relu", "cross_entropy", "conv2d", "max_pool2d"])
def test_each_operation_has_a_kernel_and_uses_it(name):
    """So that the tests with kernels are about kernels: the reference alone would pass them too."""
    device, calls = Counting(kernels=GPU_KERNELS), []
    kernel = GPU_KERNELS[name]
    function, sizes = checks.OPS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backend._loaded, "counting", device.backend)
        patch.setitem(GPU_KERNELS, name, lambda *args, **kw: calls.append(kernel(*args, **kw)) or calls[-1])
        arrays = checks.inputs(name, sizes, "float32")
        checks.forward_backward(function, arrays, "counting")
        assert len(calls) == 1
        assert calls[0] is not NotImplemented
        with reference_only():
            checks.forward_backward(function, arrays, "counting")
        assert len(calls) == 1
