"""The operations in compiled loops: KERNELS holds them by name, as `accelerated` of backend.py looks them up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.fast.blas import gemm
from minidl.fast.fuse import Fused
from minidl.fast.loops import (
    dots,
    gelu,
    layers,
    layout,
    losses,
    mean_pools,
    norm,
    points,
    pools,
    rows,
    rules,
    softmax,
    sums,
)
from minidl.nn import BatchNorm2d, Conv2d, Linear, MaxPool2d, ReLU

FORMS: dict[Any, Any] = {
    (Linear, ReLU): layers.linear_relu,
    (Conv2d, ReLU): layers.conv2d_relu,
    (Conv2d, MaxPool2d): layers.conv2d_max_pool2d,
    (Conv2d, ReLU, MaxPool2d): layers.conv2d_relu_max_pool2d,
    (Conv2d, MaxPool2d, ReLU): layers.conv2d_relu_max_pool2d,
    (BatchNorm2d, ReLU): norm.batch_norm_relu,  # and BatchNorm1d: see fuse.py
}
KERNELS: dict[str, Callable[..., Any]] = {
    "linear": layers.linear,
    "matmul": layers.matmul,
    "conv2d": layers.conv2d,
    "reshape": layout.reshape,
    "batch_norm": norm.batch_norm,
    "max_pool2d": pools.max_pool2d,
    "avg_pool2d": mean_pools.avg_pool2d,
    "relu": points.relu,
    "sigmoid": points.sigmoid,
    "tanh": points.tanh,
    "leaky_relu": points.leaky_relu,
    "gelu": gelu.gelu,
    "dropout": points.dropout,
    "softmax": softmax.softmax,
    "log_softmax": softmax.log_softmax,
    "cross_entropy": losses.cross_entropy,
    "take": points.take,
    "Sequential.forward": Fused(FORMS),
    "rule": rules.step,
    "dots64": dots.dots64,
    "total": sums.total,
    "add_at": rows.add_at,
}
if not gemm("float32"):  # its products cannot be called from here: NumPy does them
    KERNELS = {name: kernel for name, kernel in KERNELS.items() if name not in {"linear", "matmul", "conv2d"}}
    KERNELS["Sequential.forward"] = Fused({kinds: form for kinds, form in FORMS.items() if BatchNorm2d in kinds})
