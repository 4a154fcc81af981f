"""What all layers and models have in common: their weights have names, and can be saved, loaded and moved.

A Module's parameters are the Tensor attributes created with requires_grad=True or as a Parameter, and remain so while
frozen. Its buffers (batch norm's running statistics) are its other Tensors and its arrays, except for results that
`forward` stores for inspection, such as self.attention. Both are found by walking the attributes, and named by their
path, as in PyTorch: `features.3.bias`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from minidl.backend import Array, moved, to_numpy
from minidl.listing import listing, lost
from minidl.refuse import Named, refuse
from minidl.telling import tell
from minidl.tensor import Tensor
from minidl.values import fitted
from minidl.weights import load_weights, save_weights, shapes_in_words

BRIGHT = 16  # pixels above this are bytes, 0 to 255: no other common scale goes this high
See: TypeAlias = "Callable[[str, Module, Tensor], Tensor | None]"
watchers: ContextVar[tuple[tuple[dict[Any, str], Any], ...]] = ContextVar("watchers", default=())  # `watched` blocks
Net = TypeVar("Net", bound="Module")
Out = TypeVar("Out", covariant=True)


class Forward(Protocol[Out]):
    """For type checkers: net(x) has the return type of the network's own forward."""

    def forward(self, *inputs: Any, **named: Any) -> Out: ...


# For each `evaluating` block, by id: a module and its mode there. While a module is held, its id can't be reused.
_modes: ContextVar[tuple[dict[int, tuple[Module, bool]], ...]] = ContextVar("modes", default=())


class _OfTensors(type):
    def __instancecheck__(cls, thing: Any) -> bool:
        return isinstance(thing, Tensor) and thing.parameter


class Parameter(Tensor, metaclass=_OfTensors):
    """`data`, an array or a Tensor, as a Tensor that is a parameter of its Module; float data shares its memory.

    With requires_grad=False it is frozen: training does not change it. isinstance(t, Parameter) is true of every
    Tensor that is a parameter: there is one class of Tensors.
    """

    __slots__ = ()

    def __new__(cls, data: Any, requires_grad: bool = True) -> Parameter:
        made = Tensor(data.data if isinstance(data, Tensor) else data, requires_grad=True)
        made.requires_grad = requires_grad
        return made  # type: ignore[return-value] # for type checkers a Parameter, as in `weight: nn.Parameter`


