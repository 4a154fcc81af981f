"""What all layers and models have in common: their weights have names, and can be saved, loaded and moved.

A Module's parameters are its Tensor attributes that require a gradient; its buffers (batch norm's running
statistics) are the Tensor and array attributes that do not. Both are found by walking the attributes, and named by
their path, as in PyTorch: `0.weight`, `features.3.bias`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import Array, backend_of, get_backend, to_numpy
from minidl.tensor import Tensor

See: TypeAlias = "Callable[[str, Module, Tensor], Tensor]"
watchers: ContextVar[tuple[tuple[dict[Module, str], See], ...]] = ContextVar("watchers", default=())  # `watched` blocks


class Module:
    """Base of all layers and models. A subclass creates its weights and layers as attributes and writes `forward`."""

    training: bool = True  # False after eval(): dropout passes everything, batch norm uses its running statistics

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, x)")

    def __call__(self, x: Tensor) -> Tensor:
        y = self.forward(x)
        for names, see in watchers.get():
            if self in names:
                y = see(names[self], self, y)
        return y

    @contextmanager
    def watched(self, see: See) -> Iterator[None]:
        """`with model.watched(see):` see(name, layer, y) gets the output y of each layer, and the model goes on with
        the Tensor that it returns. Layers are the modules with none inside; a block in another thread sees nothing."""
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
        """This module and all inside it, with their paths ('' for this one), in the order of definition."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The trainable tensors with their paths, in the order of definition."""
        for name, value in self._named_state():
            if isinstance(value, Tensor) and value.requires_grad:
                yield name, value

    def parameters(self) -> Iterator[Tensor]:
        """The trainable tensors, in the order of definition."""
        for _, parameter in self.named_parameters():
            yield parameter

    def _named_state(self) -> Iterator[tuple[str, Tensor | Array]]:
        """Every tensor and array, parameters and buffers."""
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, (Tensor, np.ndarray)):
                    yield f"{path}.{name}" if path else name, value

    # ---- saving and loading -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter and buffer by name, as NumPy arrays, in PyTorch's names and layout."""
        return {
            name: to_numpy(value.data if isinstance(value, Tensor) else value).copy()
            for name, value in self._named_state()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy values (arrays, Tensors or PyTorch CPU tensors) into the parameters and buffers of the same names.

        Nothing is changed unless everything fits. Raises KeyError for missing or unexpected names and ValueError
        for another shape.
        """
        own = dict(self._named_state())
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise KeyError(f"load_state_dict: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}")
        values = {name: _host_array(value) for name, value in state.items()}
        for name, target in own.items():
            if values[name].shape != target.shape:
                raise ValueError(
                    f"load_state_dict: {name} has shape {values[name].shape}, this model needs {target.shape}"
                )
        for name, target in own.items():
            array = target.data if isinstance(target, Tensor) else target
            array[...] = backend_of(array).from_host(values[name])  # in place: an optimizer's views stay valid

    # ---- modes and moves --------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Put this module and all inside it in training mode (or, with False, in evaluation mode)."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: train(False)."""
        return self.train(False)

    def to(self, device: str | None = None, dtype: Any = None) -> Module:
        """Move to a device ("cpu", "gpu") and/or another float dtype. Do this before building the optimizer."""
        for _, value in self._named_state():
            if isinstance(value, Tensor):
                here = backend_of(value.data)
                there = here if device is None else get_backend(device)
                data = value.data if here is there else there.from_host(here.to_host(value.data))
                data = data if dtype is None else data.astype(dtype, copy=False)
                if data is not value.data:
                    value.data, value.home = data, None
                value.grad = None
        return self

    def __repr__(self) -> str:
        inside = "".join(f"\n  ({name}): " + repr(m).replace("\n", "\n  ") for name, m in self.named_children())
        return f"{type(self).__name__}({self.extra_repr()}{inside}{chr(10) if inside else ''})"

    def extra_repr(self) -> str:
        """The layer's arguments, for printing."""
        return ""


def _host_array(value: Any) -> Array:
    """The NumPy array of a Tensor, an array on any device, or a PyTorch CPU tensor."""
    if isinstance(value, Tensor):
        return value.numpy()
    try:
        return to_numpy(value)
    except TypeError:
        return np.asarray(value)
