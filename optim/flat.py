"""All parameters of a model, concatenated in one vector `w`, and their gradients in another, `g`.

Papers write an update rule for one vector w, and so do we: every parameter becomes a view of its slice of `w`. A rule
then changes all of them in one pass over memory, and the projection of a whole step on the whole gradient is literally
`p @ g`. The network notices nothing: it still reads `p.data`, which now lies in `w`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from operator import attrgetter, is_
from sys import getrefcount, maxsize
from typing import Any

import numpy as np

from minidl.backend import Array, backend_of, xp_of
from minidl.optim.groups import read_groups
from minidl.telling import tell
from minidl.tensor import Home, Tensor

# Rules are elementwise, so on the CPU they run block by block: Adam's dozen passes over one block find its five arrays
# in the cache of one core (1.3 MB of float32), where passes over the whole vector wait for main memory. This saves two
# fifths of an update's time for 1.9 million floats, a sixth for 0.2 million.
BLOCK = 1 << 16
LINE = 64  # bytes in a cache line
SLIPS = {  # mistakes that collect() finds in the gradients; each is warned about once
    "none": "this step found no gradient, and moves nothing: call loss.backward() before optimizer.step(), on a loss "
    "of the network whose parameters() the optimizer was built with (a network that is built again has new ones)",
    "stale": "this step uses gradients that the previous step already used: call optimizer.zero_grad() before "
    "loss.backward(), or each gradient is added to all those before it",
}


class FlatParameters:
    """The vectors w and g of a list of parameters.

    params  leaves of one float dtype and on one device, frozen ones included; duplicates are taken once
    w, g    (n,) arrays, n the total number of elements; `p.data` and `p.grad` become views of them
    blocks  slices that together cover the vectors: one on the GPU, of BLOCK elements each on the CPU

    Raises ValueError where a parameter does not fit the others. `FlatParameters.of(params)` reuses existing vectors.
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        self.params = _checked(params)
        self.xp = backend_of(self.params[0].data).xp
        if self.xp is np:
            _tell_shared(self.params)
        n = sum(p.size for p in self.params)
        self.w: Array = _zeros(self.xp, n, self.params[0].dtype)
        self.g: Array = _zeros(self.xp, n, self.params[0].dtype)
        self.blocks = _blocks(self.w)
        self.told: set[Any] = set()  # what the user has been warned about; for custom rules, with the class
        self._w_views: list[Array] = []
        self._homes: list[Home] = []
        start = 0
        for p in self.params:
            stretch = slice(start, start + p.size)
            self._move_in(p, self.w[stretch].reshape(p.shape), self.g[stretch].reshape(p.shape))
            start += p.size
        self.memory = self.g.base if self.xp is np else None  # what g lies in, and the number of its views now:
        self.views = getrefcount(self.memory) if self.xp is np else maxsize  # more: the user keeps one, see Home.fill

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
        """The vectors of these parameters: those that they already lie in, else new ones."""
        params, _ = read_groups(params)
        home = getattr(params[0], "home", None) if params else None
        if home is not None and home.owner.holds(params):
            return home.owner
        found = cls(params)
        if not any(p.requires_grad for p in found.params):
            raise ValueError("none of these parameters has requires_grad=True: there is nothing to train")
        return found

    def holds(self, params: list[Tensor]) -> bool:
        """Whether exactly these parameters, in this order, still lie in these vectors."""
        data = [p.data for p in params]
        return (
            len(params) == len(self.params)
            and all(map(is_, params, self.params))
            and all(map(is_, data, self._w_views))
        )

    def all_moving(self) -> bool:
        """Whether all parameters require a gradient now."""
        return all(map(attrgetter("requires_grad"), self.params))

    def collect(self) -> list[int]:
        """Make `g` the gradient of this step. Returns which parameters rest (frozen or without one): `g` is 0 there.
        Raises RuntimeError if a parameter's data is no longer the view of `w`: an update would not reach it."""
        resting, stale = [], False
        for i, (p, w, home) in enumerate(zip(self.params, self._w_views, self._homes, strict=True)):
            if p.data is not w:
                raise RuntimeError(_moved_out(i, p, self))
            if p.grad is None or not p.requires_grad:
                resting.append(i)
                _clear(p, home)
                continue
            if p.grad is not home.grad:
                _move_gradient(i, p, home)
            stale = stale or home.stepped
            home.stepped = True
            p.version += 1  # so that a graph recorded before this step can tell
        none = len(resting) == len(self.params) and any(p.requires_grad for p in self.params)
        if none or stale:
            self.tell_once(slip := "none" if none else "stale", SLIPS[slip])
        return resting

    def tell_once(self, what: Any, words: str) -> None:
        """Warn, the first time only."""
        if what not in self.told:
            self.told.add(what)
            tell(words)

    def renew(self) -> None:
        """Allocate a new vector for the gradients. On a GPU the old one stays: captured steps write to it."""
        if self.xp is not np:
            return
        self.g = self.zeros()
        self.memory, start = self.g.base, 0
        for p, home in zip(self.params, self._homes, strict=True):
            old, home.grad = home.grad, self.g[start : start + p.size].reshape(p.shape)
            if p.grad is old:
                home.grad[...] = old
                p.grad = home.grad
            start += p.size

    def part(self, stretch: slice) -> FlatParameters:
        """The same vectors restricted to this slice, for a rule that updates it; it has no parameters."""
        found = object.__new__(FlatParameters)
        found.xp, found.params = self.xp, []
        found.w, found.g = self.w[stretch], self.g[stretch]
        found.blocks = _blocks(found.w)
        vars(found).update(room=self.room, _scratch=self._scratch, told=self.told)  # the same memory to work in
        return found

    def __reduce__(self) -> Any:
        return FlatParameters, (self.params,)  # a copy has new vectors, for the copied parameters to lie in

    def zeros(self) -> Array:
        """A new vector of this length, for an optimizer's state."""
        return _zeros(self.xp, len(self.w), self.w.dtype)

    @cached_property
    def room(self) -> Array:
        """Memory for the step of one block, reused at every step."""
        return self.xp.empty_like(self.w[self.blocks[0]])

    @cached_property
    def _scratch(self) -> Array:
        return self.xp.empty_like(self.w[self.blocks[0]])

    def scratch(self, like: Array) -> Array:
        """A work array of that shape: the same memory for each block and step, if it is large enough."""
        own = self._scratch
        return own[: len(like)] if type(like) is type(own) and len(like) <= len(own) else xp_of(like).empty_like(like)

    @contextmanager
    def showing(self, other: Array) -> Iterator[None]:
        """Inside the block, the parameters have the values of another vector (n,), such as their average."""
        own = self.w.copy()
        self.w[...] = other
        try:
            yield
        finally:
            self.w[...] = own

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients: `.grad` becomes None, or zeros where set_to_none is False and there is one."""
        if not set_to_none:
            self.g[...] = 0
        for p, home in zip(self.params, self._homes, strict=True):
            p.grad = None if set_to_none or p.grad is None else home.grad
            home.stepped = False


def _zeros(xp: Any, n: int, dtype: Any) -> Array:
    """n zeros, on the CPU aligned to a cache line.

    NumPy's own arrays may start 16 bytes into one. Then every other access of a vector instruction touches two lines,
    and an update takes up to 8 % longer.
    """
    if xp is not np:
        return xp.zeros(n, dtype)
    memory = np.zeros(n * dtype.itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + n * dtype.itemsize].view(dtype)


def _move_gradient(i: int, p: Tensor, home: Home) -> None:
    """Copy what the user has assigned to `.grad` into the vector."""
    assert p.grad is not None
    if not hasattr(p.grad, "shape"):  # NumPy scalars have one: they are a scalar's gradient
        what = "the number" if isinstance(p.grad, (int, float)) else f"a {type(p.grad).__name__}, not an array,"
        raise ValueError(f"parameter {i}: its .grad is {what} {p.grad}: p.grad = None resets it")
    if p.grad.shape != p.shape:
        raise ValueError(f"parameter {i}: its .grad has shape {p.grad.shape}, its data {p.shape}")
    p.grad, p.home = home.fill(p.grad), home


def _clear(p: Tensor, home: Home) -> None:
    """Zero this gradient in the vector; if the user's `.grad` lies there, it becomes a copy."""
    if p.grad is home.grad:
        p.grad = home.grad.copy()
    home.fill(0.0)


