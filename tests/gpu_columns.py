"""The columns of `tests.bench_gpu`: the same network trained by minidl, PyTorch and JAX, each in its ways.

A column's `build` makes a network of tests/field.py and its optimizer (Adam, rate 0.001), lays some batches on the
device and returns two functions: one trains on the next batch (or the next 50), the other waits until the device has
done all that it was told. Everything is float32: TF32, which rounds the factors of a product to 10 bits, is off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from minidl import Tensor, ops
from minidl.backend import Backend
from minidl.optim import Adam
from tests.bench_workers import Step, cycle
from tests.field import Network, examples, minidl_net, torch_net

SCAN = 50  # steps in one call of JAX's scan


class Setting(NamedTuple):
    """Where and how long to measure."""

    backend: Backend  # minidl's device
    torch_device: str
    rounds: int
    turn: float  # seconds
    profiled: int  # steps to look into


Ready = tuple[Step, Callable[[], None]]  # train on the next batch; wait for the device


class Column(NamedTuple):
    build: Callable[[Network, int, Setting], Ready]
    needs: str  # the module without which there is no such column
    steps: int = 1  # that one call trains


def missing(column: Column) -> bool:
    try:
        return find_spec(column.needs) is None
    except ModuleNotFoundError:  # not even the package that the module would be in
        return True


# ---- minidl -------------------------------------------------------------------------------------------------------


def minidl_parts(network: Network, batch: int, setting: Setting) -> tuple[Any, Adam, list[Any], Callable[[], None]]:
    backend = setting.backend
    net = minidl_net(network).to(backend.name)
    batches = [(backend.from_host(x), backend.from_host(y)) for x, y in examples(network, batch)]

    def wait() -> None:
        if backend.name == "gpu":
            backend.xp.cuda.Device().synchronize()

    return net, Adam(net.parameters(), lr=1e-3), batches, wait


def minidl(network: Network, batch: int, setting: Setting) -> Ready:
    net, optimizer, batches, wait = minidl_parts(network, batch, setting)

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        ops.cross_entropy(net(Tensor(x)), y).backward()
        optimizer.step()

    return cycle(batches, step), wait


def minidl_captured(network: Network, batch: int, setting: Setting) -> Ready:
    from minidl.fast.gpu.graph import captured

    net, optimizer, batches, wait = minidl_parts(network, batch, setting)
    return cycle(batches, captured(lambda x, y: ops.cross_entropy(net(Tensor(x)), y), optimizer, net)), wait


# ---- PyTorch ------------------------------------------------------------------------------------------------------


def torch_parts(network: Network, batch: int, setting: Setting, **adam: Any) -> tuple[Any, Any, list[Any]]:
    """PyTorch's network, optimizer and batches, on the device."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # it tries which of its convolutions is the fastest
    torch.manual_seed(0)
    where = setting.torch_device
    net = torch_net(network).to(where)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, **adam)
    batches = [(torch.from_numpy(x).to(where), torch.from_numpy(y).to(where)) for x, y in examples(network, batch)]
    return net, optimizer, batches


def torch_wait(setting: Setting) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if setting.torch_device == "cuda" else lambda: None


def torch_eager(network: Network, batch: int, setting: Setting, compiled: bool = False) -> Ready:
    import torch

    net, optimizer, batches = torch_parts(network, batch, setting)
    run = torch.compile(net) if compiled else net

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(run(x), y).backward()
        optimizer.step()

    return cycle(batches, step), torch_wait(setting)


def torch_compiled(network: Network, batch: int, setting: Setting) -> Ready:
    import torch

    torch.compiler.reset()  # it compiles only so many networks of one class
    return torch_eager(network, batch, setting, compiled=True)


