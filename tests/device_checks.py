"""What must be the same on every device as on the CPU. test_counting*.py runs it without a GPU, test_gpu.py on one.

The CPU's reference forms, those written in ops*.py, are what is compared with. Tolerances are relative to the largest
value of an array: 1e-10 in float64, 1e-5 in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, nn, ops, reference_only
from minidl.backend import get_backend, to_numpy
from minidl.optim import SGD, SWATS, Adagrad, Adam, AdamW, AfterSteps, Blend, Hybrid, Optimizer, Projected, RMSprop
from minidl.optim.schedule import cosine
from minidl.training.config import Config, Job, prepare

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
LABELS = np.array([2, 0, 1, 2, 2, 1, 0, 1])

# name: (function of Tensors, shapes of its inputs). Inputs are normal, rounded where the name has "ties" in it, and in
# [0.5, 2) where it ends in "+".
OPS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "add": (ops.add, [(3, 4), (4,)]),
    "add number": (lambda x: 2 + x + 1.5, [(3, 4)]),
    "sub": (ops.sub, [(3, 1), (3, 4)]),
    "mul": (ops.mul, [(3, 4), ()]),
    "div +": (ops.div, [(3, 4), (3, 4)]),
    "neg": (ops.neg, [(5,)]),
    "pow +": (ops.pow, [(3, 4), (4,)]),
    "pow number +": (lambda x: x**3 + 2.0**x, [(3, 4)]),
    "exp": (ops.exp, [(3, 4)]),
    "log +": (ops.log, [(3, 4)]),
    "relu": (ops.relu, [(6, 5)]),
    "relu images": (ops.relu, [(2, 3, 4, 4)]),
    "sigmoid": (ops.sigmoid, [(3, 4)]),
    "tanh": (ops.tanh, [(3, 4)]),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.2), [(3, 4)]),
    "leaky_relu images": (ops.leaky_relu, [(2, 3, 4, 4)]),
    "leaky_relu, negative": (lambda x: ops.leaky_relu(x, -0.5), [(3, 4)]),
    "gelu": (ops.gelu, [(3, 4)]),
    "gelu of images": (lambda x, w: ops.gelu(ops.conv2d(x, w)), [(2, 3, 5, 4), (4, 3, 3, 3)]),
    "gelu by tanh": (lambda x: ops.gelu(x, "tanh"), [(3, 4)]),
    "sum": (lambda x: ops.sum(x, 1, keepdim=True), [(3, 4, 2)]),
    "sum all": (ops.sum, [(3, 4)]),
    "mean": (lambda x: ops.mean(x, (0, 2)), [(3, 4, 2)]),
    "max": (lambda x: ops.max(x, 1), [(3, 4)]),
    "max all": (ops.max, [(3, 4)]),
    "reshape": (lambda x: ops.reshape(x, 2, -1), [(3, 4)]),
    "flatten": (lambda x: ops.flatten(x, 1), [(3, 4, 2)]),
    "transpose": (lambda x: ops.transpose(x, 0, 2) * 2, [(3, 4, 2)]),
    "permute": (lambda x: ops.permute(x, 2, 0, 1) * 2, [(3, 4, 2)]),
    "getitem slices": (lambda x: x[1:, None, ::2], [(3, 4)]),
    "getitem number": (lambda x: x[-1], [(3, 4)]),
    "getitem list": (lambda x: x[[2, 0, 2]], [(3, 4)]),
    "matmul": (ops.matmul, [(3, 4), (4, 5)]),
    "matmul vector": (ops.matmul, [(3, 4), (4,)]),
    "matmul from a vector": (ops.matmul, [(4,), (4, 5)]),
    "matmul stacked": (ops.matmul, [(2, 3, 4), (4, 5)]),
    "linear": (ops.linear, [(6, 4), (5, 4), (5,)]),
    "linear without bias": (ops.linear, [(6, 4), (5, 4)]),
    "linear with a column as bias": (lambda x, w, b: ops.linear(x, w, b[:, 1]), [(6, 4), (5, 4), (5, 3)]),
    "linear of a transposed input": (lambda x, w: ops.linear(x.T, w), [(4, 6), (5, 4)]),
    "softmax": (ops.softmax, [(3, 4)]),
    "softmax of columns": (lambda x: ops.softmax(x, 0), [(3, 4)]),
    "log_softmax": (ops.log_softmax, [(3, 4)]),
    "cross_entropy": (lambda x: ops.cross_entropy(x, LABELS), [(8, 3)]),
    "cross_entropy, list": (lambda x: ops.cross_entropy(x, LABELS.tolist()), [(8, 3)]),
    "cross_entropy, many classes": (lambda x: ops.cross_entropy(x, LABELS), [(8, 70)]),
    "cross_entropy, scaled": (lambda x: ops.cross_entropy(x, LABELS) * 3, [(8, 3)]),
    "mse_loss": (ops.mse_loss, [(3, 4), (3, 4)]),
    "batch_norm": (lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True), [(6, 4), (4,), (4,)]),
    "batch_norm with columns": (
        lambda x, w, b: ops.batch_norm(x, None, None, w[:, 1], b[:, 0], training=True), [(6, 4), (4, 3), (4, 3)]
    ),
    "batch_norm images": (
        lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True), [(3, 2, 4, 4), (2,), (2,)]
    ),
    "dropout": (lambda x: ops.dropout(x, 0.3, np.random.default_rng(5)), [(8, 6)]),
    "conv2d": (ops.conv2d, [(2, 3, 6, 5), (4, 3, 3, 3), (4,)]),
    "conv2d with parts of arrays": (
        lambda x, w, b: ops.conv2d(x, w[:, :, ::2], b[:, 1]), [(2, 3, 6, 5), (4, 3, 5, 3), (4, 3)]
    ),
    "conv2d 1 x 1 with parts of arrays": (
        lambda x, w, b: ops.conv2d(x, w[..., 1:, 1:], b[:, 1]), [(2, 6, 5, 4), (7, 6, 2, 2), (7, 3)]
    ),
    "conv2d of many windows with parts of arrays": (
        lambda x, w, b: ops.conv2d(x, w[..., 1:], b[:, 1], 1, 1), [(1, 24, 7, 6), (100, 24, 3, 4), (100, 3)]
    ),
    "conv, relu, pool with a column as bias": (
        lambda x, w, b: ops.max_pool2d(ops.relu(ops.conv2d(x, w, b[:, 1])), 2), [(2, 3, 6, 6), (4, 3, 3, 3), (4, 2)]
    ),
    "conv2d padded": (lambda x, w, b: ops.conv2d(x, w, b, padding=1), [(2, 1, 6, 5), (4, 1, 3, 3), (4,)]),
    "conv2d strided": (lambda x, w: ops.conv2d(x, w, None, (2, 1), (0, 1)), [(2, 3, 7, 6), (4, 3, 3, 2)]),
    "conv2d of 8 channels": (lambda x, w: ops.conv2d(x, w, None, 1, 1), [(2, 8, 14, 13), (40, 8, 3, 3)]),
    "conv2d of 24 channels": (lambda x, w: ops.conv2d(x, w), [(2, 24, 7, 6), (32, 24, 3, 3)]),
    "conv2d of 4 channels": (lambda x, w: ops.conv2d(x, w), [(2, 4, 7, 6), (9, 4, 3, 3)]),
    "conv2d to 70": (lambda x, w: ops.conv2d(x, w, None, 1, 2), [(2, 5, 9, 8), (70, 5, 3, 5)]),
    "conv2d to 100": (lambda x, w, b: ops.conv2d(x, w, b, 1, 1), [(2, 3, 6, 5), (100, 3, 3, 3), (100,)]),
    "conv2d from 100": (lambda x, w: ops.conv2d(x, w, None, 1, 1), [(1, 100, 5, 5), (3, 100, 3, 3)]),
    "conv2d 1 x 1": (ops.conv2d, [(2, 6, 5, 4), (7, 6, 1, 1), (7,)]),
    "conv2d 1 x 1, strided": (lambda x, w: ops.conv2d(x, w, None, 2), [(2, 6, 5, 4), (7, 6, 1, 1)]),
    "conv2d, strided, 8 channels": (lambda x, w: ops.conv2d(x, w, None, 2, 1), [(3, 8, 9, 9), (16, 8, 3, 3)]),
    "conv2d of whole images": (ops.conv2d, [(3, 2, 4, 4), (5, 2, 4, 4), (5,)]),
    "conv2d of many pixels": (lambda x, w: ops.conv2d(x, w), [(3, 1, 28, 28), (6, 1, 5, 5)]),
    "max_pool2d": (lambda x: ops.max_pool2d(x, 2), [(2, 3, 4, 6)]),
    "max_pool2d of ties": (lambda x: ops.max_pool2d(x, 3, 2, 1), [(2, 3, 7, 6)]),
    "max_pool2d with a rest": (lambda x: ops.max_pool2d(x, 2), [(2, 3, 5, 7)]),
    "max_pool2d overlapping": (lambda x: ops.max_pool2d(x, 3, 2, 1), [(2, 3, 7, 6)]),
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, 2), [(2, 3, 4, 6)]),
    "avg_pool2d overlapping": (lambda x: ops.avg_pool2d(x, (3, 2), 1, 1), [(2, 3, 5, 6)]),
    "conv of a pooled relu": (
        lambda x, w, v: ops.conv2d(ops.max_pool2d(ops.relu(ops.conv2d(x, w, None, 1, 1)), 2), v, None, 1, 1),
        [(2, 1, 6, 6), (3, 1, 3, 3), (2, 3, 3, 3)],
    ),
}  # fmt: skip

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(12, 5, rng=0),
    "Conv2d": lambda: nn.Conv2d(3, 4, 3, padding=1, rng=0),
    "BatchNorm1d": lambda: nn.BatchNorm1d(12),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3),
    "Dropout": lambda: nn.Dropout(0.4, rng=0),
    "Flatten": nn.Flatten,
    "ReLU": nn.ReLU,
    "Tanh": nn.Tanh,
    "Sigmoid": nn.Sigmoid,
    "LeakyReLU": nn.LeakyReLU,
    "GELU": nn.GELU,
    "MaxPool2d": lambda: nn.MaxPool2d(2),
    "AvgPool2d": lambda: nn.AvgPool2d(2),
    "Sequential": lambda: nn.Sequential(nn.Conv2d(3, 2, 3, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3, rng=0)),
}
FLAT_LAYERS = ("Linear", "BatchNorm1d")  # take (N, 12); the others (N, 3, 4, 4)

RULES: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: SGD(p, 0.1),
    "sgd, decay": lambda p: SGD(p, 0.1, weight_decay=0.1),
    "momentum, schedule, clip": lambda p: SGD(p, cosine(0.1, 24), 0.9, max_norm=0.5),
    "nesterov, decay": lambda p: SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: Adam(p, 0.01),
    "adam, decay, clip": lambda p: Adam(p, 0.01, weight_decay=0.1, max_norm=0.5),
    "adamw": lambda p: AdamW(p, 0.01, weight_decay=0.1),
    "amsgrad": lambda p: Adam(p, 0.01, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: RMSprop(p),
    "rmsprop, momentum": lambda p: RMSprop(p, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda p: Adagrad(p, lr_decay=0.1, initial_accumulator_value=0.1),
    "blend": lambda p: Blend(p, steps_per_epoch=2, center=2, period=2, weight_decay=0.1),
    "blend at rate 0": lambda p: Blend(p, 0.0, steps_per_epoch=2),
    "hybrid": lambda p: Hybrid(p, Adam(lr=0.01), SGD(lr=0.1, momentum=0.9), AfterSteps(3)),
    "hybrid, carry": lambda p: Hybrid(p, AdamW(), SGD(momentum=0.9), AfterSteps(3), lr_after=0.1, carry="momentum"),
    "hybrid, matched": lambda p: Hybrid(p, Adam(), SGD(momentum=0.9), AfterSteps(3), lr_after="matched"),
    "hybrid, projected rate": lambda p: Hybrid(p, Adam(), SGD(), AfterSteps(3), lr_after="projected"),
    "hybrid, projected": lambda p: Hybrid(p, Adam(), SGD(), Projected(rtol=0.5), lr_after="projected"),
    "swats": lambda p: SWATS(p),
    "swats, switches": lambda p: SWATS(p, switch_rtol=0.9, weight_decay=0.1, max_norm=2.0),
}


def close(found: Any, wanted: Any, rtol: float | None = None) -> None:
    """Assert that a device's array has the CPU's shape, dtype and values."""
    values = to_numpy(found)
    assert values.shape == wanted.shape
    assert values.dtype == wanted.dtype
    rtol = TOLERANCE[str(wanted.dtype)] if rtol is None else rtol
    np.testing.assert_allclose(values, wanted, rtol=0, atol=rtol * max(1e-30, np.abs(wanted).max(initial=0)))


def inputs(name: str, shapes: list[tuple[int, ...]], dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    draw = (lambda s: rng.uniform(0.5, 2, s)) if name.endswith("+") else rng.standard_normal
    tidy = np.round if "ties" in name else np.asarray
    return [tidy(draw(s)).astype(dtype) for s in shapes]


def forward_backward(function: Callable[..., Tensor], arrays: list[Any], device: str) -> list[Any]:
    """Output and gradients, for an irregular gradient of the output."""
    tensors = [Tensor(get_backend(device).from_host(a.copy()), requires_grad=True) for a in arrays]
    out = function(*tensors)
    g = np.cos(np.arange(out.size, dtype=np.float64)).reshape(out.shape).astype(arrays[0].dtype)
    out.backward(Tensor(get_backend(device).from_host(g)))
    assert out.device == device
    return [out.data, *(t.grad for t in tensors)]


def check_op(name: str, device: str, dtype: str) -> None:
    """An operation's value and gradients are those of the CPU."""
    function, shapes = OPS[name]
    arrays = inputs(name, shapes, dtype)
    with reference_only():
        wanted = forward_backward(function, arrays, "cpu")
    for a, b in zip(forward_backward(function, arrays, device), wanted, strict=True):
        close(a, b)


