"""A GPU made of NumPy, that counts: to prove on any machine what would break, or be slow, on a real one.

Its arrays are no NumPy arrays. They have what CuPy's have and nothing else (cupy_names.txt), can't be mixed with
NumPy's, and every way across is counted: an upload to the device, a download from it. A number that is read from an
array (`float()`, `if`, `.item()`, `print`) is a download too, for the host waits for it. On a real GPU each costs
tens of microseconds during which nothing is computed, and the code works all the same; here a test can forbid it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidl.backend import Backend
from tests.cupy_names import read

NAMES = read()
NUMBERS = (bool, int, float, complex, np.generic)  # what CuPy's operators take beside its own arrays
WAIT = {"nonzero", "flatnonzero", "argwhere", "unique", "compress", "extract", "array_equal", "repeat", "bincount"}
VIEWS = {"reshape", "transpose", "swapaxes", "squeeze", "ravel", "view", "broadcast_to", "moveaxis", "expand_dims"}
VIEWS |= {
    "diagonal",
    "lib.stride_tricks.as_strided",
    "asarray",
    "empty",
    "empty_like",
    "finfo",
    "iinfo",
    "dtype",
    "may_share_memory",
}


class HostRead(AssertionError):
    """A value was read from the device where that is forbidden."""


@dataclass
class Traffic:
    """What has happened on a device. launches: calculations, each of which is at least one kernel on a GPU."""

    uploads: int = 0
    upload_bytes: int = 0
    downloads: int = 0
    download_bytes: int = 0
    launches: int = 0

    def since(self, earlier: Traffic) -> Traffic:
        return Traffic(**{name: n - getattr(earlier, name) for name, n in vars(self).items()})


class Counting:
    """The device: what happened on it, its array module `xp`, the type of its arrays, and the ways across."""

    def __init__(self, name: str = "counting", kernels: dict[str, Callable[..., Any]] | None = None) -> None:
        self.traffic, self.sealed = Traffic(), False
        self.modules: set[str] = set()  # the sources of the kernels that ran: see counting_kernels.py
        self.array_type = type("ndarray", (Array,), {"machine": self, "__slots__": ()})
        self.xp = Module(self)
        self.backend = Backend(name, self.xp, self.array_type, self.from_host, self.to_host, kernels or {})

    def from_host(self, values: Any) -> Array:
        """Like cupy.asarray: a NumPy array, list or number is copied to the device; what is there already stays."""
        if isinstance(values, Array):
            return self.array_type(self.inside(values))
        if isinstance(values, (list, tuple)) and any(isinstance(v, Array) for v in values):
            return self.xp.stack(values)
        array = np.array(values)  # a copy: the host's later changes don't show
        self.traffic.uploads += 1
        self.traffic.upload_bytes += array.nbytes
        return self.array_type(array)

    def to_host(self, array: Array) -> np.ndarray:
        """Like cupy.asnumpy."""
        values = self.inside(array)
        self.downloaded(values.nbytes)
        return np.array(values)

    def downloaded(self, nbytes: int) -> None:
        if self.sealed:
            raise HostRead(f"{nbytes} bytes were read from the device: the host waits for it")
        self.traffic.downloads += 1
        self.traffic.download_bytes += nbytes

    @contextmanager
    def forbid_reads(self) -> Iterator[None]:
        """Raise HostRead at the first value that is read from the device."""
        self.sealed = True
        try:
            yield
        finally:
            self.sealed = False

    @contextmanager
    def measure(self) -> Iterator[Traffic]:
        """`with device.measure() as traffic:` fills it, at the end, with what happened inside."""
        before, inside = replace(self.traffic), Traffic()
        yield inside
        vars(inside).update(vars(self.traffic.since(before)))

    # ---- in and out of the wrapper ------------------------------------------------------------------------------

    def inside(self, value: Any) -> Any:
        """The NumPy array behind an array of this device; lists, tuples and slices of them too."""
        if isinstance(value, Array):
            if value.machine is not self:
                raise TypeError("arrays of two devices are mixed")
            return value._values
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {np.ndarray}")  # CuPy's words
        return type(value)(map(self.inside, value)) if type(value) in (tuple, list) else value

    def outside(self, value: Any) -> Any:
        """A result as CuPy gives it: arrays of the device, and 0-d arrays where NumPy has numbers."""
        if isinstance(value, (np.ndarray, np.generic)):
            return self.array_type(np.asarray(value))
        return type(value)(map(self.outside, value)) if type(value) in (tuple, list) else value

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A NumPy function or method on this device's arrays."""
        args, kwargs = self.inside(args), {k: self.inside(v) for k, v in kwargs.items()}
        short = name.removeprefix("ndarray.")
        self.traffic.launches += short not in VIEWS
        with np.errstate(all="ignore"):  # a GPU does not warn
            result = function(*args, **kwargs)
        if short == "astype" and result is getattr(function, "__self__", None):
            self.traffic.launches -= 1  # copy=False, and nothing to do
        if short in WAIT and (short != "bincount" or not kwargs.get("minlength")):
            self.downloaded(8)
        return self.outside(result)


def allowed(name: str, args: Any, kwargs: Any) -> None:
    """Raise AttributeError or TypeError where CuPy has no such function, method or argument."""
    if name not in NAMES:
        raise AttributeError(f"CuPy has no {name}")
    signature = NAMES[name]
    if signature is not None:
        signature.bind(*args, **kwargs)
    if name == "einsum" and "out" in kwargs:
        raise TypeError("CuPy's einsum has no out=")


