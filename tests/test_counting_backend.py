"""What a user without a working GPU reads, with fakes of CuPy: one line that says what is wrong and what to do."""

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from minidl import DeviceError, Tensor, backend, ops
from minidl import train as program
from minidl.optim import Adam
from tests.commands import tiny_dataset


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    """CuPy's is a MemoryError too."""


def cupy(version="14.2.0", count=1, error=None, compute_error=None):
    """A module that has what the backend asks CuPy for."""

    def get_device_count():
        if error:
            raise CUDARuntimeError(error)
        return count

    def ones(shape):
        if compute_error:
            raise compute_error
        return np.ones(shape)

    runtime = SimpleNamespace(getDeviceCount=get_device_count, CUDARuntimeError=CUDARuntimeError)
    return SimpleNamespace(
        __version__=version, cuda=SimpleNamespace(runtime=runtime), ones=ones, ndarray=type("ndarray", (), {}),
        asarray=np.asarray, asnumpy=np.asarray,
    )  # fmt: skip


CASES = {
    "no CuPy": (None, ["needs CuPy, which is not installed", 'pip install "cupy-cuda12x[ctk]"', "cupy-cuda13x"]),
    "too old": (cupy(version="13.6.0"), ["needs CuPy 14 or later, this is 13.6.0", "pip install"]),
    "no or old driver": (
        cupy(error="cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"),
        ["no NVIDIA driver here, or it is older than CuPy's CUDA", "update the driver", "--device cpu"],
    ),
    "no GPU": (
        cupy(error="cudaErrorNoDevice: no CUDA-capable device is detected"),
        ["finds no NVIDIA GPU", "cudaErrorNoDevice", "--device cpu"],
    ),
    "none of zero": (cupy(count=0), ["finds no NVIDIA GPU", "--device cpu"]),
    "no libraries": (
        cupy(compute_error=ImportError("libcublas.so.12: cannot open shared object file")),
        ["there is a GPU, but CuPy can't compute on it", "libcublas.so.12", "libraries may be missing"],
    ),
    "full": (cupy(compute_error=OutOfMemoryError("Out of memory")), ["all its memory is in use", "nvidia-smi"]),
}  # fmt: skip


def install(monkeypatch, module):
    monkeypatch.setattr(backend, "_loaded", {"cpu": backend.CPU})
    monkeypatch.setitem(sys.modules, "cupy", module)  # None: importing it raises ModuleNotFoundError


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said_in_one_line(name, monkeypatch, capsys):
    module, words = CASES[name]
    install(monkeypatch, module)
    with pytest.raises(DeviceError) as caught:
        backend.get_backend("gpu")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert backend.get_backend("auto") is backend.CPU
    assert program.main(["--device", "gpu", "--dataset", "mnist5k"]) == 2
    assert capsys.readouterr().err == f"minidl.train: error: {message}\n"