def check_layer(name: str, device: str) -> None:
    """A layer moved to the device computes and learns as on the CPU, in training and in evaluation."""
    x = np.random.default_rng(2).standard_normal((4, 12) if name in FLAT_LAYERS else (4, 3, 4, 4)).astype(np.float32)
    results = []
    for place in ("cpu", device):
        layer = LAYERS[name]().to(place)
        first = layer(Tensor(x, device=place))
        if first.requires_grad:  # an irregular gradient: that of batch norm's bias would cancel out under a plain one
            g = np.cos(np.arange(first.size)).reshape(first.shape).astype(np.float32)
            (first * first * Tensor(g, device=place)).sum().backward()
        grads = [p.grad for p in layer.parameters()]
        results.append([first.data, *grads, layer.eval()(Tensor(x, device=place)).data, *layer.state_dict().values()])
    for wanted, found in zip(*results, strict=True):
        close(found, wanted) if wanted.dtype.kind == "f" else np.testing.assert_array_equal(found, wanted)


def run_rule(
    name: str, device: str, dtype: str, steps: int = 8, save_at: int | None = None
) -> tuple[Tensor, Tensor, Optimizer]:
    """Some steps of an optimizer with random gradients; at `save_at` it is replaced by one that loads its state."""
    backend, rng = get_backend(device), np.random.default_rng(3)
    a, b = (Tensor(backend.from_host(rng.standard_normal(s).astype(dtype)), requires_grad=True) for s in ((4, 5), (3,)))
    optimizer = RULES[name]([a, b])
    for k in range(steps):
        if k == save_at:
            state, optimizer = optimizer.state_dict(), RULES[name]([a, b])
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        for p in (a, b):
            p.grad = backend.from_host(rng.standard_normal(p.shape).astype(dtype))
        optimizer.step()
        optimizer.report(k + 1, val_loss=1.0)
    return a, b, optimizer


