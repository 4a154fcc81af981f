"""All parameters of a model, end to end in one vector `w`, and their gradients in another, `g`.

Papers write an update rule for one vector w, and so do we: every parameter becomes a view of its stretch of `w`, so
that a rule changes all of them in one pass over memory, and the projection of a whole step on the whole gradient is
literally `p @ g`. The network notices nothing: it goes on reading `p.data`, which now lies in `w`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from operator import is_
from typing import Any

import numpy as np

from minidl.backend import Array, backend_of, xp_of
from minidl.tensor import Home, Tensor

# Rules are element by element, so on the CPU they run block by block: the dozen passes of Adam over one block find its
# five arrays in the cache of one core (1.3 MB of float32), where passes over the whole vector wait for main memory.
# That saves two fifths of an update's time over 1.9 million floats, a sixth over 0.2 million.
BLOCK = 1 << 16
LINE = 64  # bytes that travel between memory and cache together


class FlatParameters:
    """The vectors w and g of a list of parameters.

    params  Tensors that require a gradient, of one float dtype and on one device
    w, g    (n,) arrays, n the number of all their elements; `p.data` and `p.grad` become views of them
    blocks  slices that together cover the vectors: one on the GPU, of BLOCK elements each on the CPU

    Raises ValueError where a parameter does not fit with the others. Use `FlatParameters.of(params)`, which finds the
    vectors again when the same list of parameters has been packed before.
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        self.params = _checked(params)
        backend = backend_of(self.params[0].data)
        self.xp = backend.xp
        n = sum(p.size for p in self.params)
        self.w: Array = _zeros(self.xp, n, self.params[0].dtype)
        self.g: Array = _zeros(self.xp, n, self.params[0].dtype)
        block = BLOCK if backend.name == "cpu" else max(n, 1)
        self.blocks = [slice(start, min(start + block, n)) for start in range(0, max(n, 1), block)]
        self._w_views: list[Array] = []
        self._homes: list[Home] = []
        start = 0
        for p in self.params:
            stretch = slice(start, start + p.size)
            self._move_in(p, self.w[stretch].reshape(p.shape), self.g[stretch].reshape(p.shape))
            start += p.size

    def _move_in(self, p: Tensor, w: Array, g: Array) -> None:
        w[...] = p.data
        if p.grad is not None:
            g[...] = p.grad
            p.grad = g
        p.data, p.home = w, Home(self, g)
        self._w_views.append(w)
        self._homes.append(p.home)

    @classmethod
    def of(cls, params: Iterable[Tensor]) -> FlatParameters:
        """The vectors of these parameters: those that they lie in already, else new ones."""
        if not isinstance(params, Iterable):
            raise TypeError(f"parameters come first, got {params!r}: write SGD(model.parameters(), lr=0.1)")
        params = list(params)
        home = getattr(params[0], "home", None) if params else None
        if home is not None and home.owner.holds(params):
            return home.owner
        return cls(params)

    def holds(self, params: list[Tensor]) -> bool:
        """Whether exactly these parameters, in this order, still lie in these vectors."""
        data = [p.data for p in params]
        return (
            len(params) == len(self.params)
            and all(map(is_, params, self.params))
            and all(map(is_, data, self._w_views))
        )

    def moving(self) -> tuple[bool, ...]:
        """Which of the parameters ask for a gradient now."""
        return tuple([p.requires_grad for p in self.params])

    def collect(self) -> None:
        """Make `g` the gradient of this step. A parameter whose `.grad` is None counts as having gradient zero.

        Raises RuntimeError if a parameter's data is no longer the view of `w`: an update would not reach it.
        """
        for i, (p, w, home) in enumerate(zip(self.params, self._w_views, self._homes, strict=True)):
            if p.data is not w:
                raise RuntimeError(_moved_out(i, p, self))
            if p.grad is None:
                home.grad[...] = 0
            elif p.grad is not home.grad:
                if p.grad.shape != w.shape:
                    raise ValueError(f"parameter {i}: its .grad has shape {p.grad.shape}, its data {w.shape}")
                p.grad, p.home = home.fill(p.grad), home
            p.version += 1  # a graph that was recorded before this step can tell

    def zeros(self) -> Array:
        """A new vector of this length, for an optimizer's state."""
        return _zeros(self.xp, len(self.w), self.w.dtype)

    @cached_property
    def room(self) -> Array:
        """Memory for the steps of one block, the same at every step."""
        return self.xp.empty_like(self.w[self.blocks[0]])

    @cached_property
    def _scratch(self) -> Array:
        return self.xp.empty_like(self.w[self.blocks[0]])

    def scratch(self, like: Array) -> Array:
        """An array of that shape to work in: the same memory for each block and step, as far as it reaches."""
        own = self._scratch
        return own[: len(like)] if type(like) is type(own) and len(like) <= len(own) else xp_of(like).empty_like(like)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients: `.grad` becomes None, or zeros where set_to_none is False."""
        if not set_to_none:
            self.g[...] = 0
        for p, home in zip(self.params, self._homes, strict=True):
            p.grad = None if set_to_none else home.grad


def _zeros(xp: Any, n: int, dtype: Any) -> Array:
    """n zeros. On the CPU they begin where a line of the cache begins.

    NumPy's own arrays may begin 16 bytes into one. Then every other access of a vector instruction takes two lines,
    and an update up to 8 % longer.
    """
    if xp is not np:
        return xp.zeros(n, dtype)
    memory = np.zeros(n * dtype.itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + n * dtype.itemsize].view(dtype)


def _checked(params: Iterable[Tensor]) -> list[Tensor]:
    params = list(params)
    if not params:
        raise ValueError("an optimizer needs at least one parameter, this list is empty (model.parameters() used up?)")
    for i, p in enumerate(params):
        if not isinstance(p, Tensor):
            raise TypeError(f"parameter {i} is a {type(p).__name__}, not a Tensor: pass model.parameters()")
        if not p.requires_grad or p.node is not None:
            raise ValueError(f"parameter {i}, shape {p.shape}, must be a leaf made with requires_grad=True")
        if (p.dtype, p.device) != (params[0].dtype, params[0].device):
            raise ValueError(
                f"all parameters need one dtype and device: parameter 0 is {params[0].dtype} on {params[0].device}, "
                f"parameter {i} is {p.dtype} on {p.device}. Call model.to(device, dtype) first"
            )
    if len(set(params)) < len(params):
        raise ValueError("a parameter is in the list twice: it would be updated twice per step")
    return params


def _moved_out(i: int, p: Tensor, here: FlatParameters) -> str:
    if p.home is not None and p.home.owner is not here:
        return (
            f"parameter {i}, shape {p.shape}, was taken over by an optimizer built later from another list of "
            "parameters: use that one, or give both the same list"
        )
    return (
        f"parameter {i}, shape {p.shape}: its .data was replaced, so the optimizer's update would not reach it. "
        "Write `p.data[...] = values` to set it, and build the optimizer after model.to(...)"
    )