def test_a_broken_import_is_told_in_one_line(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise ImportError("\n====\nFailed to import CuPy.\n\nOriginal error: libcuda.so.1\n====")

    install(monkeypatch, None)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(DeviceError, match=r"can't be imported \(Failed to import CuPy. Original error: libcuda.so.1\)"):
        backend.get_backend("gpu")


def test_two_wheels_are_named(monkeypatch, tmp_path):
    """By what pip leaves beside a package: reading all packages' metadata would cost each training 0.1 s and more."""
    for name in ("numpy-2.4.6", "cupy_cuda13x-14.0.1", "cupy_cuda12x-14.0.1", "cupyx_toys-1.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, cupy())
    with pytest.raises(DeviceError, match=r"cupy-cuda12x and cupy-cuda13x are both installed.* pip uninstall cupy-"):
        backend.get_backend("gpu")


def test_a_folder_that_cannot_be_entered_is_passed_over(monkeypatch):
    """As import does. One on PYTHONPATH, as another user's, ended trainings in a traceback; so does a name too long."""
    monkeypatch.syspath_prepend("x" * 300)
    install(monkeypatch, cupy())
    assert backend.get_backend("gpu").name == "gpu"


def test_a_gpu_that_works_is_taken(monkeypatch):
    install(monkeypatch, cupy())
    gpu = backend.get_backend("auto")
    assert gpu.name == "gpu"
    assert gpu.kernels is backend.GPU_KERNELS
    assert {"rule", "linear", "relu", "conv2d", "max_pool2d", "cross_entropy"} <= set(gpu.kernels)


def test_a_number_does_not_look_for_a_gpu(monkeypatch):
    monkeypatch.setattr(
        backend, "get_backend", lambda name=None: pytest.fail("looked for one") if name else backend.CPU
    )
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got float"):
        backend.backend_of(2.0)


# ---- memory ----


@pytest.mark.parametrize("when", ["data", "step"])
def test_memory_that_is_used_up_ends_a_run_with_one_line(when, tmp_path, monkeypatch, capsys, device):
    data = tiny_dataset(tmp_path / "data")
    full = OutOfMemoryError("Out of memory allocating 7,340,032 bytes\n(allocated so far: 512 bytes)")

    def refuse(*args, **kwargs):
        raise full

    if when == "data":
        monkeypatch.setitem(backend._loaded, "counting", replace(device.backend, from_host=refuse))
    else:
        monkeypatch.setattr(device, "outside", after(3000, refuse, device.outside))
    args = ["--dataset", data, "--device", "counting", "--batch-size", 10, "--model", "linear", "--out", tmp_path / "r"]
    assert program.main([str(a) for a in args]) == 1
    error = capsys.readouterr().err.split("\r")[-1]
    message = error[error.index("minidl.train: error: ") :]
    assert message.startswith("minidl.train: error: out of memory (Out of memory allocating 7,340,032 bytes (allocated")
    assert "smaller --batch-size" in message
    assert message.count("\n") == 1
    assert ("The last checkpoint is in" in message) == (when == "step")


def test_memory_that_is_used_up_without_a_word():
    """As Python itself does: no empty brackets."""
    assert program.out_of_memory(MemoryError()).startswith("out of memory. Try a smaller --batch-size")


def after(n, then, before):
    """A function that is `before` for n calls and `then` afterwards."""
    calls = [0]

    def function(*args, **kwargs):
        calls[0] += 1
        return (before if calls[0] <= n else then)(*args, **kwargs)

    return function


# ---- a kernel that can't be trusted ----


class Spoilt:
    def __init__(self, module, change):
        self.module, self.change = module, change

    def get_function(self, name):
        return self.change(self.module.get_function(name))


def spoil(monkeypatch, device, change):
    """Let the device's kernels go wrong."""
    original = type(device.xp).__getattr__

    def getattribute(module, name):
        thing = original(module, name)
        return (lambda *args, **kw: Spoilt(thing(*args, **kw), change)) if name == "RawModule" else thing

    monkeypatch.setattr(type(device.xp), "__getattr__", getattribute)


@pytest.mark.parametrize("fault", ["does not compile", "computes nonsense"])
def test_a_kernel_that_fails_its_check_is_left_out(fault, monkeypatch, device):
    if not device.backend.kernels:
        pytest.skip("this device has none")

    def change(kernel):
        def run(grid, block, args):
            if fault == "does not compile":
                raise RuntimeError("kern.cu(7): error:\n identifier is undefined")
            kernel(grid, block, args)
            args[0][...] = 7  # its first output

        return run

    spoil(monkeypatch, device, change)
    logits, labels = np.random.default_rng(0).standard_normal((6, 4)), np.arange(6) % 4

    def loss_and_step(where):
        x = Tensor(backend.get_backend(where).from_host(logits), requires_grad=True)
        optimizer = Adam([x])
        loss = ops.cross_entropy(x, backend.get_backend(where).from_host(labels))
        loss.backward()
        optimizer.step()
        return loss.item(), x.numpy()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, weights = loss_and_step("counting")
        loss_and_step("counting")
    said = [str(w.message) for w in caught]
    assert [s.split(" is not used: ")[0] for s in said] == [
        "the GPU kernel of cross_entropy", "the GPU kernel of the update rule 'adam'"
    ]  # fmt: skip
    assert all("\n" not in s for s in said)
    wanted, wanted_weights = loss_and_step("cpu")
    assert found == pytest.approx(wanted)
    np.testing.assert_allclose(weights, wanted_weights, rtol=1e-12)