class Module:
    """The device's array module. A constant or a type is NumPy's; a function is NumPy's behind a check."""

    def __init__(self, machine: Counting, prefix: str = "") -> None:
        self._machine, self._prefix = machine, prefix

    def __getattr__(self, name: str) -> Any:
        path = self._prefix + name
        if any(known.startswith(path + ".") for known in NAMES) and path not in NAMES:
            return Module(self._machine, path + ".")  # lib, lib.stride_tricks
        if path == "RawModule":
            from tests.counting_kernels import RawModule

            return lambda *args, **kwargs: RawModule(self._machine, *args, **kwargs)
        if path not in NAMES:
            raise AttributeError(f"CuPy has no {path}")
        thing = operator.attrgetter(path)(np)
        return thing if NAMES[path] is None else Function(self._machine, path, thing)

    @property
    def ndarray(self) -> type:
        return self._machine.array_type


class Function:
    """A function of the module; `.at` where it is a ufunc that has one."""

    def __init__(self, machine: Counting, name: str, function: Callable[..., Any]) -> None:
        self.machine, self.name, self.function = machine, name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        allowed(self.name, args, kwargs)
        if self.name in ("asarray", "array") and args and not isinstance(args[0], Array):
            values = self.machine.from_host(args[0])
            dtype = kwargs.get("dtype", args[1] if len(args) > 1 else None)
            return values if dtype is None else values.astype(dtype, copy=False)
        return self.machine.call(self.name, self.function, *args, **kwargs)

    @property
    def at(self) -> Function:
        if f"{self.name}.at" not in NAMES:
            raise AttributeError(f"CuPy has no {self.name}.at")
        return Function(self.machine, f"{self.name}.at", self.function.at)  # type: ignore[attr-defined]


class Array:
    """An array of the device. Its values lie in a private NumPy array, which nothing outside this file touches."""

    __slots__ = ("_values",)
    machine: Counting
    __array_ufunc__ = None  # np.exp(array) and numpy_array * array raise TypeError
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    dtype = property(lambda self: self._values.dtype)
    strides = property(lambda self: self._values.strides)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    flags = property(lambda self: self._values.flags)
    T = property(lambda self: self.machine.outside(self._values.T))

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:  # the methods
        path = f"ndarray.{name}"
        if name.startswith("_") or path not in NAMES or NAMES[path] is None:
            raise AttributeError(f"CuPy's ndarray has no {name} (or the counting device does not know it)")

        def method(*args: Any, **kwargs: Any) -> Any:
            allowed(path, args, kwargs)
            return self.machine.call(path, getattr(self._values, name), *args, **kwargs)

        return method

    # ---- reading a value: the host waits --------------------------------------------------------------------------

    def _read(self, what: Callable[[Any], Any]) -> Any:
        self.machine.downloaded(self.nbytes)
        return what(self._values)

    def item(self) -> Any:
        return self._read(lambda values: values.item())

    def tolist(self) -> Any:
        return self._read(lambda values: values.tolist())

    def get(self) -> Any:
        return self._read(np.array)

    def __float__(self) -> float:
        return self._read(float)

    def __int__(self) -> int:
        return self._read(int)

    def __bool__(self) -> bool:
        return self._read(bool)

    def __repr__(self) -> str:
        return self._read(repr)

    def __format__(self, spec: str) -> str:
        return self._read(lambda values: format(values, spec))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")  # CuPy's words

    # ---- indices --------------------------------------------------------------------------------------------------

    def _index(self, index: Any) -> Any:
        """An index for NumPy. A mask makes the host wait for the size of the result; a list is sent to the device."""
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if isinstance(part, (list, np.ndarray)):
                self.machine.from_host(part)
        ready = tuple(np.asarray(p) if isinstance(p, np.ndarray) else self.machine.inside(p) for p in parts)
        return ready if isinstance(index, tuple) else ready[0]

    def __getitem__(self, index: Any) -> Any:
        ready = self._index(index)
        parts = ready if isinstance(ready, tuple) else (ready,)
        if any(isinstance(p, np.ndarray) and p.dtype == bool for p in parts):
            self.machine.downloaded(8)
        self.machine.traffic.launches += any(isinstance(p, (np.ndarray, list)) for p in parts)
        return self.machine.outside(self._values[ready])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.machine.traffic.launches += 1
        if not isinstance(value, (Array, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(value)}")
        self._values[self._index(index)] = self.machine.inside(value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def _binary(name: str, swap: bool = False) -> Any:
    function = getattr(operator, name)

    def method(self: Array, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            raise TypeError(f"Unsupported type {np.ndarray}")
        if not isinstance(other, (Array, *NUMBERS)):
            return NotImplemented
        return self.machine.call(name, function, *((other, self) if swap else (self, other)))

    return method


def _unary(name: str) -> Any:
    return lambda self: self.machine.call(name, getattr(operator, name), self)


def _in_place(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: Array, other: Any) -> Any:
        if not isinstance(other, (Array, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(other)}")
        self.machine.call(name, function, self, other)
        return self

    return method


for _op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _name = _op + "_" if _op in ("and", "or") else _op
    setattr(Array, f"__{_op}__", _binary(_name))
    setattr(Array, f"__r{_op}__", _binary(_name, swap=True))
    if f"ndarray.__i{_op}__" in NAMES:
        setattr(Array, f"__i{_op}__", _in_place("i" + _op))
for _op in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Array, f"__{_op}__", _binary(_op))
for _op in ("neg", "pos", "abs", "invert"):
    setattr(Array, f"__{_op}__", _unary(_op))