class Module(Named):
    """Base of all layers and models. A subclass creates its weights and layers as attributes and defines `forward`.

    class Net(nn.Module):
        def __init__(self):
            self.conv, self.pool = nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(4)
            self.last = nn.Linear(8 * 7 * 7, 10, init="xavier")

        def forward(self, x):  # (N, 1, 28, 28)
            return self.last(self.pool(self.conv(x).relu()).flatten(1))  # logits (N, 10)
    """

    def __init__(self, *more: Any, **unknown: Any) -> None:
        refuse(type(self).__name__, unknown, more)  # what is left is not an argument of the layer

    def __setattr__(self, name: str, value: Any) -> None:
        old = vars(self).get(name)
        if isinstance(old, Tensor) and old.parameter and not (value is None or getattr(value, "parameter", False)):
            what = (
                "a Tensor without requires_grad"
                if isinstance(value, Tensor)
                else f"a value of type {type(value).__name__}"
            )
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter, {what} would not be trained: "
                f"assign nn.Parameter(...), or set its values with {name}.data[...] = values"
            )
        if name in ("trainable", "requires_grad") and not hasattr(type(self), name):
            tell(f"{name} on a Module freezes nothing: write for p in net.parameters(): p.requires_grad = {value}")
        kept = vars(self).setdefault("_results", None)  # names new since the first call: is it a result? None before it
        if kept is not None and isinstance(value, Tensor) and (name in kept or not isinstance(old, Tensor)):
            kept[name] = kept.get(name, False) or value.node is not None  # a result has no node under no_grad()
        object.__setattr__(self, name, value)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, x)")

    def __call__(self: Forward[Out], *inputs: Any, **named: Any) -> Out:
        """Call forward. Arrays of floats, and images of bytes, are passed as Tensors, anything else unchanged."""
        if named or not all(isinstance(x, Tensor) for x in inputs):
            inputs, named = _inputs(inputs), dict(zip(named, _inputs(named.values()), strict=True))
        vars(self)["_results"] = vars(self).get("_results") or {}
        y = self.forward(*inputs, **named)
        if y is None:
            raise TypeError(f"{type(self).__name__}.forward returned None: end it with `return` and its output")
        for names, see in (each for each in watchers.get() if self in each[0]):
            y = y if (seen := see(names[self], self, y)) is None else seen
        return y

    @contextmanager
    def watched(self, see: See) -> Iterator[None]:
        """`with model.watched(see):` calls see(name, layer, y) with the output y of each layer; the model continues
        with the Tensor that it returns, or with y if that is None. Layers are the modules without submodules; calls in
        other threads are not seen."""
        names = {module: name for name, module in self.named_modules() if not list(module.named_children())}
        mine = (names, see)
        watchers.set((*watchers.get(), mine))
        try:
            yield
        finally:
            watchers.set(tuple(each for each in watchers.get() if each is not mine))

    # ---- what it holds ----------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, with their attribute names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, each once, in order of definition, with their paths (this one's: `prefix`)."""
        return _once(self._walk(prefix))

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters, frozen ones too, each once, with their paths, in order of definition.

        Raises TypeError if an attribute is a list with layers or parameters in it: they would not be found there.
        """
        for name, value in _once(self._named_state()):
            if isinstance(value, Tensor) and (value.parameter or value.requires_grad):
                yield name, value

    def parameters(self) -> Iterator[Tensor]:
        """All parameters, frozen ones too, each once, in order of definition."""
        for _, parameter in self.named_parameters():
            yield parameter

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Like named_modules, but a module with two names is listed under both."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def _named_state(self) -> Iterator[tuple[str, Tensor | Array]]:
        """Every parameter and buffer, under all its names. Raises TypeError for weights lost in a list, so that no file
        is written without them."""
        for path, module in self.named_modules():
            module._check_attributes(path)
        for path, module in self._walk():
            for name, value in vars(module).items():
                result = (vars(module).get("_results") or {}).get(name) and not getattr(value, "parameter", False)
                if isinstance(value, (Tensor, np.ndarray)) and not result:
                    yield f"{path}.{name}" if path else name, value

    def _check_attributes(self, path: str) -> None:
        for name, kind, thing in lost(self):
            raise TypeError(
                f"{f'{path}.{name}' if path else name} is a {kind} with a {type(thing).__name__} in it: its weights "
                "are not found there. Make it an nn.ModuleList, or each an attribute of its own"
            )

    # ---- saving and loading -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter and buffer by name, as NumPy arrays, with PyTorch's names and layout.

        Further training does not change it; changes to it reach the network only through load_state_dict.
        """
        return {
            name: to_numpy(value.data if isinstance(value, Tensor) else value).copy()
            for name, value in self._named_state()
        }

    def load_state_dict(self, state: Mapping[str, Any], **other: Any) -> None:
        """Copy the values in `state` (arrays, Tensors, PyTorch CPU tensors) to the parameters and buffers by name.

        Nothing is changed unless everything fits. Raises KeyError for missing or unexpected names, ValueError for
        a wrong shape and TypeError for values that are not real numbers.
        """
        refuse("load_state_dict", other)
        if not hasattr(state, "keys") or isinstance(state, Module):
            raise TypeError(f"load_state_dict takes values by name, such as net.state_dict(), not a "
                            f"{type(state).__name__}; net.load(path) reads a file")  # fmt: skip
        own = dict(self._named_state())
        new = fitted(state, own, type(self).__name__)
        for name, target in own.items():
            array = target.data if isinstance(target, Tensor) else target
            array[...] = new[name]  # in place: an optimizer's views stay valid
            if isinstance(target, Tensor):
                target.version += 1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights and buffers, and nothing else, to `path`: a safetensors file, for PyTorch too (weights.py).

        To resume training later, save the Trainer instead. Raises OSError if the file can't be written.
        """
        save_weights(path, self.state_dict())

    def load(self: Net, path: str | os.PathLike[str]) -> Net:
        """Load the weights from the file `path` that `save` wrote, or from a run's checkpoint; returns the model.

        Raises WeightsError if it can't be read, and the errors of load_state_dict if it does not fit.
        """
        weights = load_weights(path)
        try:
            self.load_state_dict(weights)
        except (KeyError, ValueError, TypeError) as error:
            theirs, own = shapes_in_words(weights), shapes_in_words(self.state_dict())
            which = f"{path} holds {theirs}: another network's, since this {type(self).__name__} has {own}"
            raise type(error)(f"{which}; {error.args[0]}") from error
        return self

    # ---- modes and moves --------------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """False after eval(): dropout is off, batch norm uses its running statistics."""
        for modes in _modes.get():
            if here := modes.get(id(self)):
                return here[1]
        return bool(vars(self).get("training", True))

    @training.setter
    def training(self, mode: bool) -> None:
        for modes in _modes.get():
            if id(self) in modes:
                modes[id(self)] = self, bool(mode)
                return
        vars(self)["training"] = mode

    def train(self: Net, mode: bool = True) -> Net:
        """Put this module and all inside it in training mode (or, with False, in evaluation mode).

        Each module's own `train` is called, so a class may override it, such as a batch norm with frozen statistics.
        """
        self.training = mode
        for _, child in self.named_children():
            child.train(mode)
        return self

    def eval(self: Net) -> Net:
        """Evaluation mode: train(False)."""
        self.train(False)  # a user's own train() may return None
        return self

    def to(self: Net, device: str | None = None, dtype: Any = None) -> Net:
        """Move to a device ("cpu", "gpu") and/or another float dtype. Do this before building the optimizer.

        A weight that need not change keeps its gradient. Raises TypeError for a dtype that is not float.
        """
        if dtype is not None and np.dtype(dtype).kind != "f":
            raise TypeError(f"a model's weights are floats: to(dtype='float32') or 'float64', not {dtype!r}")
        for _, value in self._named_state():
            if isinstance(value, Tensor):
                data = value.data if device is None else moved(value.data, device)
                data = data if dtype is None else data.astype(dtype, copy=False)
                if data is not value.data:
                    value.data, value.home, value.grad = data, None, None
                    value.version += 1
        return self

    def __repr__(self) -> str:
        return listing(self)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name.isidentifier()]  # net.0, a layer's path, is no expression

    def extra_repr(self) -> str:
        """The layer's arguments, for printing."""
        return ""


