"""Layers for images: convolution and pooling. Their operations are in ops_conv.py; nn exports all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.init import check_sizes, drawn_by_chance, initial_weights
from minidl.module import Module
from minidl.ops_conv import Pair, Size, _pair
from minidl.rng import Rng
from minidl.tensor import Tensor


class Conv2d(Module):
    """2-d convolution of images: (N, in_channels, H, W) -> (N, out_channels, OH, OW), see ops.conv2d.

    kernel_size      height and width of the filters (kh, kw), or one number for both
    stride, padding  in pixels, a number or a pair
    bias, init, rng  as for Linear; keyword-only, because in PyTorch `dilation` comes first

    weight (out_channels, in_channels, kh, kw), bias (out_channels,) of zeros, float32.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        *more: Any,
        bias: bool = True,
        init: str = "kaiming",
        rng: Rng = None,
        **other: Any,
    ) -> None:
        super().__init__(*more, **other)
        check_sizes("Conv2d", in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = kh, kw = _pair(kernel_size, "Conv2d: kernel_size", 1)
        self.stride, self.padding = _pair(stride, "Conv2d: stride", 1), _pair(padding, "Conv2d: padding", 0)
        shape = (out_channels, in_channels, kh, kw)
        self.weight = initial_weights(shape, in_channels * kh * kw, out_channels * kh * kw, init, rng)
        self.by_chance = drawn_by_chance(self.weight, rng)
        self.bias = Tensor(np.zeros(out_channels, np.float32), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        out_channels, in_channels, *kernel = self.weight.shape
        bias = ", bias=False" if self.bias is None else ""
        return f"{in_channels}, {out_channels}, {tuple(kernel)}, stride={self.stride}, padding={self.padding}{bias}"


class _Pool2d(Module):
    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, **other: Any) -> None:
        super().__init__(**other)
        name = type(self).__name__
        self.kernel_size: Pair = _pair(kernel_size, f"{name}: kernel_size", 1)
        self.stride: Pair = self.kernel_size if stride is None else _pair(stride, f"{name}: stride", 1)
        self.padding: Pair = _pair(padding, f"{name}: padding", 0)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool2d):
    """The largest value of each window: (N, C, H, W) -> (N, C, OH, OW), see ops.max_pool2d.

    kernel_size  the window's height and width in pixels, or one number for both
    stride       from window to window; None: the window's size
    padding      pixels of border, at most half a window
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool2d):
    """The mean of each window, padding zeros included: (N, C, H, W) -> (N, C, OH, OW).

    kernel_size, stride, padding  as for MaxPool2d
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding)
