"""A Tensor is an array that remembers how it was computed, so that gradients can be traced back through it.

Every operation (see ops.py) stores, for each of its inputs, one function: given the gradient of the loss with
respect to the operation's output, it returns the gradient with respect to that input. This function is the
vector-Jacobian product, `vjp`. `backward()` walks the operations from the loss to the leaves and calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from sys import getrefcount
from typing import Any, TypeAlias, cast

import numpy as np

from minidl.arrays import array_of, as_array
from minidl.backend import CPU, Array, backend_of, get_backend, kernel_for, moved, one, same_bits, to_numpy, xp_of
from minidl.grad_mode import recording
from minidl.operators import Operators
from minidl.refuse import refuse, refuse_for_tensor

Vjp: TypeAlias = Callable[[Array], Array]  # gradient of the output -> gradient of one input
Edge: TypeAlias = "tuple[Tensor, Vjp]"  # an input of an operation, and how the gradient reaches it
Reading: TypeAlias = "Edge | tuple[Tensor, Vjp, Tensor] | tuple[Tensor, Vjp, Tensor, Tensor]"  # + what it reads
Dims: TypeAlias = int | Sequence[int] | None  # an axis, several, or all
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
WIDER = {"e": np.float32, "f": np.float64}  # sums of these kinds are accumulated in a wider dtype


class Tensor(Operators):
    """An array with a gradient.

    data           array, list or number. A float array is used as is (no copy, same dtype), unless it is read-only or
                   not in native byte order: then it is copied. Anything else becomes float32
    requires_grad  True for a leaf whose `.grad` backward() fills in, such as a weight
    device         "cpu", "gpu" or "auto"; None leaves the array where it is

    `.grad` is None or an array of the same shape as `.data`; it accumulates until it is set to None.
    The values that backward() reads must not change before it runs: an optimizer step or load_state_dict in between
    is detected (`version`), a write through `.data` or `.numpy()` is not.
    """

    __slots__ = ("__weakref__", "base", "data", "grad", "home", "node", "parameter", "requires_grad", "version")

    def __init__(self, data: Any, requires_grad: bool = False, device: str | None = None, **other: Any) -> None:
        if other or not isinstance(requires_grad, (bool, np.bool_)):  # Tensor(3, 4), Tensor(x, np.float64)
            refuse_for_tensor(requires_grad, other)
        self.data: Array = _as_float_array(data, device)
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.parameter = requires_grad  # trainable; stays True while it is frozen: see module.Parameter
        self.version = 0  # how often minidl has changed its values in place
        self.base: Tensor | None = None  # the tensor that this one is a view of, if any
        self.node: Node | None = None  # the operation that made this tensor; None for a leaf
        self.home: Home | None = None  # its place in an optimizer's vectors, if it has one

    # ---- attributes -------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis; () for a scalar."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The float dtype of its elements."""
        return self.data.dtype

    @property
    def device(self) -> str:
        """The device it is on: "cpu" or "gpu"."""
        return backend_of(self.data).name

    def numpy(self) -> Array:
        """The values as a NumPy array. On the CPU it shares this tensor's memory; from the GPU it is a copy.

        Building an optimizer moves its parameters to new memory: an array taken before that is not updated.
        """
        return to_numpy(self.data)

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), precision=4, separator=", ", prefix="Tensor(", threshold=100)
        extra = f", op={self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}, {self.dtype}{extra})"

    # ---- copies and moves -------------------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values (shared memory), detached from the graph."""
        out = Tensor(self.data)
        out.base = self if self.base is None else self.base
        return out

    def to(self, device: str | None = None, **other: Any) -> Tensor:
        """This tensor on another device, or itself if it is already there. Gradients flow back to the first device."""
        refuse("to", other)
        here = backend_of(self.data)
        there = here if device is None else get_backend(device)
        if here is there:
            return self
        data = there.from_host(here.to_host(self.data))
        return record("to", data, (self, lambda g: here.from_host(there.to_host(g))))

    def __reduce__(self) -> Any:  # for copy and pickle: a separate leaf, without an optimizer
        return _leaf, (self.data, self.grad, self.requires_grad, self.parameter)

    # ---- backward ---------------------------------------------------------------------------------------------

    @same_bits
    def backward(self, gradient: Any = None, retain_graph: bool = False, **other: Any) -> None:
        """Add d(self)/d(leaf) to `.grad` of every leaf that requires grad. Raises RuntimeError if none does.

        gradient      d(loss)/d(self), an array of this shape; optional if self has one element (default: 1)
        retain_graph  keep the graph for another backward(); by default it is freed, together with its memory

        Reverse-mode differentiation (Linnainmaa 1970; Griewank & Walther 2008, ch. 3): each operation is visited
        once, after all operations that used its output, so the gradient of its output is complete by then.
        """
        raise NotImplementedError("A1: Tensor.backward is yours to write")

    def retain_grad(self) -> None:
        """Let backward() fill in `.grad` of this tensor too, though an operation made it; call it before backward().

        Raises RuntimeError if it needs no gradient.
        """
        if self.node is not None:
            self.node.retains = True
        elif not self.requires_grad:
            raise RuntimeError("retain_grad() on a tensor that needs no gradient: no input requires one, or no_grad(), "
                               "as in an evaluation, or detach() has lost it; test t.requires_grad")  # fmt: skip

    def _accumulate(self, g: Array) -> None:
        if self.grad is not None:
            if self.home is not None:
                self.home.accumulates(self.grad)
            self.grad += g  # in place: a gradient in the optimizer's vector stays there
        elif self.home is not None:
            self.grad = self.home.fill(g)
        else:
            self.grad = xp_of(self.data).array(g)  # a copy: g may be shared


