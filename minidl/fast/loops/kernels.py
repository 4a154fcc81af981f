"""The operations in compiled loops: KERNELS holds them by name, as `accelerated` of backend.py asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.fast.fuse import Fused
from minidl.fast.loops import layers
from minidl.nn import Conv2d, Linear, ReLU

FORMS: dict[Any, Any] = {(Linear, ReLU): layers.linear_relu, (Conv2d, ReLU): layers.conv2d_relu}
KERNELS: dict[str, Callable[..., Any]] = {
    "linear": layers.linear,
    "matmul": layers.matmul,
    "conv2d": layers.conv2d,
    "Sequential.forward": Fused(FORMS),
}
if not layers.gemm("float32"):  # NumPy has another BLAS: products by NumPy
    KERNELS = {name: kernel for name, kernel in KERNELS.items() if name not in {"linear", "matmul", "conv2d"}}
