"""Layers: an operation together with the weights that it owns (see module.py for what they have in common).

Convolution and pooling are in nn_conv.py, rarer layers in nn_more.py; all can be imported from here.
init.py draws the initial weights.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl import ops
from minidl.backend import accelerated, same_bits
from minidl.init import check_sizes, drawn_by_chance, initial_weights
from minidl.module import Module, Parameter
from minidl.nn_conv import AvgPool2d, Conv2d, MaxPool2d
from minidl.nn_more import GELU, BCEWithLogitsLoss, CrossEntropyLoss, LeakyReLU, MSELoss, Softmax
from minidl.refuse import listed, missing, real, refuse_input
from minidl.rng import CounterRng, Rng
from minidl.tensor import Tensor

__all__ = [
    "GELU", "AvgPool2d", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Conv2d", "CrossEntropyLoss", "Dropout",
    "Flatten", "LeakyReLU", "Linear", "MSELoss", "MaxPool2d", "Module", "ModuleList", "Parameter", "ReLU",
    "Sequential", "Sigmoid", "Softmax", "Standardize", "Tanh",
]  # fmt: skip


class _Layers(Module):
    """A sequence of layers, named "0", "1", ... or by the keys of an OrderedDict."""

    def _add(self, name: str, layer: Any) -> None:
        self._check(name, layer)
        if "." in name or hasattr(self, name):
            why = "a dot separates names in a path" if "." in name else "that name is taken"
            raise ValueError(f"{type(self).__name__}: a layer can't be named {name!r}: {why}")
        setattr(self, name, layer)

    def _check(self, name: str, layer: Any) -> None:
        kind = type(self).__name__
        if isinstance(layer, type) and issubclass(layer, Module):
            raise TypeError(f"{kind}: layer {name} is the class {layer.__name__} itself: write {layer.__name__}(...)")
        if not isinstance(layer, Module):
            what = getattr(layer, "__name__", type(layer).__name__)
            raise TypeError(f"{kind}: layer {name} is not a Module but {what!r}: nn.ReLU() for a function relu, "
                            "*layers for a list, else a class of your own with forward(self, x)")  # fmt: skip

    def __iter__(self) -> Iterator[Module]:
        return (layer for _, layer in self.named_children())

    def __getitem__(self, i: Any) -> Any:
        """The layer at index i; for a slice, a new container of these layers, with the same weights."""
        if not isinstance(i, slice):
            return list(self)[i]
        part = ModuleList() if isinstance(self, ModuleList) else Sequential()  # a subclass may need arguments
        for name, layer in list(self.named_children())[i]:
            part._add(name, layer)
        return part

    def __setitem__(self, i: int, layer: Module) -> None:
        """Replace the layer at index i, for example by a new head. The name stays."""
        name = list(self.named_children())[operator.index(i)][0]
        self._check(name, layer)
        setattr(self, name, layer)

    def __delitem__(self, i: Any) -> None:
        raise TypeError("layers can't be deleted: net[:-1] is a network without the last one, with the same weights")

    def __len__(self) -> int:
        return len(list(iter(self)))

    def append(self, layer: Module) -> Any:
        """Add a layer at the end; returns the container."""
        self._add(str(len(self)), layer)
        return self


class Sequential(_Layers):
    """Layers applied in order, named "0", "1", ..., or by the keys of an OrderedDict; model[0] is the first."""

    def __init__(self, *layers: Any) -> None:
        named = layers[0].items() if len(layers) == 1 and isinstance(layers[0], dict) else enumerate(layers)
        for name, layer in named:
            self._add(str(name), layer)

    @same_bits
    @accelerated
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


class ModuleList(_Layers):
    """A list of layers whose weights are found, named and saved. Your own forward applies them.

    layers  Modules, named "0", "1", ...

    Raises TypeError for anything but a Module.
    """

    def __init__(self, layers: Iterable[Module] = ()) -> None:
        for i, layer in enumerate(layers):
            self._add(str(i), layer)


# ---- layers with weights ----


class Linear(Module):
    """y = x W^T + b, (..., in_features) -> (..., out_features). weight (out_features, in_features), bias zeros or None.

    init  "kaiming" (default) before a ReLU, "xavier" otherwise, or "pytorch" (see init.py); anything else: ValueError
    rng   a Generator, a seed, or None: the next stream of the enclosing `minidl.seed` block, else fresh entropy
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: str = "kaiming",
        rng: Rng = None,
        **other: Any,
    ) -> None:
        super().__init__(**other)
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = initial_weights((out_features, in_features), in_features, out_features, init, rng)
        self.by_chance = drawn_by_chance(self.weight, rng)
        self.bias = Tensor(np.zeros(out_features, np.float32), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}" + (", bias=False" if self.bias is None else "")


