"""Columns of `tests.bench` for peers, where they are installed: JAX (compiled, pooling by reshape) and DeZero."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.bench_workers import Step, cycle, examples, image_size, widths


def jax(model: str, opt: str, batch: int) -> Step:
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)

    def layer(*shape: int) -> tuple[Any, Any]:
        scale = (2 / np.prod(shape[1:])) ** 0.5
        return jnp.asarray(rng.normal(0, scale, shape), jnp.float32), jnp.zeros(shape[0], jnp.float32)

    if model.startswith("cnn"):
        size = image_size(model) // 4
        weights: Any = [layer(16, 1, 3, 3), layer(32, 16, 3, 3), layer(128, 32 * size * size), layer(10, 128)]
    else:
        w = widths(model)
        weights = [layer(w[i + 1], w[i]) for i in range(3)]

    def pool(x: Any) -> Any:
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    def loss(weights: Any, x: Any, y: Any) -> Any:
        if model.startswith("cnn"):
            x = x.transpose(0, 2, 3, 1)
            for w, b in weights[:2]:
                axes = ("NHWC", "OIHW", "NHWC")
                x = pool(jax.nn.relu(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=axes) + b))
            x = x.reshape(len(x), -1)
        dense = weights[2:] if model.startswith("cnn") else weights
        for w, b in dense[:-1]:
            x = jax.nn.relu(x @ w.T + b)
        logits = x @ dense[-1][0].T + dense[-1][1]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

    @jax.jit
    def update(state: Any, x: Any, y: Any) -> Any:
        t, w, m, v = state
        g, t = jax.grad(loss)(w, x, y), t + 1
        each = jax.tree_util.tree_map
        if opt == "momentum":
            m = each(lambda m, g: 0.9 * m + g, m, g)
            return t, each(lambda w, m: w - 0.01 * m, w, m), m, v
        m = each(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = each(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate, c = 1e-3 / (1 - 0.9**t), 1 - 0.999**t
        return t, each(lambda w, m, v: w - rate * m / (jnp.sqrt(v / c) + 1e-8), w, m, v), m, v

    zeros = jax.tree_util.tree_map(jnp.zeros_like, weights)
    state = (jnp.float32(0), weights, zeros, zeros)

    def step(x: Any, y: Any) -> None:
        nonlocal state
        state = jax.block_until_ready(update(state, x, y))

    return cycle(examples(model, batch), step)


def dezero(model: str, opt: str, batch: int) -> Step:
    setattr(np, "int", int)  # noqa: B010 (DeZero 0.0.13 was written for NumPy 1.x, which had this name)
    import dezero.functions as F
    import dezero.layers as L
    from dezero import Model, optimizers

    class MLP(Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            _, b, c, d = widths(model)
            self.l1, self.l2, self.l3 = L.Linear(b), L.Linear(c), L.Linear(d)

        def forward(self, x: Any) -> Any:
            return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))

    class CNN(Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.c2 = L.Conv2d(16, 3, 1, 1), L.Conv2d(32, 3, 1, 1)
            self.l1, self.l2 = L.Linear(128), L.Linear(10)

        def forward(self, x: Any) -> Any:
            x = F.pooling(F.relu(self.c1(x)), 2, 2)
            x = F.pooling(F.relu(self.c2(x)), 2, 2)
            return self.l2(F.relu(self.l1(F.reshape(x, (len(x), -1)))))

    net = CNN() if model.startswith("cnn") else MLP()
    optimizer = (optimizers.MomentumSGD(lr=0.01) if opt == "momentum" else optimizers.Adam(alpha=1e-3)).setup(net)

    def step(x: Any, y: Any) -> None:
        loss = F.softmax_cross_entropy(net(x), y)
        net.cleargrads()
        loss.backward()
        optimizer.update()

    return cycle(examples(model, batch), step)