def dtype_of(model: Module) -> Any:
    """The float dtype of the model's weights, which its inputs need too; float32 if it has none."""
    first = next(iter(model.parameters()), None)
    return np.dtype(np.float32) if first is None else first.dtype


def device_of(model: Module) -> str:
    """The device of the model's weights, "cpu" or "gpu"; "cpu" if it has none."""
    first = next(iter(model.parameters()), None)
    return "cpu" if first is None else first.device


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """`with evaluating(model):` the whole model is in evaluation mode, in this thread. In other threads, and
    afterwards, each module has its own mode, even a batch norm that alone was put in eval()."""
    modules = [module for _, module in model.named_modules()]
    of_class = [(module, module.training) for module in modules if type(module).training is not Module.training]
    mine = {id(module): (module, module.training) for module in modules}
    try:
        _modes.set((mine, *_modes.get()))
        model.eval()
        yield
    finally:
        mine.clear()  # ends this block in every context: a generator may be closed in another thread, or late
        _modes.set(tuple(filter(None, _modes.get())))
        for module, training in of_class:  # a class with its own `training`
            module.training = training


def _inputs(given: Iterable[Any]) -> tuple[Any, ...]:
    """Arrays of floats, and of bytes that may be images, as Tensors, also PyTorch's and those in an HDF5 file. Labels
    and indices stay as they are."""

    def numbers(x: Any) -> bool:
        kind = getattr(getattr(x, "dtype", None), "kind", "")
        found = kind == "f" or _dtype(x).startswith("float") or (_dtype(x) == "uint8" and x.ndim > 1)
        return found and not isinstance(x, (Tensor, np.generic))  # bytes in a row are labels

    return tuple([_tensor(x) if numbers(x) else x for x in given])


def _dtype(x: Any) -> str:
    """The name of an array's dtype: "uint8", also for torch.uint8. "" for what has none."""
    return str(getattr(x, "dtype", "")).rpartition(".")[2]


def _tensor(x: Any) -> Tensor:
    """An array as a Tensor, with a warning for bytes that are pixels: `batches` divides them by 255, this does not."""
    made = Tensor(x)
    if x.dtype != made.dtype and _dtype(x) == "uint8" and made.data.size and (high := float(made.data.max())) > BRIGHT:
        tell(f"a network is given bytes up to {high:g}, and nothing scales them: write net(x / np.float32(255))")
    return made


def _once(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Each object once, under the first of its names."""
    seen: set[int] = set()
    for name, thing in named:
        if id(thing) not in seen:
            seen.add(id(thing))
            yield name, thing
