"""Layers: an operation together with the weights that it owns (see module.py for what they have in common).

Initial weights are drawn by NumPy on the host from a generator that is passed in, so that a seed means the same on
every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl import ops
from minidl.backend import accelerated
from minidl.init import Rng, initial_weights
from minidl.module import Module as Module  # a user writes nn.Module
from minidl.ops_conv import Pair, Size, _pair
from minidl.rng import CounterRng
from minidl.tensor import Tensor


class Sequential(Module):
    """Layers applied one after the other. They are named "0", "1", ... and reached as model[0]."""

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            setattr(self, str(i), layer)

    @accelerated
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return (layer for _, layer in self.named_children())

    def __getitem__(self, i: int) -> Module:
        return list(self)[i]

    def __len__(self) -> int:
        return len(list(iter(self)))


# ---- layers with weights ----


class Linear(Module):
    """y = x W^T + b. weight (out_features, in_features), bias (out_features,) of zeros.

    init  "he" for a layer that a ReLU follows, "glorot" for the others, or "pytorch" (see init.py); rng a Generator, a
          seed, or None for fresh entropy.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, init: str = "he", rng: Rng = None
    ) -> None:
        self.weight = initial_weights((out_features, in_features), in_features, out_features, init, rng)
        self.bias = Tensor(np.zeros(out_features, np.float32), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}" + (", bias=False" if self.bias is None else "")


class Conv2d(Module):
    """Filters over images (N, C, H, W). weight (out_channels, in_channels, kh, kw), bias (out_channels,) of zeros.

    Arguments as in PyTorch; `init` and `rng` as for Linear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        bias: bool = True,
        *,
        init: str = "he",
        rng: Rng = None,
    ) -> None:
        kh, kw = _pair(kernel_size)
        self.stride, self.padding = _pair(stride), _pair(padding)
        shape = (out_channels, in_channels, kh, kw)
        self.weight = initial_weights(shape, in_channels * kh * kw, out_channels * kh * kw, init, rng)
        self.bias = Tensor(np.zeros(out_channels, np.float32), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        out_channels, in_channels, *kernel = self.weight.shape
        return f"{in_channels}, {out_channels}, {tuple(kernel)}, stride={self.stride}, padding={self.padding}"


class _BatchNorm(Module):
    ndim: int

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.eps, self.momentum = eps, momentum
        self.weight = Tensor(np.ones(num_features, np.float32), requires_grad=True)
        self.bias = Tensor(np.zeros(num_features, np.float32), requires_grad=True)
        self.running_mean = Tensor(np.zeros(num_features, np.float32))
        self.running_var = Tensor(np.ones(num_features, np.float32))
        self.num_batches_tracked = np.zeros((), np.int64)  # PyTorch keeps this count, so its state dicts have it

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.ndim:
            raise ValueError(f"{type(self).__name__}: x {x.shape} must have {self.ndim} axes")
        if self.training:
            self.num_batches_tracked += 1
        return ops.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def extra_repr(self) -> str:
        return f"{self.weight.size}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C); see ops.batch_norm. weight of ones, bias of zeros, both (C,)."""

    ndim = 2


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W) by channel; see ops.batch_norm. weight of ones, bias of zeros, both (C,)."""

    ndim = 4


# ---- layers without weights ----


class Standardize(Module):
    """(x - mean) / std: what is done to a network's input, as its first layer. torchvision's name for it is Normalize.

    mean, std  numbers, or arrays that broadcast with x. They are no parameters, but stand in the state dict: whoever
               has the weights has them
    """

    def __init__(self, mean: Any = 0.0, std: Any = 1.0) -> None:
        self.mean, self.std = Tensor(np.asarray(mean, np.float32)), Tensor(np.asarray(std, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"mean={self.mean.numpy().round(4)!s}, std={self.std.numpy().round(4)!s}"


class Dropout(Module):
    """In training, each value set to 0 with probability p, the others scaled by 1/(1-p); nothing in evaluation.

    rng  a Generator, a seed, or None for fresh entropy: the layer draws its key from it (see rng.py)
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be in [0, 1), got {p}")
        self.p, self.rng = p, CounterRng(rng)

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.rng) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """(N, C, H, W) -> (N, C*H*W)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, start_dim=1)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e^-x)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class _Pool2d(Module):
    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        self.kernel_size: Pair = _pair(kernel_size)
        self.stride: Pair = self.kernel_size if stride is None else _pair(stride)
        self.padding: Pair = _pair(padding)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool2d):
    """The largest value of each window; the stride defaults to the window's size."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool2d):
    """The mean of each window; the stride defaults to the window's size."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding)