def check_rule(name: str, device: str, dtype: str) -> None:
    """The weights after some steps, the optimizer's state and its switch are those of the CPU, saved in between too."""
    with reference_only():
        *wanted, on_cpu = run_rule(name, "cpu", dtype)
    for save_at in (None, 2, 5):
        *found, there = run_rule(name, device, dtype, save_at=save_at)
        for p, q in zip(found, wanted, strict=True):
            close(p.data, q.data)
        vectors = there.state_dict()["vectors"]
        for key, vector in on_cpu.state_dict()["vectors"].items():
            np.testing.assert_allclose(vectors[key], vector, rtol=1e-3 if dtype == "float32" else 1e-8, atol=1e-7)
        assert (there.switch_event is None) == (on_cpu.switch_event is None)
        if there.switch_event and on_cpu.switch_event:
            assert there.switch_event.step == on_cpu.switch_event.step


# ---- training ----

EPOCH_STEPS = 6  # of a job on tests.commands.tiny_dataset


def job(data: Path, device: str, epochs: int = 2, **options: Any) -> Job:
    """A run of so many epochs of EPOCH_STEPS steps."""
    return prepare(Config(dataset=str(data), device=device, epochs=epochs, batch_size=30, **options))


def numbers(record: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in record.items() if not isinstance(v, str) and k != "seconds"}


