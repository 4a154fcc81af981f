"""A Tensor is an array that remembers how it was computed, so that gradients can be traced back through it.

Every operation (see ops.py) stores, for each of its inputs, one function: given the gradient of the loss with
respect to the operation's output, it returns the gradient with respect to that input. This function is the
vector-Jacobian product, `vjp`. `backward()` walks the operations from the loss to the leaves and calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import Array, backend_of, get_backend, one, same_bits, to_numpy, xp_of
from minidl.grad_mode import recording

Vjp: TypeAlias = Callable[[Array], Array]  # gradient of the output -> gradient of one input
Edge: TypeAlias = "tuple[Tensor, Vjp]"  # an input of an operation, and how the gradient reaches it
Dims: TypeAlias = "int | Sequence[int] | None"  # an axis, several, or all


class Tensor:
    """An array with a gradient.

    data           NumPy/CuPy array, list or number. A float array is kept as it is (no copy, its dtype stays);
                   numbers, lists, and integer or boolean arrays become float32.
    requires_grad  True for a leaf whose `.grad` backward() fills in, such as a weight
    device         "cpu", "gpu" or "auto"; None leaves the array where it is

    `.grad` is None or an array of the shape of `.data`; it accumulates until it is set to None.
    """

    __slots__ = ("__weakref__", "data", "grad", "home", "node", "requires_grad")
    __array_ufunc__ = None  # so that `array * tensor` asks the Tensor, instead of looping over its elements

    def __init__(self, data: Any, requires_grad: bool = False, device: str | None = None) -> None:
        self.data: Array = _as_float_array(data, device)
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.node: Node | None = None  # the operation that made this tensor; None for a leaf
        self.home: Home | None = None  # its place in an optimizer's vectors, if it has one

    # ---- what it is -------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def device(self) -> str:
        return backend_of(self.data).name

    def numpy(self) -> Array:
        """The values as a NumPy array. On the CPU it shares this tensor's memory; from the GPU it is a copy.

        An optimizer lays its parameters in a memory of its own: what was taken before it was built does not follow.
        """
        return to_numpy(self.data)

    def item(self) -> float:
        """The value of a one-element tensor as a Python float (waits for the GPU)."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor with one element, this one has shape {self.shape}")
        return float(self.data.item())

    def __float__(self) -> float:
        return self.item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The values, for NumPy's functions; not from the GPU, where that would be a wait that nobody sees."""
        if not isinstance(self.data, np.ndarray):
            raise TypeError(f"this Tensor is on the {self.device}: write .numpy(), which copies its values from there")
        return np.array(self.data, dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), precision=4, separator=", ", prefix="Tensor(", threshold=100)
        extra = f", op={self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}, {self.dtype}{extra})"

    # ---- copies and moves -------------------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values (shared memory), cut off from the graph."""
        return Tensor(self.data)

    def to(self, device: str) -> Tensor:
        """This tensor on another device; itself where it is there already. Gradients cross back."""
        here, there = backend_of(self.data), get_backend(device)
        if here is there:
            return self
        moved = there.from_host(here.to_host(self.data))
        return record("to", moved, (self, lambda g: here.from_host(there.to_host(g))))

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return Tensor(self.data.copy(), self.requires_grad)  # a leaf of its own, with no optimizer yet

    def __reduce__(self) -> Any:
        return _unpickled, (type(self), self.data, self.grad, self.requires_grad)  # a leaf too

    # ---- backward ---------------------------------------------------------------------------------------------

    @same_bits
    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to `.grad` of every leaf that requires it.

        gradient      d(loss)/d(self), an array of this shape; may be left out when self has one element (then 1)
        retain_graph  keep the graph for another backward(); by default it is freed, and with it its memory

        Reverse-mode differentiation (Linnainmaa 1970; Griewank & Walther 2008, ch. 3): each operation is visited
        once, after all the operations that used its output, so that its output's gradient is complete by then.
        """
        raise NotImplementedError("A1: Tensor.backward is yours to write")

    def _accumulate(self, g: Array) -> None:
        if self.grad is not None:
            self.grad += g  # in place, so that a gradient that lies in the optimizer's vector stays there
        elif self.home is not None:
            self.grad = self.home.fill(g)
        else:
            self.grad = xp_of(self.data).array(g)  # a copy of our own: g may be shared

    # ---- operators: each is a function of ops.py ----------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return ops.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return ops.mul(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __pow__(self, other: Any) -> Tensor:
        return ops.pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    @property
    def T(self) -> Tensor:
        return ops.transpose(self, 0, 1)

    def sum(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return ops.sum(self, dim, keepdim)

    def mean(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return ops.mean(self, dim, keepdim)

    def max(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return ops.max(self, dim, keepdim)

    def exp(self) -> Tensor:
        return ops.exp(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def relu(self) -> Tensor:
        return ops.relu(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def softmax(self, dim: int = -1) -> Tensor:
        return ops.softmax(self, dim)

    def log_softmax(self, dim: int = -1) -> Tensor:
        return ops.log_softmax(self, dim)

    def reshape(self, *shape: int) -> Tensor:
        return ops.reshape(self, *shape)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        return ops.transpose(self, dim0, dim1)

    def permute(self, *dims: int) -> Tensor:
        return ops.permute(self, *dims)

    def flatten(self, start_dim: int = 0) -> Tensor:
        return ops.flatten(self, start_dim)


@dataclass(slots=True, eq=False)
class Home:
    """The place of a weight in an optimizer's vectors: `.data` lies in w, and its gradient is to lie in g.

    owner  has the vectors (optim.FlatParameters)
    grad   the weight's stretch of g
    free   False while a vjp has taken `grad` to write to, see fast.linear.into
    """

    owner: Any
    grad: Array
    free: bool = True

    def fill(self, g: Array) -> Array:
        """`grad`, with the numbers of g in it, which may be there already."""
        if g is not self.grad:
            self.grad[...] = g
        self.free = True
        return self.grad


@dataclass(slots=True, eq=False)
class Node:
    """One recorded operation: its name and its edges to the inputs that need a gradient."""

    name: str
    edges: tuple[Edge, ...] | None  # None once backward() has freed it


def record(name: str, value: Array, *edges: Edge) -> Tensor:
    """The Tensor of an operation's output, with the operation remembered for backward().

    name   of the operation, for messages and drawings
    value  the output, an array
    edges  one pair (input, vjp) for each Tensor that the output depends on. A vjp may return the gradient in the
           output's shape where the input was broadcast: backward() sums over the copies.

    This is all it takes to write an operation of your own:
        def square(x): return record("square", x.data**2, (x, lambda g: g * 2 * x.data))
    """
    if isinstance(value, np.generic):  # NumPy turns a 0-d result, such as a sum over all, into a scalar
        value = np.asarray(value)
    out = Tensor.__new__(Tensor)  # skips __init__: the value is an array already, and this runs for every operation
    out.data, out.grad, out.home, out.node, out.requires_grad = value, None, None, None, False
    if recording.get():
        needed = tuple(edge for edge in edges if edge[0].requires_grad)
        if needed:
            out.requires_grad, out.node = True, Node(name, needed)
    return out


def same_device(op: str, *tensors: Tensor | None) -> None:
    """Raise TypeError, with what to do, where Tensors on two devices meet. None, an input left out, passes."""
    known = [t for t in tensors if t is not None]
    if len({type(t.data) for t in known}) > 1:
        places = ", ".join(f"{t.shape} is on the {t.device}" for t in known)
        raise TypeError(f"{op}: {places}: bring all to one device, with .to({known[0].device!r}) for example")


def as_tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """`value` as a Tensor: itself if it is one. A plain number takes the dtype and device of `like`."""
    if isinstance(value, Tensor):
        return value
    if like is not None and isinstance(value, (int, float)):
        return Tensor(xp_of(like.data).full((), value, like.dtype))  # made on the device: nothing is sent there
    return Tensor(value)


def _unpickled(kind: type[Tensor], data: Array, grad: Array | None, requires_grad: bool) -> Tensor:
    out = kind.__new__(kind)
    Tensor.__init__(out, data, requires_grad)
    out.grad = grad
    return out


def _as_float_array(data: Any, device: str | None) -> Array:
    if isinstance(data, Tensor):
        raise TypeError("this is a Tensor already: use it as it is, or t.detach() for one without history")
    try:
        backend = backend_of(data)
    except TypeError:  # a number or a (nested) list
        data, backend = np.asarray(data), get_backend("cpu")
        if data.dtype.kind == "f":
            data = data.astype(np.float32)
    if data.dtype.kind in "iub":
        data = data.astype(np.float32)
    if data.dtype.kind != "f":
        raise TypeError(f"a Tensor holds real numbers; this has dtype {data.dtype}")
    if device is None or get_backend(device) is backend:
        return data
    return get_backend(device).from_host(backend.to_host(data))


def _seed(tensor: Tensor, gradient: Any) -> Array:
    """d(loss)/d(tensor), with which the walk begins."""
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError(
                f"backward() starts from a scalar loss, this tensor has shape {tensor.shape}: "
                "reduce it with .sum() or .mean(), or pass its gradient"
            )
        return one(backend_of(tensor.data), tensor.dtype, tensor.shape)
    g = gradient.data if isinstance(gradient, Tensor) else xp_of(tensor.data).asarray(gradient, tensor.dtype)
    if g.shape != tensor.shape:
        raise ValueError(f"backward(): the gradient has shape {g.shape}, the tensor {tensor.shape}")
    return g


def _edges(node: Node) -> tuple[Edge, ...]:
    if node.edges is None:
        raise RuntimeError(
            f"the graph below '{node.name}' was freed by an earlier backward(): compute the loss again before the "
            "next backward(), or call the first one with retain_graph=True"
        )
    return node.edges


def _topological_order(root: Tensor) -> list[Tensor]:
    """All tensors that `root` was computed from, inputs before outputs.

    Depth first, with a stack of our own: Python's recursion would end at a depth of about a thousand operations.
    """
    raise NotImplementedError("A1: _topological_order is yours to write")


def _fit(g: Array, parent: Tensor, op: str) -> Array:
    """A gradient in the shape and dtype of the input that it belongs to: summed over broadcast axes."""
    raise NotImplementedError("A1: _fit is yours to write")


from minidl import ops  # noqa: E402 (at the end: ops is made of Tensors, and a Tensor's operators are its functions)