class _BatchNorm(Module):
    ndim: int

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, **other: Any
    ) -> None:
        super().__init__(**other)
        name = type(self).__name__
        check_sizes(name, num_features=num_features)
        self.num_features = num_features
        if not real(eps) > 0:
            raise ValueError(f"{name}: eps must be above 0, got {eps!r}")
        if momentum is None:
            raise TypeError(f"{name}: momentum=None, a mean over all batches, is not supported: give a number like 0.1")
        if not 0 <= real(momentum) <= 1:
            raise ValueError(f"{name}: momentum must be in [0, 1], the weight of the new batch, got {momentum!r}")
        self.eps, self.momentum = eps, momentum
        self.weight = Tensor(np.ones(num_features, np.float32), requires_grad=True) if affine else None
        self.bias = Tensor(np.zeros(num_features, np.float32), requires_grad=True) if affine else None
        self.running_mean = Tensor(np.zeros(num_features, np.float32))
        self.running_var = Tensor(np.ones(num_features, np.float32))
        self.num_batches_tracked = np.zeros((), np.int64)  # PyTorch keeps this count, so its state dicts have it

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.ndim:
            hints = {4: ": images without a channel axis get one with x[:, None]",
                     2: ": signals (N, C, L) take nn.BatchNorm2d as x[:, :, None]"}  # fmt: skip
            hint = hints[self.ndim] if x.ndim == 3 else ""
            raise ValueError(f"{type(self).__name__}: x {x.shape} must have {self.ndim} axes{hint}")
        if self.training:
            self.num_batches_tracked += 1
        return ops.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def extra_repr(self) -> str:
        affine = ", affine=False" if self.weight is None else ""
        return f"{self.running_mean.size}, eps={self.eps}, momentum={self.momentum}{affine}"


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) per channel, in the same shape; see ops.batch_norm for the paper.

    num_features  C
    eps           > 0, keeps the division finite
    momentum      how far the running statistics move at each training step, in [0, 1] (Keras's is 1 - momentum)
    affine        False: no weight and no bias

    weight (C,) of ones, bias (C,) of zeros, float32; running_mean and running_var (C,) are saved with them.
    Raises ValueError for eps <= 0 and a momentum outside [0, 1].
    """

    ndim = 2


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W) per channel, over images and pixels; otherwise like BatchNorm1d.

    num_features, eps, momentum, affine  as for BatchNorm1d
    """

    ndim = 4


# ---- layers without weights ----


class Standardize(Module):
    """(x - mean) / std: standardizes the input, as a network's first layer. torchvision calls it Normalize.

    mean, std  numbers, or arrays that broadcast with x. They are not parameters, but part of the state dict, so they
               are saved with the weights

    Raises ValueError for a std that is not above 0 everywhere.
    """

    def __init__(self, mean: Any = 0.0, std: Any = 1.0) -> None:
        self.mean, self.std = Tensor(np.asarray(mean, np.float32)), Tensor(np.asarray(std, np.float32))
        if not (self.std.data > 0).all():
            least = self.std.data.min()
            raise ValueError(f"Standardize: std must be above 0, got {least:g}: make it 1 where x is constant")

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"mean={self.mean.numpy().round(4)!s}, std={self.std.numpy().round(4)!s}"


class Dropout(Module):
    """In training, sets each value to 0 with probability p and scales the others by 1/(1-p); off in evaluation.

    p    in [0, 1)
    rng  a Generator, a seed, or None (see Linear): the layer draws its key from it (see rng.py)

    Raises ValueError for any other p. Srivastava et al. 2014.
    """

    def __init__(self, p: float = 0.5, *more: Any, rng: Rng = None, **other: Any) -> None:
        super().__init__(*more, **other)
        refuse_input("Dropout", p)
        if not 0 <= real(p) < 1:
            raise ValueError(f"Dropout: p must be in [0, 1), got {p!r}")
        self.p, self.rng = p, CounterRng(rng)

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.rng) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """(N, C, H, W) -> (N, C*H*W): merges the axes from `start_dim` to `end_dim`, see ops.flatten."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        refuse_input("Flatten", start_dim)
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, self.start_dim, self.end_dim)


class ReLU(Module):
    """max(x, 0), in the shape of x."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Tanh(Module):
    """Hyperbolic tangent, in the shape of x."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e^-x), in the shape of x."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise missing("minidl.nn", name, known=__all__)


def __dir__() -> list[str]:
    return listed(__name__)
