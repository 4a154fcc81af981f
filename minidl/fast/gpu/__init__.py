"""The fast kernels on a GPU. They compute what the reference in ops*.py computes.

A kernel is checked before its first use on a device: it is compared with the reference, on the CPU, on a small example.
One that does not compile there, or gives different results, is skipped with a warning, and the reference runs.

kernels.cu, images.cu   what the GPU runs, in C     launch.py   compiling and launching it
products.py   matrix products, by cuBLAS            graph.py    a whole training step as one launch, with slip.py
dense.py, images.py, convolution.py   the operations            rules.py    the update rules
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from minidl import ops
from minidl.backend import GPU_KERNELS, Array, Backend, backend_of, reference_only
from minidl.fast.fuse import Fused, Kinds, one_by_one
from minidl.fast.gpu import convolution, dense, images, loop, rules
from minidl.fast.gpu.launch import trusted
from minidl.fast.linear import plain
from minidl.grad_mode import enable_grad
from minidl.module import Module
from minidl.nn import BatchNorm2d, Conv2d, Linear, MaxPool2d, ReLU
from minidl.rng import CounterRng
from minidl.tensor import Tensor


def checked(
    fast: Callable[..., Any],
    reference: Callable[..., Any],
    shapes: list[tuple[int, ...]],
    call: Any = None,
    **more: Any,
) -> Callable[..., Any]:
    """The fast form, used only if it agrees with the reference on random Tensors of these shapes.

    call  how both are called with the Tensors; by default form(*tensors, **more)
    more  their other arguments: an array is copied to their device, a function is called for each of the two
    """

    @cache
    def good(backend: Backend, dtype: Any) -> bool:
        return trusted(reference.__name__, lambda: _both_ways(backend, dtype))

    def _both_ways(backend: Backend, dtype: Any) -> list[tuple[Array, Array]]:
        rng = np.random.default_rng(0)
        values = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        cpu = backend_of(values[0])
        with reference_only():
            wanted = _forward_backward(reference, cpu, values)
        return list(zip(wanted, _forward_backward(fast, backend, values), strict=True))

    def _forward_backward(form: Callable[..., Any], backend: Backend, values: list[Array]) -> list[Any]:
        given = {k: v() if callable(v) else v for k, v in more.items()}
        given = {k: backend.from_host(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
        tensors = [Tensor(backend.from_host(v.copy()), requires_grad=True) for v in values]
        with enable_grad():
            y = form(*tensors, **given) if call is None else call(form, *tensors)
            if not isinstance(y, Tensor):
                return [backend.xp.asarray(y)]
            y.backward(backend.from_host(np.cos(np.arange(y.size)).reshape(y.shape).astype(values[0].dtype)))
        return [y.data, *(t.grad for t in tensors if t.grad is not None)]

    def guarded(x: Any, *args: Any, **kwargs: Any) -> Any:
        if type(x) is not Tensor or not plain(x) or not good(backend_of(x.data), x.dtype):
            return NotImplemented
        return fast(x, *args, **kwargs)

    return guarded


LABELS = np.arange(6) % 5
IMAGES = (2, 3, 6, 5)
GPU_KERNELS["linear"] = checked(dense.linear, ops.linear, [(6, 4), (5, 4), (5,)])
GPU_KERNELS["relu"] = checked(partial(dense.activation, "relu"), ops.relu, [IMAGES])
GPU_KERNELS["tanh"] = checked(partial(dense.activation, "tanh_"), ops.tanh, [IMAGES])
GPU_KERNELS["sigmoid"] = checked(partial(dense.activation, "sigmoid"), ops.sigmoid, [IMAGES])
GPU_KERNELS["leaky_relu"] = checked(dense.leaky_relu, ops.leaky_relu, [IMAGES], negative_slope=0.2)
GPU_KERNELS["gelu"] = checked(dense.gelu, ops.gelu, [IMAGES], call=lambda form, x: form(form(x), "tanh"))
GPU_KERNELS["dropout"] = checked(dense.dropout, ops.dropout, [(5, 7)], p=0.4, rng=lambda: CounterRng(0))
GPU_KERNELS["cross_entropy"] = checked(dense.cross_entropy, ops.cross_entropy, [(6, 5)], labels=LABELS)
GPU_KERNELS["count_right"] = checked(dense.count_right, ops.count_right, [(6, 5)], labels=LABELS)
GPU_KERNELS["conv2d"] = checked(
    convolution.conv2d, ops.conv2d, [(2, 5, 6, 5), (4, 5, 3, 3), (4,)], stride=(2, 1), padding=1
)
GPU_KERNELS["max_pool2d"] = checked(images.max_pool2d, ops.max_pool2d, [IMAGES], kernel_size=3, stride=2, padding=1)
GPU_KERNELS["avg_pool2d"] = checked(images.avg_pool2d, ops.avg_pool2d, [IMAGES], kernel_size=3, stride=2, padding=1)
GPU_KERNELS["batch_norm"] = checked(
    images.batch_norm, ops.batch_norm, [IMAGES, (3,), (3,)],
    call=lambda form, x, w, b: form(x, None, None, w, b, training=True),
)  # fmt: skip


def together(fast: Callable[..., Any], *kinds: type[Module]) -> tuple[Kinds, Callable[..., Any]]:
    """A fused form of these layers, checked against their operations one by one: see fuse.py."""
    rows, filters, channels = [(6, 4), (5, 4), (5,)], [IMAGES, (4, 3, 3, 2), (4,)], [(3,)] * 4
    shapes = {Linear: rows, Conv2d: filters, BatchNorm2d: [IMAGES, *channels]}[kinds[0]]
    rest = {Linear: (), Conv2d: (1, 1), MaxPool2d: (2, 2, 0), ReLU: ()}  # strides, paddings and windows

    def call(form: Callable[..., Any], x: Tensor, *tensors: Tensor) -> Any:
        if kinds[0] is BatchNorm2d:
            return form(x, x.ndim, np.zeros((), np.int64), None, None, *tensors[2:], True, 0.1, 1e-5)
        return form(x, *tensors, *(value for kind in kinds for value in rest[kind]))

    return kinds, checked(fast, one_by_one(kinds), shapes, call=call)


GPU_KERNELS["Sequential.forward"] = Fused(dict((
    together(dense.linear_relu, Linear, ReLU),
    together(convolution.conv2d_relu, Conv2d, ReLU),
    together(convolution.conv2d_relu_max_pool2d, Conv2d, ReLU, MaxPool2d),
    together(convolution.conv2d_relu_max_pool2d, Conv2d, MaxPool2d, ReLU),  # max and ReLU commute
    together(images.batch_norm_relu, BatchNorm2d, ReLU),
)))  # fmt: skip
GPU_KERNELS["take"] = loop.take
GPU_KERNELS["clip"] = loop.clip
GPU_KERNELS["dots64"] = loop.dots64
GPU_KERNELS["keep_if"] = loop.keep_if
GPU_KERNELS["rule"] = rules.step
GPU_KERNELS["formula"] = rules.formula