def torch_graph(network: Network, batch: int, setting: Setting) -> Ready:
    """One captured step; each replay copies a batch to where the graph reads it."""
    import torch

    if setting.torch_device == "cpu":
        raise RuntimeError("a CUDA graph needs a GPU")
    net, optimizer, batches = torch_parts(network, batch, setting, capturable=True)
    x, y = (t.clone() for t in batches[0])

    def whole_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    side = torch.cuda.Stream()  # PyTorch asks for a warm-up on a stream of its own before a capture
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            whole_step()
    torch.cuda.current_stream().wait_stream(side)
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        whole_step()

    def step(new_x: Any, new_y: Any) -> None:
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()

    return cycle(batches, step), torch_wait(setting)


# ---- JAX ----------------------------------------------------------------------------------------------------------


def jax_parts(network: Network, batch: int, setting: Setting) -> tuple[Callable[..., Any], Any, list[Any]]:
    """JAX's `update(state, x, y) -> state, loss`, not yet compiled, its first state and its batches on the device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory for the other columns
    if setting.torch_device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp

    from tests.field_jax import jax_net

    if setting.torch_device == "cuda" and jax.default_backend() != "gpu":
        raise RuntimeError("JAX sees no GPU")
    init, apply = jax_net(network)
    weights, statistics = init()
    zeros = {name: jnp.zeros_like(w) for name, w in weights.items()}
    more = {name: jnp.zeros_like(w) for name, w in weights.items()}  # as state is donated, no array may be in it twice

    def loss_of(weights: Any, statistics: Any, x: Any, y: Any, key: Any) -> Any:
        logits, statistics = apply(weights, statistics, x, key)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), statistics

    def update(state: Any, x: Any, y: Any) -> Any:
        t, weights, m, v, statistics = state
        key = jax.random.fold_in(jax.random.key(0), t)
        (loss, statistics), g = jax.value_and_grad(loss_of, has_aux=True)(weights, statistics, x, y, key)
        t = t + 1
        m = {name: 0.9 * m[name] + 0.1 * g[name] for name in g}
        v = {name: 0.999 * v[name] + 0.001 * g[name] ** 2 for name in g}
        rate, scale = 1e-3 / (1 - 0.9**t), 1 - 0.999**t
        weights = {name: w - rate * m[name] / (jnp.sqrt(v[name] / scale) + 1e-8) for name, w in weights.items()}
        return (t, weights, m, v, statistics), loss

    batches = [(jnp.asarray(x), jnp.asarray(y, "int32")) for x, y in examples(network, batch)]
    return update, (jnp.int32(0), weights, zeros, more, statistics), batches


def jax_calls(call: Callable[..., Any], state: Any, batches: list[Any]) -> Ready:
    """Steps that hand `state` on from call to call."""
    import jax

    def step(x: Any, y: Any) -> None:
        nonlocal state
        state, _ = call(state, x, y)

    def wait() -> None:
        jax.block_until_ready(state)

    return cycle(batches, step), wait


def jax_step(network: Network, batch: int, setting: Setting) -> Ready:
    update, state, batches = jax_parts(network, batch, setting)
    import jax

    return jax_calls(jax.jit(update, donate_argnums=0), state, batches)


def jax_scan(network: Network, batch: int, setting: Setting) -> Ready:
    """All of SCAN steps in one call, one batch after the other: nothing waits for Python."""
    update, state, batches = jax_parts(network, batch, setting)
    import jax
    import jax.numpy as jnp

    def steps(state: Any, xs: Any, ys: Any) -> Any:
        return jax.lax.scan(lambda state, i: update(state, xs[i], ys[i]), state, jnp.arange(SCAN) % len(xs))

    xs, ys = (jnp.stack(arrays) for arrays in zip(*batches, strict=True))
    return jax_calls(jax.jit(steps, donate_argnums=0), state, [(xs, ys)])


COLUMNS = {
    "minidl": Column(minidl, "minidl"),
    "minidl captured": Column(minidl_captured, "minidl.fast.gpu.graph"),
    "torch": Column(torch_eager, "torch"),
    "torch.compile": Column(torch_compiled, "torch"),
    "torch graph": Column(torch_graph, "torch"),
    "jax": Column(jax_step, "jax"),
    "jax scan": Column(jax_scan, "jax", SCAN),
}
OURS = ("minidl captured", "minidl")  # the first of these that is measured is compared with the others
