"""A Tensor's operators and methods. For NumPy's own functions see numpy_functions.py.

Each operator and each method calls a function of ops.py. Operations without a gradient, such as comparisons and argmax,
return an array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import minidl
from minidl.backend import Array, xp_of
from minidl.elsewhere import ELSEWHERE, OWN
from minidl.in_place import anew, in_place, is_weight
from minidl.numpy_functions import NumPyFunctions
from minidl.refuse import Named

if TYPE_CHECKING:
    from minidl.tensor import Dims, Tensor


class ElementCount(int):
    """The number of elements of a Tensor. Called like PyTorch's size(), it gives the shape, or the length of `dim`."""

    shape: tuple[int, ...]

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


class Operators(NumPyFunctions, Named):
    """The operators and methods of a Tensor; see tensor.py for the rest."""

    __slots__ = ()
    _otherwise = OWN
    __pandas_priority__ = 5000  # above DataFrame's: column * t is our operation, with its gradient

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in minidl.ops.__all__ and name not in ELSEWHERE:
                raise AttributeError(f"Tensor has no '{name}': it is a function, minidl.ops.{name}(t)")
            return super().__getattr__(name)

    @property
    def size(self) -> ElementCount:
        """The number of elements; size() is the shape, and size(0) the length of the first axis."""
        size = ElementCount(self.data.size)
        size.shape = self.data.shape
        return size

    def __add__(self, other: Any) -> Tensor:
        return minidl.ops.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return minidl.ops.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return minidl.ops.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return minidl.ops.sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return minidl.ops.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return minidl.ops.mul(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return minidl.ops.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return minidl.ops.div(other, self)

    def __neg__(self) -> Tensor:
        return minidl.ops.neg(self)

    def __pow__(self, other: Any) -> Tensor:
        return minidl.ops.pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return minidl.ops.pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return minidl.ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return minidl.ops.matmul(other, self)

    def __getitem__(self, index: Any) -> Tensor:
        return minidl.ops.getitem(self, index)

    def __abs__(self) -> Tensor:
        return minidl.ops.abs(self)

    # ---- w -= u: a weight is changed in place; for any other Tensor this is t = t - u, a new Tensor ----------------

    def __iadd__(self, other: Any) -> Tensor:
        return in_place(self, "+=", other) if is_weight(self) else anew(self, self + other, "+=")

    def __isub__(self, other: Any) -> Tensor:
        return in_place(self, "-=", other) if is_weight(self) else anew(self, self - other, "-=")

    def __imul__(self, other: Any) -> Tensor:
        return in_place(self, "*=", other) if is_weight(self) else anew(self, self * other, "*=")

    def __itruediv__(self, other: Any) -> Tensor:
        return in_place(self, "/=", other) if is_weight(self) else anew(self, self / other, "/=")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a Tensor's values can't be set by index: t.data[index] = value sets them, without a gradient; "
                        "ops.where(mask, value, t) makes a new Tensor, with its gradient")  # fmt: skip

    # ---- comparisons: arrays of booleans, without a gradient ------------------------------------------------------

    __hash__ = object.__hash__  # as a key a Tensor counts by identity, not by value

    def __eq__(self, other: Any) -> Array:  # type: ignore[override]
        return _compare(self, "equal", other)

    def __ne__(self, other: Any) -> Array:  # type: ignore[override]
        return _compare(self, "not_equal", other)

    def __lt__(self, other: Any) -> Array:
        return _compare(self, "less", other)

    def __le__(self, other: Any) -> Array:
        return _compare(self, "less_equal", other)

    def __gt__(self, other: Any) -> Array:
        return _compare(self, "greater", other)

    def __ge__(self, other: Any) -> Array:
        return _compare(self, "greater_equal", other)

    # ---- methods --------------------------------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """Its axes in reverse order, as in NumPy: (3, 4) -> (4, 3)."""
        flip = range(self.data.ndim)[::-1]
        return minidl.ops.transpose(self, 0, 1) if len(flip) == 2 else minidl.ops.permute(self, *flip)

    def sum(self, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
        return minidl.ops.sum(self, dim, keepdim, **other)

    def mean(self, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
        return minidl.ops.mean(self, dim, keepdim, **other)

    def max(self, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
        return minidl.ops.max(self, dim, keepdim, **other)

    def min(self, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
        return minidl.ops.min(self, dim, keepdim, **other)

    def var(self, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False, **other: Any) -> Tensor:
        return minidl.ops.var(self, dim, correction=correction, keepdim=keepdim, **other)

    def std(self, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False, **other: Any) -> Tensor:
        return minidl.ops.std(self, dim, correction=correction, keepdim=keepdim, **other)

    def norm(self, p: Any = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return minidl.ops.norm(self, p, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False, **other: Any) -> Array:
        return minidl.ops.argmax(self, dim, keepdim, **other)

    def exp(self) -> Tensor:
        return minidl.ops.exp(self)

    def log(self) -> Tensor:
        return minidl.ops.log(self)

    def sqrt(self) -> Tensor:
        return minidl.ops.sqrt(self)

    def abs(self) -> Tensor:
        return minidl.ops.abs(self)

    def clamp(self, min: float | None = None, max: float | None = None) -> Tensor:
        return minidl.ops.clamp(self, min, max)

    def relu(self) -> Tensor:
        return minidl.ops.relu(self)

    def sigmoid(self) -> Tensor:
        return minidl.ops.sigmoid(self)

    def tanh(self) -> Tensor:
        return minidl.ops.tanh(self)

    def softmax(self, dim: int = -1, **other: Any) -> Tensor:
        return minidl.ops.softmax(self, dim, **other)

    def log_softmax(self, dim: int = -1, **other: Any) -> Tensor:
        return minidl.ops.log_softmax(self, dim, **other)

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        return minidl.ops.reshape(self, *shape)

    def transpose(self, dim0: int, dim1: int, *more: int) -> Tensor:
        return minidl.ops.transpose(self, dim0, dim1, *more)

    def permute(self, *dims: int | Sequence[int]) -> Tensor:
        return minidl.ops.permute(self, *dims)

    def view(self, *shape: int | Sequence[int]) -> Tensor:
        """PyTorch's name for reshape."""
        return minidl.ops.reshape(self, *shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return minidl.ops.flatten(self, start_dim, end_dim)

    def squeeze(self, dim: Dims = None) -> Tensor:
        return minidl.ops.squeeze(self, dim)

    def unsqueeze(self, dim: int) -> Tensor:
        return minidl.ops.unsqueeze(self, dim)

    # ---- as a number ----------------------------------------------------------------------------------------------

    def item(self) -> float:
        """The value of a one-element tensor as a Python float (waits for the GPU)."""
        if self.data.size != 1:
            raise ValueError(f"item() needs a tensor with one element, this one has shape {self.data.shape}")
        return float(self.data.item())

    def __float__(self) -> float:
        return self.item()

    def __int__(self) -> int:
        return int(self.item())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.item(), digits)

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ValueError(f"a Tensor of shape {self.data.shape} is neither true nor false: write `t is not None`, "
                             "or (t != 0).any() or .all()")  # fmt: skip
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __len__(self) -> int:
        if not self.data.ndim:
            raise TypeError("a scalar Tensor has no len(): t.item() is its value. torch.tensor and others that ask for "
                            "the len() of each element take t.numpy()")  # fmt: skip
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return iter([self[i] for i in range(len(self))])  # len() raises for a scalar


def _compare(a: Operators, name: str, b: Any) -> Any:
    """a < b and the like, element by element: an array of booleans on a's device. Shapes broadcast."""
    xp, ours = xp_of(a.data), (int, float, np.generic, np.ndarray, type(a.data))
    other = b.data if isinstance(b, Operators) else b
    if not isinstance(other, ours):
        if not isinstance(other, (list, tuple)) and not hasattr(other, "__array__"):  # as pandas and PyTorch have
            return NotImplemented
        other = xp.asarray(other)
    if isinstance(other, np.ndarray) and xp is not np:
        raise TypeError(f"{name}: an array on the host and a Tensor on the GPU: copy it to the host with .numpy()")
    try:
        return xp.asarray(getattr(xp, name)(a.data, other))
    except ValueError as error:
        raise ValueError(f"{name}: shapes {a.data.shape} and {np.shape(other)} do not broadcast together") from error
