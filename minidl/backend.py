"""Which arrays we compute on: NumPy's on the CPU, CuPy's on the GPU.

CuPy copies NumPy's interface, so the rest of the framework asks here for the array module, calls it `xp`,
and writes each formula once: `xp.exp(x)` runs wherever `x` lives. This is the only file that imports CuPy.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, wraps
from inspect import signature
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from minidl import no_gpu
from minidl.refuse import refuse
from minidl.telling import Function, block, holding

# A NumPy array or a CuPy array. CuPy is optional, so its type can't be named here.
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Kernels: TypeAlias = dict[str, Callable[..., Any]]


class DeviceError(RuntimeError):
    """The requested device is not available. The message says what to install or which name to use."""


@dataclass(frozen=True)
class Backend:
    """A device: its name, its array module, and the transfers in both directions.

    name        what `--device` and `Tensor.to` take: "cpu" or "gpu"
    xp          the array module, `numpy` or `cupy`
    array_type  the type of its arrays
    from_host   NumPy array -> array on this device
    to_host     array on this device -> NumPy array (waits for the device)
    kernels     faster forms of some operations on this device, by the operation's name (see `accelerated`)
    compiled    returns still faster ones; they are compiled when the first is needed
    """

    name: str
    xp: Any
    array_type: type
    from_host: Callable[[Any], Array]
    to_host: Callable[[Any], Array]
    kernels: Kernels = field(default_factory=dict, compare=False)
    compiled: list[Callable[[], Kernels]] = field(default_factory=list, compare=False)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An uninitialized array, in C order, for results. How memory is reused: fast/malloc.py."""
        array: Array = self.xp.empty(shape, dtype)
        return array


CPU = Backend("cpu", np, np.ndarray, np.asarray, np.asarray)
GPU_KERNELS: Kernels = {}  # the GPU's; filled by minidl/fast/gpu
_loaded: dict[str, Backend] = {"cpu": CPU}  # devices in use so far, by name


def _load_gpu() -> Backend:
    if wheels := no_gpu.two_wheels():
        raise DeviceError(wheels)
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(no_gpu.no_cupy(error)) from error
    if int(cupy.__version__.split(".")[0]) < no_gpu.FIRST_CUPY:
        raise DeviceError(no_gpu.old_cupy(cupy.__version__))
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(no_gpu.no_device(error)) from error
    if count == 0:
        raise DeviceError(no_gpu.no_device(None))
    try:
        float((cupy.ones((2, 2)) @ cupy.ones((2, 2))).sum())  # needs the driver, the compiler and cuBLAS
    except Exception as error:  # whatever is missing or broken, the reason is in CUDA's own words
        raise DeviceError(no_gpu.no_use(error)) from error

    def from_host(values: Any) -> Array:
        if _crossing_forbidden.get() and not isinstance(values, cupy.ndarray):
            raise DeviceError("the step sends values to the GPU, which a captured step can't repeat")
        return cupy.asarray(values)

    def to_host(array: Any) -> Array:
        if _crossing_forbidden.get():
            raise DeviceError("the step reads values from the GPU, which a captured step can't repeat")
        return cupy.asnumpy(array)

    return Backend("gpu", cupy, cupy.ndarray, from_host, to_host, GPU_KERNELS)


def get_backend(device: str | None = None) -> Backend:
    """The backend of a device name: "cpu" (also for None), "gpu", or "auto" (the GPU where there is one).

    Raises DeviceError if the device is unknown or can't be used here.
    """
    if device == "auto":
        try:
            return get_backend("gpu")
        except DeviceError:
            return CPU
    name = device or "cpu"
    if name not in _loaded:
        if name != "gpu":
            dtype = "" if isinstance(name, str) else "; a dtype is passed by name, net.to(dtype=...)"
            raise DeviceError(f"unknown device {name!r}: choose cpu, gpu (CUDA) or auto{dtype}")
        _loaded[name] = _load_gpu()
    return _loaded[name]


def moved(array: Array, device: str) -> Array:
    """The array on this device, or itself if it is already there."""
    here, there = backend_of(array), get_backend(device)
    return array if here is there else there.from_host(here.to_host(array))


def register(backend: Backend) -> None:
    """Register another device under its name (the tests' counting device is one)."""
    _loaded[backend.name] = backend


def backend_of(array: Any) -> Backend:
    """The backend that an array belongs to. Raises TypeError for anything but an array."""
    return CPU if type(array) is np.ndarray else _other_backend_of(array)  # no loop for NumPy's


def _other_backend_of(array: Any) -> Backend:
    for backend in _loaded.values():
        if isinstance(array, backend.array_type):
            return backend
    if "cupy" in sys.modules:  # then it may be a CuPy array that the user made before we loaded CuPy
        gpu = get_backend("auto")
        if isinstance(array, gpu.array_type):
            return gpu
    kind = type(array).__name__
    raise TypeError(f"expected a NumPy or CuPy array, got {kind}; set a weight's values with w.data[...] = values")


def xp_of(array: Any) -> Any:
    """The array module (`numpy` or `cupy`) that computes on this array."""
    return np if type(array) is np.ndarray else backend_of(array).xp


