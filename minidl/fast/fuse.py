"""Layers of a Sequential that a device can compute fused, such as Conv2d, ReLU and MaxPool2d in a row.

Each layer alone writes an array as large as the batch, which the next one reads. Fused, they pass values on while these
are in the cache of a CPU or the registers of a GPU. On the CPU both ways give the same bits.

A `form` of some layers takes their input and then the arguments of their operations, in order: for Conv2d, ReLU and
MaxPool2d it is form(x, weight, bias, stride, padding, kernel_size, stride, padding). Like a kernel, it may return
NotImplemented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from minidl import ops
from minidl.backend import CPU, kernel_for
from minidl.fast.conv import conv2d_relu_max_pool2d
from minidl.module import Module, watchers
from minidl.nn import BatchNorm2d, Conv2d, Linear, MaxPool2d, ReLU, Sequential
from minidl.tensor import Tensor

Form: TypeAlias = Callable[..., Any]
Kinds: TypeAlias = "tuple[type[Module], ...]"


def batch_norm(x: Any, ndim: int, batches: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool,
               momentum: float, eps: float, norm: Form | None = None) -> Any:  # fmt: skip
    """What nn.BatchNorm1d and 2d do: ops.batch_norm, or another form `norm` of it, and counting the batch."""
    form = norm or ops.batch_norm
    y = NotImplemented if x.ndim != ndim else form(x, mean, var, weight, bias, training, momentum, eps)
    if y is not NotImplemented and training:
        batches += 1
    return y


NORM = ("ndim", "num_batches_tracked", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
OPERATIONS: dict[type[Module], tuple[Callable[..., Tensor], tuple[str, ...]]] = {  # each with the layer's arguments
    Linear: (ops.linear, ("weight", "bias")),
    Conv2d: (ops.conv2d, ("weight", "bias", "stride", "padding")),
    BatchNorm2d: (batch_norm, NORM),  # and BatchNorm1d, which has the same forward
    MaxPool2d: (ops.max_pool2d, ("kernel_size", "stride", "padding")),
    ReLU: (ops.relu, ()),
}
# Those of nn.py: a layer with another forward is never fused.
FORWARDS: dict[Any, type[Module]] = {kind.forward: kind for kind in OPERATIONS}


def one_by_one(kinds: Kinds) -> Form:
    """What a form of these layers must compute: their operations, one after another."""

    def form(x: Any, *args: Any) -> Tensor:
        for operation, names in (OPERATIONS[kind] for kind in kinds):
            x, args = operation(x, *args[: len(names)]), args[len(names) :]
        return x

    form.__name__ = "-".join(kind.__name__ for kind in kinds)
    return form


class Segment(NamedTuple):
    """Consecutive layers with their fused form, or a single layer with None."""

    layers: list[Module]
    form: Form | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = NotImplemented if self.form is None else self.form(x, *self.arguments())
        if y is NotImplemented:
            y = x
            for layer in self.layers:
                y = layer(y)
        return y

    def arguments(self) -> Iterator[Any]:
        for layer in self.layers:
            for name in OPERATIONS[FORWARDS[type(layer).forward]][1]:
                yield getattr(layer, name)


class Fused:
    """Sequential.forward on a device with fused forms: types of consecutive layers -> form.

    A model's segments are found once, and again when its layers change or one of them gets another `forward`.
    """

    def __init__(self, forms: Mapping[Kinds, Form]) -> None:
        self.forms = dict(sorted(forms.items(), key=lambda item: -len(item[0])))  # the longest match wins
        self._found: WeakKeyDictionary[Module, tuple[list[Any], list[Segment]]] = WeakKeyDictionary()

    def __call__(self, model: Sequential, x: Tensor, *more: Any) -> Any:
        if more or watchers.get():
            return NotImplemented  # a watcher needs the output of each layer; for more inputs forward raises
        for segment in self.segments(model):
            x = segment(x)
        return x

    def segments(self, model: Sequential) -> list[Segment]:
        """The layers as they are called: fused where there is a form, else one by one."""
        layers = list(model)
        now = [(layer, _forward(layer)) for layer in layers]
        made_of, segments = self._found.get(model, (None, []))
        if made_of != now:
            segments = list(self._group(layers, [FORWARDS.get(forward) for _, forward in now]))
            self._found[model] = now, segments
        return segments

    def _group(self, layers: list[Module], kinds: list[Any]) -> Iterator[Segment]:
        while layers:
            n, form = next(((len(k), f) for k, f in self.forms.items() if tuple(kinds[: len(k)]) == k), (1, None))
            yield Segment(layers[:n], form)
            layers, kinds = layers[n:], kinds[n:]


def _forward(layer: Module) -> Any:
    """The `forward` of the layer's class; None where the instance has its own, or the class its own `__call__`."""
    own = "forward" in vars(layer) or type(layer).__call__ is not Module.__call__
    return None if own else type(layer).forward


def in_one_piece(model: Module) -> bool:
    """Whether some layers of the model are fused on its device: watching them then costs time."""
    fused = kernel_for(next((p.data for p in model.parameters()), None), "Sequential.forward")
    parts = (module for _, module in model.named_modules() if isinstance(module, Sequential))
    return fused is not None and any(segment.form for part in parts for segment in fused.segments(part))  # type: ignore[attr-defined]


CPU.kernels["Sequential.forward"] = Fused({(Conv2d, ReLU, MaxPool2d): conv2d_relu_max_pool2d})