def _blocks(w: Array) -> list[slice]:
    """Slices that cover the vector."""
    n = len(w)
    block = BLOCK if xp_of(w) is np else max(n, 1)
    return [slice(start, min(start + block, n)) for start in range(0, max(n, 1), block)]


def _checked(params: Iterable[Tensor]) -> list[Tensor]:
    params, _ = read_groups(params)
    if not params:
        raise ValueError("an optimizer needs at least one parameter, this list is empty (model.parameters() used up?)")
    for i, p in enumerate(params):
        if not isinstance(p, Tensor):
            what = "pass model.parameters()"
            if type(p).__module__.startswith("torch"):
                what = "for a model of PyTorch, minidl.optim.torch.wrap(Adam, model.parameters(), ...)"
            raise TypeError(f"parameter {i} is a {type(p).__name__}, not a Tensor: {what}")
        if p.node is not None:
            raise ValueError(f"parameter {i}, shape {p.shape}, is computed from others: optimize those, the leaves; "
                             "detach() what forward() keeps in an attribute, such as a mean")  # fmt: skip
        if (p.dtype, p.device) != (params[0].dtype, params[0].device):
            raise ValueError(
                f"all parameters need one dtype and device: parameter 0, shape {params[0].shape}, is {params[0].dtype} "
                f"on {params[0].device}, parameter {i}, shape {p.shape}, is {p.dtype} on {p.device}. Call "
                "model.to(device, dtype) first; np.ones(n) makes float64, np.ones(n, np.float32) float32"
            )
    return params


def _tell_shared(params: list[Tensor]) -> None:
    """Warn about weights tied by shared memory: moved into `w` they are no longer tied, as they would be in PyTorch."""
    for a, b in pairwise(sorted(params, key=lambda p: p.data.ctypes.data)):
        if np.shares_memory(a.data, b.data):
            tell(f"two parameters, of shapes {a.shape} and {b.shape}, share memory, and the optimizer separates them: "
                 "to tie weights, use one parameter, b.weight = a.weight, or a.weight.T in forward()")  # fmt: skip
            return


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