@cache
def one(backend: Backend, dtype: Any, shape: tuple[int, ...]) -> Array:
    """The number 1 on a GPU, created once and never changed: the gradient of a loss with respect to itself."""
    number: Array = backend.xp.ones(shape, dtype)
    return number


def to_numpy(array: Any) -> Array:
    """The values as a NumPy array: the array itself on the CPU, a copy from the GPU."""
    return backend_of(array).to_host(array)


def erf(x: Array) -> Array:
    """The error function of each element, in its dtype: SciPy's or CuPy's, else Python's own, which is slow."""
    if not isinstance(x, (np.ndarray, np.generic)):
        from cupyx.scipy.special import erf as on_device

        return on_device(x)
    try:
        from scipy.special import erf as quick  # here: SciPy is optional, and slow to import
    except ImportError:
        return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)
    return np.asarray(quick(x), x.dtype)


def read_together(xp: Any, values: list[Any]) -> list[float]:
    """Scalars on a device as Python floats, with a single wait for the device."""
    numbers: list[float] = to_numpy(xp.stack(values).astype(np.float64)).tolist()
    return numbers


# ---- transfers ----

_crossing_forbidden: ContextVar[bool] = ContextVar("crossing_forbidden", default=False)


def no_crossing() -> AbstractContextManager[None]:
    """`with no_crossing():` sending an array to the GPU, or reading one from it, raises DeviceError."""
    return holding(_crossing_forbidden, True)


# ---- the same bits, whichever thread computes ----


class _SameBits:
    """`with same_bits:`, or @same_bits: nothing else in this process can change a bit of the result (fast/blas.py)."""

    hold: Callable[[], None] = staticmethod(lambda: None)
    release: Callable[[], None] = staticmethod(lambda: None)

    def __enter__(self) -> None:
        self.hold()

    def __exit__(self, *_: object) -> None:
        self.release()

    def __call__(self, function: Function) -> Function:
        @wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with self:
                return inner.__wrapped__(*args, **kwargs)  # looked up, as telling.within says

        return cast(Function, inner)


same_bits = _SameBits()

# ---- faster forms of operations ----

PLAIN, NUMPY, COMPILED = range(3)  # which forms may be used: this one and those before it
_forms: ContextVar[int] = ContextVar("forms", default=COMPILED)
Op = TypeVar("Op", bound=Callable[..., Any])


def accelerated(reference: Op) -> Op:
    """Mark an operation on Tensors for which a device may have a faster form, a kernel; those of the CPU are in fast/.
    The kernel computes the same as the function, or returns NotImplemented for inputs that it does not handle: then,
    and without one, the function runs. That of a layer's forward(self, x) is named "Class.forward"."""
    name, at = reference.__qualname__, int(reference.__code__.co_varnames[0] == "self")  # the Tensor's position

    @wraps(reference)
    def op(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args, kwargs = _in_order(op.__wrapped__, args, kwargs)
        plain = kwargs or len(args) <= at  # a kernel takes positional arguments only
        kernel = None if plain else kernel_for(getattr(args[at], "data", None), name)
        result = NotImplemented if kernel is None else kernel(*args)
        return op.__wrapped__(*args, **kwargs) if result is NotImplemented else result  # as telling.within does

    return cast(Op, op)


def _in_order(op: Callable[..., Any], args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments by position, and the keyword-only ones that differ from their defaults."""
    known = signature(op)
    refuse(op.__qualname__, {name: value for name, value in kwargs.items() if name not in known.parameters})
    bound = known.bind(*args, **{name: value for name, value in kwargs.items() if name in known.parameters})
    bound.apply_defaults()
    defaults = op.__kwdefaults__ or {}
    return bound.args, {name: value for name, value in bound.kwargs.items() if value != defaults.get(name)}


def kernel_for(array: Any, name: str) -> Callable[..., Any] | None:
    """The kernel of this name on the array's device; None if there is none, or inside reference_only()."""
    if type(array) is np.ndarray:  # the most common case, without a loop
        backend: Backend | None = CPU
    else:
        backend = next((each for each in _loaded.values() if isinstance(array, each.array_type)), None)
    forms = _forms.get()
    if backend is None or forms == PLAIN:
        return None
    compiled = backend.compiled[0]() if backend.compiled and forms == COMPILED else backend.kernels
    return compiled.get(name) or backend.kernels.get(name)


def reference_only_now() -> bool:
    """Whether this is inside reference_only()."""
    return _forms.get() == PLAIN


@block
@contextmanager
def reference_only() -> Iterator[None]:
    """`with reference_only():` every operation runs as written in ops*.py, without kernels."""
    with holding(_forms, PLAIN):
        yield


@block
@contextmanager
def no_fast() -> Iterator[None]:
    """`with no_fast():` nothing runs in compiled loops, as if the extra `fast` were not installed."""
    with holding(_forms, min(NUMPY, _forms.get())):
        yield


def no_fast_now() -> bool:
    """Whether this is inside no_fast() or reference_only()."""
    return _forms.get() < COMPILED