def same_records(found: list[dict[str, Any]], wanted: list[dict[str, Any]], rel: float = 1e-5) -> None:
    """The same losses; and the same counts of right answers, but for one, which rounding may tip over."""
    for a, b in zip(found, wanted, strict=True):
        for key, value in numbers(a).items():
            assert value == pytest.approx(b[key], rel=rel, abs=0.02 if "accuracy" in key else 1e-6), key
        assert a["phase"] == b["phase"]


def check_model(model: str, device: str, data: Path) -> None:
    """A model trains for an epoch as on the CPU: its record, its weights.

    By momentum, whose steps are as exact as the gradients. Adam divides a gradient by its own size, and where that is
    hardly more than rounding error, as in a few of the weights of a wide layer, the step is any number up to lr.
    """
    with reference_only():
        wanted = job(data, "cpu", model=model, opt="momentum")
        wanted.trainer.train_to(1)
    found = job(data, device, model=model, opt="momentum")
    found.trainer.train_to(1)
    assert found.device == device
    same_records(found.trainer.progress.metrics, wanted.trainer.progress.metrics)
    weights = found.model.state_dict()
    for name, values in wanted.model.state_dict().items():
        np.testing.assert_allclose(weights[name], values, rtol=1e-4, atol=1e-6)


def check_optimizer(opt: str, device: str, data: Path) -> None:
    """An optimizer by its name, with all its options, trains for two epochs as on the CPU, and switches there."""
    options: dict[str, Any] = {"model": "underfit", "opt": opt, "clip_norm": 1.0, "weight_decay": 1e-3}
    options |= {} if opt in ("swats", "gnmt") else {"schedule": "cosine:warmup=3"}
    if opt == "hybrid":
        options |= {"switch": "epoch:1", "lr_after": "projected"}
    wanted, found = (job(data, where, **options).trainer for where in ("cpu", device))
    wanted.train_to(2), found.train_to(2)
    same_records(found.progress.metrics, wanted.progress.metrics)
    a, b = wanted.optimizer.switch_event, found.optimizer.switch_event
    assert (a is None) == (b is None)
    assert a is None or b is None or a.step == b.step
