"""Columns of `tests.bench` for other libraries, if installed: JAX (compiled, pooling by reshape) and DeZero."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench_workers import Step, cycle, examples, network


def jax(model: str, opt: str, batch: int) -> Step:
    import jax
    import jax.numpy as jnp

    from tests.field_jax import jax_net

    init, apply = jax_net(network(model), cpu=True)

    def loss(weights: Any, statistics: Any, x: Any, y: Any, key: Any) -> tuple[Any, Any]:
        logits, statistics = apply(weights, statistics, x, key)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), statistics

    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, x: Any, y: Any) -> Any:
        t, w, s, m, v = state
        key = jax.random.fold_in(jax.random.key(0), t.astype("int32"))
        (g, s), t = jax.grad(loss, has_aux=True)(w, s, x, y, key), t + 1
        each = jax.tree_util.tree_map
        if opt == "momentum":
            m = each(lambda m, g: 0.9 * m + g, m, g)
            return t, each(lambda w, m: w - 0.01 * m, w, m), s, m, v
        m = each(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = each(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate, c = 1e-3 / (1 - 0.9**t), 1 - 0.999**t
        return t, each(lambda w, m, v: w - rate * m / (jnp.sqrt(v / c) + 1e-8), w, m, v), s, m, v

    weights, statistics = init()
    m, v = (jax.tree_util.tree_map(jnp.zeros_like, weights) for _ in range(2))
    state = (jnp.float32(0), weights, statistics, m, v)

    def step(x: Any, y: Any) -> None:
        nonlocal state
        state = jax.block_until_ready(update(state, x, y))

    return cycle(examples(model, batch), step)


def dezero(model: str, opt: str, batch: int) -> Step:
    setattr(np, "int", int)  # noqa: B010 (DeZero 0.0.13 was written for NumPy 1.x, which had this name)
    import dezero.functions as F
    import dezero.layers as L
    from dezero import Model, optimizers

    class Net(Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for i, layer in enumerate(layers):
                if layer.kind == "Linear":
                    setattr(self, f"l{i}", L.Linear(layer.out))
                elif layer.kind == "Conv2d":
                    setattr(self, f"l{i}", L.Conv2d(layer.out, layer.kernel, layer.stride, layer.padding))

        def forward(self, x: Any) -> Any:
            for i, layer in enumerate(layers):
                x = plain[layer.kind](x, layer) if layer.kind in plain else getattr(self, f"l{i}")(x)
            return x

    layers = network(model).layers
    plain = {
        "ReLU": lambda x, layer: F.relu(x),
        "MaxPool2d": lambda x, layer: F.pooling(x, layer.kernel, layer.stride, layer.padding),
        "Flatten": lambda x, layer: F.reshape(x, (len(x), -1)),
    }
    for layer in layers:
        if layer.kind not in ("Linear", "Conv2d", *plain):
            raise RuntimeError(f"there is no {layer.kind} in this column")
    net = Net()
    optimizer = (optimizers.MomentumSGD(lr=0.01) if opt == "momentum" else optimizers.Adam(alpha=1e-3)).setup(net)

    def step(x: Any, y: Any) -> None:
        loss = F.softmax_cross_entropy(net(x), y)
        net.cleargrads()
        loss.backward()
        optimizer.update()

    return cycle(examples(model, batch), step)