@dataclass(slots=True, eq=False)
class Home:
    """A weight's place in an optimizer's vectors: `.data` is a slice of w, and its gradient belongs in a slice of g.

    owner    what holds the vectors (optim.FlatParameters)
    grad     the weight's slice of g
    free     False while a vjp has claimed `grad` to write to, see fast.linear.into
    stepped  whether an optimizer step has used the gradient that is in `grad`
    """

    owner: Any
    grad: Array
    free: bool = True
    stepped: bool = False

    def fill(self, g: Array | float) -> Array:
        """Copy g into `grad`, unless it is there already, and return `grad`."""
        if g is not self.grad:
            if getrefcount(self.grad) > ALONE or getrefcount(self.owner.memory) > self.owner.views:
                self.owner.renew()  # the user holds it, g = w.grad, or a view of it, g = w.grad.ravel()
            self.grad[...] = g
        self.free, self.stepped = True, False
        return self.grad

    def accumulates(self, now: Array | float) -> None:
        """A gradient is about to be added to `now`. If that is zeros, p.grad[...] = 0 was written since the step."""
        if self.stepped:
            self.stepped = bool(now if isinstance(now, (int, float)) else now.any())


_home = Home(None, np.zeros(0))
ALONE = getrefcount(_home.grad)  # for an array that only its Home, and getrefcount itself, refer to


@dataclass(slots=True, eq=False)
class Node:
    """One recorded operation: its name and its edges to the inputs that need a gradient."""

    name: str
    edges: tuple[Edge, ...] | None  # None once backward() has freed it
    reads: tuple[tuple[Tensor, int], ...] = ()  # the leaves whose values its vjps read, with their versions
    retains: bool = False  # whether backward() fills in its output's `.grad`, as that of a leaf


# Operations whose output may be a view of their input.
VIEWS = frozenset({"getitem", "permute", "reshape", "squeeze", "transpose", "unsqueeze"})


def record(name: str, value: Array, *edges: Reading) -> Tensor:
    """An operation's output as a Tensor, with the operation recorded for backward().

    name   the operation's name, for messages and drawings; value: its output, an array
    edges  (input, vjp) for each Tensor that the output depends on, followed by the Tensors whose values the vjp reads,
           which backward() checks for changes. If the input was broadcast, the vjp may return the gradient in the
           output's shape: backward() sums over the copies.

    This is all you need for an operation of your own:
        def square(x): return record("square", x.data**2, (x, lambda g: g * 2 * x.data, x))
    """
    value = value if type(value) is np.ndarray and value.dtype.kind == "f" else array_of(name, value)
    out = Tensor.__new__(Tensor)  # skips __init__: the value is an array already, and this runs for every operation
    out.data, out.grad, out.home, out.node, out.requires_grad = value, None, None, None, False
    out.parameter, out.version, out.base = False, 0, None
    if name in VIEWS and xp_of(value).may_share_memory(value, edges[0][0].data):
        out.base = edges[0][0] if edges[0][0].base is None else edges[0][0].base
    if recording.get():
        needed = [edge for edge in edges if edge[0].requires_grad]
        if needed:
            read = [t if t.base is None else t.base for edge in needed for t in edge[2:]]
            reads = tuple([(t, t.version) for t in read if t.node is None])
            out.requires_grad, out.node = True, Node(name, tuple([edge[:2] for edge in needed]), reads)
    return out


def alike(op: str, *tensors: Tensor | None, dtype: bool = True) -> None:
    """Raise TypeError, with a remedy, if the Tensors differ in device or, with `dtype`, in dtype."""
    known = [t for t in tensors if t is not None]
    if len({(type(t.data), t.dtype if dtype else None) for t in known}) > 1:
        places = " and ".join(dict.fromkeys(f"{t.dtype} on the {t.device}" for t in known))
        raise TypeError(f"{op}: {places}: convert all to one, with .to(device), model.to(dtype=) or array.astype()")


def as_tensor(value: Any, like: Any = None) -> Tensor:
    """`value` as a Tensor, or itself if it is one. A value without a float dtype takes that of `like`, if a Tensor."""
    return value if isinstance(value, Tensor) else _made(value, like)


def _made(value: Any, like: Any) -> Tensor:
    if not isinstance(like, Tensor):
        return Tensor(value)
    if isinstance(value, (int, float, np.integer, np.floating)):
        return Tensor(xp_of(like.data).full((), value, like.dtype))  # created on the device: no transfer
    return Tensor(as_array(value, like.dtype))


