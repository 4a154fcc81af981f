"""A trained Sequential as data for a page: its layers in order, with all that web/network.js needs to run them.

A page runs no Python, so it supports only the layers listed here. Any other is rejected by name.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl import nn
from minidl.backend import Array
from minidl.grad_mode import no_grad
from minidl.module import Module
from minidl.tensor import Tensor

Layer = dict[str, Any]

LAYERS: dict[type[Module], Callable[[Any], Layer]] = {
    nn.Linear: lambda m: {"weight": m.weight, "bias": m.bias},
    nn.Conv2d: lambda m: {"weight": m.weight, "bias": m.bias, "stride": m.stride, "padding": m.padding},
    nn.BatchNorm1d: lambda m: _scale_and_shift(m),
    nn.BatchNorm2d: lambda m: _scale_and_shift(m),
    nn.Standardize: lambda m: {"mean": m.mean, "std": m.std},
    nn.Dropout: lambda m: {},
    nn.Flatten: lambda m: {},
    nn.MaxPool2d: lambda m: {"size": m.kernel_size, "stride": m.stride, "padding": m.padding},
    nn.AvgPool2d: lambda m: {"size": m.kernel_size, "stride": m.stride, "padding": m.padding},
    nn.ReLU: lambda m: {},
    nn.LeakyReLU: lambda m: {"slope": m.negative_slope},
    nn.GELU: lambda m: {"approximate": m.approximate},
    nn.Tanh: lambda m: {},
    nn.Sigmoid: lambda m: {},
    nn.Softmax: lambda m: {},
}
NAMES = ", ".join(["Sequential", *(kind.__name__ for kind in LAYERS)])


class NotOnPage(ValueError):
    """A network that a page can't run. The message names the layer."""


def described(model: Module, size: tuple[int, int]) -> list[Layer]:
    """The layers of a Sequential for images (1, height, width), in order; arrays as text.

    Each has its kind, its name in the state dict, its arguments in words, the shape of its output for one image, and
    what its kind needs. Raises NotOnPage, with the layer's name, for anything but a Sequential of listed layers.
    """
    x, layers = Tensor(np.zeros((1, 1, *size), np.float32)), []
    with no_grad():
        for name, module in _in_order(model, ""):
            kind = _kind(name, module)
            before = x.shape[1:]
            try:
                x = module(x)
            except ValueError as error:
                raise NotOnPage(_no_fit(name, kind, module, before, str(error))) from error
            _check(name, kind, module, before)
            facts = LAYERS[kind](module)
            if kind is nn.Standardize:  # broadcast to the shape of the input
                facts = {key: np.broadcast_to(value.numpy(), (1, *before))[0] for key, value in facts.items()}
            known = {"kind": kind.__name__, "name": name, "text": module.extra_repr(), "shape": x.shape[1:]}
            layers.append(known | {key: _as_data(value) for key, value in facts.items()})
    return layers


def _in_order(module: Module, name: str) -> Iterator[tuple[str, Module]]:
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for child, inside in module.named_children():
            yield from _in_order(inside, f"{name}.{child}" if name else child)
    else:
        yield name, module


def _kind(name: str, module: Module) -> type[Module]:
    """Which of the listed layers it is. A subclass with its own forward is none of them."""
    for kind in LAYERS:
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return kind
    what, where = type(module).__name__, f"layer {name}" if name else "the network"
    raise NotOnPage(f"--page can't run {where}, a {what}: a page supports {NAMES}, and networks made of these")


def _check(name: str, kind: type[Module], module: Any, before: tuple[int, ...]) -> None:
    """Reject options of a listed layer that the page does not support."""
    wrong = ""
    if kind in (nn.Linear, nn.Softmax) and len(before) != 1:
        wrong = f"on {len(before)} axes {before}: put a Flatten before it"
    if kind is nn.Flatten and (module.start_dim, module.end_dim) not in ((1, -1), (1, len(before))):
        wrong = f"with start_dim={module.start_dim}, end_dim={module.end_dim}: a page supports start_dim=1, end_dim=-1"
    if kind is nn.Softmax and module.dim not in (1, -1):
        wrong = f"with dim={module.dim}: a page supports dim=1"
    if wrong:
        raise NotOnPage(f"--page can't run layer {name}, a {kind.__name__} {wrong}")


def _no_fit(name: str, kind: type[Module], module: Any, before: tuple[int, ...], error: str) -> str:
    """The message for a layer that can't take a page's input, one greyscale image."""
    channels = module.weight.shape[1] if kind is nn.Conv2d else 1
    why = error
    if len(before) == 3 and channels != before[0]:
        why = f"it takes {channels} channels, but gets {before[0]}: a drawing on a page has one channel, grey"
    return f"--page can't run layer {name}, a {kind.__name__}: {why}"


def _scale_and_shift(norm: Any) -> Layer:
    """Batch normalization in evaluation mode: y = scale x + shift, per channel."""
    mean, var = norm.running_mean.numpy().astype(np.float64), norm.running_var.numpy().astype(np.float64)
    scale = (1.0 if norm.weight is None else norm.weight.numpy()) / np.sqrt(var + norm.eps)
    return {"scale": scale, "shift": (0.0 if norm.bias is None else norm.bias.numpy()) - scale * mean}


def _as_data(value: Any) -> Any:
    """Tensors and arrays as {"shape": ..., "float32": text in base64}."""
    if isinstance(value, Tensor):
        value = value.numpy()
    return {"shape": value.shape, "float32": packed(value)} if isinstance(value, np.ndarray) else value


def packed(array: Array) -> str:
    """The values as little-endian float32, in base64."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
