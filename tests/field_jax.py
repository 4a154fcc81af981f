"""The networks of tests/field.py in JAX, as plain functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.field import Layer, Network, minidl_net, pair

EXACT = lax.Precision.HIGHEST  # products in full float32
ACTIVATIONS = {
    "ReLU": jax.nn.relu, "Tanh": jnp.tanh, "Sigmoid": jax.nn.sigmoid, "LeakyReLU": jax.nn.leaky_relu,
    "GELU": functools.partial(jax.nn.gelu, approximate=False),
}  # fmt: skip


def jax_net(network: Network, drop: bool = True, cpu: bool = False) -> tuple[Callable[[], Any], Callable[..., Any]]:
    """`init() -> weights, statistics` and `apply(weights, statistics, x, key) -> logits, statistics`, for training.

    Weights and statistics (batch norm's) are dictionaries with minidl's names, initialized to minidl's values. The key
    is for dropout (JAX's default generator).

    cpu  what XLA runs fastest on a CPU: channels last, and pooling by reshape where windows do not overlap
    """

    def init() -> tuple[dict[str, Any], dict[str, Any]]:
        state = {name: jnp.asarray(value) for name, value in minidl_net(network).state_dict().items()}
        weights = {name: value for name, value in state.items() if name.endswith((".weight", ".bias"))}
        return weights, {name: value for name, value in state.items() if ".running_" in name}

    def apply(weights: Any, statistics: Any, x: Any, key: Any) -> tuple[Any, Any]:
        moved: dict[str, Any] = {}
        if cpu and x.ndim == 4:
            x = x.transpose(0, 2, 3, 1)
        for i, layer in enumerate(network.layers):
            w, b = weights.get(f"{i}.weight"), weights.get(f"{i}.bias")
            if layer.kind == "Linear":
                x = jnp.dot(x, w.T, precision=EXACT) + b
            elif layer.kind == "Conv2d":
                x = convolve(x, w, b, layer, cpu)
            elif layer.kind == "BatchNorm":
                x, new = normalize(x, w, b, cpu)
                for name, value in new.items():
                    moved[f"{i}.{name}"] = 0.9 * statistics[f"{i}.{name}"] + 0.1 * value
            elif layer.kind == "MaxPool2d":
                x = pool(x, layer, jnp.max, cpu)
            elif layer.kind == "AvgPool2d":
                x = pool(x, layer, jnp.sum, cpu) / np.prod(pair(layer.kernel))
            elif layer.kind == "Dropout" and drop and layer.p:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - layer.p, x.shape)
                x = jnp.where(kept, x / (1 - layer.p), 0)
            elif layer.kind == "Flatten":
                x = jnp.moveaxis(x, -1 if cpu else 1, 1).reshape(len(x), -1)
            elif layer.kind in ACTIVATIONS:
                x = ACTIVATIONS[layer.kind](x)
        return x, moved

    return init, apply


def convolve(x: Any, w: Any, b: Any, layer: Layer, cpu: bool) -> Any:
    names = ("NHWC", "OIHW", "NHWC") if cpu else ("NCHW", "OIHW", "NCHW")
    around = [(p, p) for p in pair(layer.padding)]
    y = lax.conv_general_dilated(x, w, pair(layer.stride), around, dimension_numbers=names, precision=EXACT)
    return y + (b if cpu else b[:, None, None])


def normalize(x: Any, scale: Any, shift: Any, cpu: bool) -> tuple[Any, dict[str, Any]]:
    """The normalized batch, and its statistics."""
    axes = (0,) if x.ndim == 2 else (0, 1, 2) if cpu else (0, 2, 3)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    n = x.size // mean.size
    new = {"running_mean": mean.ravel(), "running_var": var.ravel() * (n / (n - 1))}
    return (x - mean) * lax.rsqrt(var + 1e-5) * scale.reshape(mean.shape) + shift.reshape(mean.shape), new


def pool(x: Any, layer: Layer, combine: Any, cpu: bool) -> Any:
    """The largest value or the sum of each window."""
    (kh, kw), stride, padding = pair(layer.kernel), pair(layer.stride), pair(layer.padding)
    if cpu and stride == (kh, kw) and padding == (0, 0):
        n, h, w, c = x.shape
        return combine(x[:, : h // kh * kh, : w // kw * kw].reshape(n, h // kh, kh, w // kw, kw, c), (2, 4))

    def wide(image: tuple[Any, Any], other: Any) -> Any:
        """A setting for rows and columns, and `other` for examples and channels, in the order of the layout."""
        return (other, *image, other) if cpu else (other, other, *image)

    start, reduce = (-jnp.inf, lax.max) if combine is jnp.max else (0.0, lax.add)
    around = wide(((padding[0],) * 2, (padding[1],) * 2), (0, 0))
    return lax.reduce_window(x, start, reduce, wide((kh, kw), 1), wide(stride, 1), around)