def axes(op: str, dim: Dims, ndim: int) -> tuple[int, ...]:
    """The axes in `dim` (one, several, or None for all), none negative. A scalar has an axis 0, as in PyTorch."""
    n, dims = max(ndim, 1), range(ndim) if dim is None else dim if isinstance(dim, (tuple, list, range)) else (dim,)
    if not all(isinstance(d, (int, np.integer)) and not isinstance(d, bool) and -n <= d < n for d in dims):
        raise ValueError(f"{op}: dim {dim} is out of range for {ndim} axes")
    found = tuple([int(d) % n for d in dims])
    if len(set(found)) < len(found) or (not found and dim is not None):
        raise ValueError(f"{op}: dim {dim} must name at least one axis, and each axis once; None means all")
    return found if ndim else ()


def total(x: Array, dims: tuple[int, ...] | None = None, keepdims: bool = False, n: float = 1) -> Array:
    """The sum over these axes, divided by n. float32 is summed in float64, float16 in float32: terms may be many."""
    kernel = kernel_for(x, "total")
    y: Any = NotImplemented if kernel is None else kernel(x, dims, keepdims, n)
    if y is NotImplemented:
        y = x.sum(dims, dtype=WIDER.get(x.dtype.char), keepdims=keepdims)  # type: ignore[call-overload, unused-ignore]
        y = (y / n if n != 1 else y).astype(x.dtype, copy=False)
    return cast(Array, y)


def _leaf(data: Array, grad: Array | None, requires_grad: bool, parameter: bool) -> Tensor:
    made = Tensor(data, requires_grad)
    made.grad, made.parameter = grad, parameter
    return made


def _as_float_array(data: Any, device: str | None) -> Array:
    if type(data) is not np.ndarray or data.dtype not in FLOATS or not data.flags.writeable:
        data = as_array(data)
    return data if device is None else moved(data, device)


def _seed(tensor: Tensor, gradient: Any) -> Array:
    """d(loss)/d(tensor), from which the walk starts."""
    if gradient is None:
        if tensor.data.size != 1:
            raise RuntimeError(f"backward() starts from a scalar, not {tensor.shape}: take .sum(), or pass a gradient")
        backend, shape = backend_of(tensor.data), tensor.shape
        return np.ones(shape, tensor.dtype) if backend is CPU else one(backend, tensor.dtype, shape)
    g = gradient.data if isinstance(gradient, Tensor) else xp_of(tensor.data).asarray(gradient, tensor.dtype)
    if g.shape != tensor.shape:
        raise ValueError(f"backward(): the gradient has shape {g.shape}, the tensor {tensor.shape}")
    return g[...]  # a new object for each walk, by which a kernel knows which gradients it has already computed


def _edges(node: Node) -> list[Edge]:
    if node.edges is None:
        raise RuntimeError(f"'{node.name}' was freed by backward(): compute it again, or detach() a state that is kept "
                           "from step to step; to use it twice, pass retain_graph=True to the first")  # fmt: skip
    for tensor, version in node.reads:
        if tensor.version != version:
            raise RuntimeError(f"backward of '{node.name}' reads a weight of shape {tensor.shape} that was changed "
                               "since, by a step or load_state_dict: compute the loss again first")  # fmt: skip
    return [edge for edge in node.edges if edge[0].requires_grad]  # an input may have been frozen since


def _topological_order(root: Tensor) -> list[Tensor]:
    """All tensors that `root` was computed from, inputs first. An explicit stack: Python limits recursion to 1,000."""
    raise NotImplementedError("A1: _topological_order is yours to write")


def _fit(g: Array, parent: Tensor, op: str) -> Array:
    """A gradient in the shape and dtype of its input."""
    raise NotImplementedError("A1: _fit is yours to write")


def _cast(g: Array, parent: Tensor, op: str) -> Array:
    if parent.dtype.kind != "f":
        raise TypeError(f"the .data of an input of '{op}' was replaced by {parent.dtype}, and its gradient would be "
                        "cast to that: t.data[...] = values sets the values and keeps the float dtype")  # fmt: skip
    return g.astype(parent.dtype)


def _summed(g: Any, parent: Tensor, op: str) -> Array:
    """The gradient summed over the axes along which its input was broadcast."""
    if isinstance(g, Tensor) or not hasattr(g, "shape"):
        raise TypeError(f"the vjp of '{op}' returned a {type(g).__name__}: return an array, such as g * 2 * x.data")
    if g.shape != parent.shape:
        extra = g.ndim - parent.ndim  # axes that broadcasting added in front
        stretched = tuple(i + extra for i, n in enumerate(parent.shape) if n == 1) if extra >= 0 else ()
        summed = total(g, (*range(extra), *stretched), keepdims=True)
        if extra < 0 or summed.shape[extra:] != parent.shape:
            raise ValueError(f"the vjp of '{op}' returned shape {g.shape} for an input of shape {parent.shape}")
        g = summed.reshape(parent.shape)
    return np.asarray(g) if isinstance(g, np.generic) else g


from minidl import ops  # noqa: E402, F401 (at the end: ops imports Tensor, and a Tensor's operators call ops)
