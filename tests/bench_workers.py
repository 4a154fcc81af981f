"""What `tests.bench` measures: each column (minidl or another library) trains the models in a live process of its own.

A worker reads one JSON line per turn, {"model", "opt", "batch", "steps"}, trains that many steps and answers with the
wall and CPU seconds that it took. Between its turns it blocks on the pipe, so that no other column is disturbed. A
model is built and warmed up on its first turn and then kept. `before` is the minidl of the folder that the process was
started in.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS = ("mlp", "mlp1024", "cnn")
# Runs this file (argv[1]) in a process that imports minidl from its working directory, where `-c` looks first.
LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("bench_workers", sys.argv[1])
workers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(workers)
"""
ENVIRONMENT = {"minidl-no-fast": {"MINIDL_NO_FAST": "1"}}  # of a column's process, added to the machine's
OPTIMIZERS = ("adam", "momentum", "hybrid")
Step = Callable[[], Any]  # trains on the next batch


@functools.cache
def field(name: str = "field") -> Any:
    """The tests/field.py, or field_hand.py, next to this file: the checkout whose minidl runs may have another."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network(model: str) -> Any:
    """The network of tests/field.py for "mlp", "mlp1024", "cnn" or "field:NAME", or of field_hand.py for the latter.

    Of any size: "mlp:64" has two hidden layers of 64, "cnn:64" takes images of 64 x 64 pixels.
    """
    described, (name, _, size) = field(), model.partition(":")
    if name == "field":
        return described.BY_NAME.get(size) or field("field_hand").BY_NAME[size]
    found = described.BY_NAME[name]
    if size and name == "mlp":
        return found._replace(layers=described.mlp(int(size), int(size), 10))
    return found._replace(shape=(1, int(size), int(size))) if size else found


def examples(model: str, batch: int) -> list[tuple[Any, Any]]:
    """Some batches of random images and labels, the same for every column."""
    return field().examples(network(model), batch)


def cycle(batches: list[Any], step: Callable[[Any, Any], Any]) -> Step:
    turn = 0

    def next_step() -> Any:
        nonlocal turn
        turn = (turn + 1) % len(batches)
        return step(*batches[turn])

    return next_step


def tune_allocator() -> bool:
    try:
        from minidl.fast import malloc
    except ImportError:  # an older checkout
        from minidl import malloc
    return malloc.tune_allocator()


# ---- the columns ----


def minidl_net(model: str, opt: str) -> tuple[Any, Any]:
    """The model and its optimizer."""
    try:
        from minidl import optim
    except ImportError:  # an older checkout, see `--before`
        import optim
    from minidl import nn, ops

    described = network(model)
    net = described.make(nn, ops) if hasattr(described, "make") else field().minidl_net(described)
    if opt == "adam":
        return net, optim.Adam(net.parameters(), lr=1e-3)
    if opt == "momentum":
        return net, optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    first, then = optim.Adam(lr=1e-3), optim.SGD(lr=0.01, momentum=0.9)
    return net, optim.Hybrid(net.parameters(), first=first, then=then, switch=optim.AfterSteps(100))


def minidl(model: str, opt: str, batch: int) -> Step:
    from minidl import Tensor, ops

    tune_allocator()  # as minidl's programs do
    net, optimizer = minidl_net(model, opt)

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        ops.cross_entropy(net(Tensor(x)), y).backward()
        optimizer.step()

    return cycle(examples(model, batch), step)


def minidl_one(model: str, opt: str, batch: int) -> Step:
    """With one thread."""
    from minidl.fast.threads import use_threads

    step = minidl(model, opt, batch)

    def with_one_thread() -> None:
        with use_threads(1):
            step()

    return with_one_thread


def torch(model: str, opt: str, batch: int, fused: bool = False, compiled: bool = False) -> Step:
    import torch

    torch.manual_seed(0)
    described = network(model)
    net = described.make(torch.nn, torch) if hasattr(described, "make") else field().torch_net(described)
    if opt == "momentum":
        optimizer: Any = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=fused or None)
    else:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused or None)
    count = 0
    run = torch.compile(net) if compiled else net
    loss_of = torch.nn.functional.cross_entropy

    def step(x: Any, y: Any) -> None:
        nonlocal optimizer, count
        optimizer.zero_grad()
        loss_of(run(x), y).backward()
        optimizer.step()
        count += 1
        if opt == "hybrid" and count == 100:
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=fused or None)

    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in examples(model, batch)]
    return cycle(batches, step)


def torch_fused(model: str, opt: str, batch: int) -> Step:
    return torch(model, opt, batch, fused=True)


def torch_malloc(model: str, opt: str, batch: int) -> Step:
    """PyTorch's fused mode with malloc tuned as minidl's programs tune it."""
    if not tune_allocator():
        raise RuntimeError("this C library has no mallopt")
    return torch(model, opt, batch, fused=True)


def torch_compiled(model: str, opt: str, batch: int) -> Step:
    return torch(model, opt, batch, fused=True, compiled=True)


def gemm(model: str, opt: str, batch: int) -> Step:
    from tests.bench_products import gemm as build

    return build(model, opt, batch)


def jax(model: str, opt: str, batch: int) -> Step:
    from tests.bench_peers import jax as build

    return build(model, opt, batch)


def dezero(model: str, opt: str, batch: int) -> Step:
    from tests.bench_peers import dezero as build

    return build(model, opt, batch)


COLUMNS: dict[str, Callable[[str, str, int], Step]] = {
    "minidl": minidl, "minidl-no-fast": minidl, "minidl-one": minidl_one, "before": minidl,
    "torch": torch, "torch-fused": torch_fused, "torch-compile": torch_compiled, "torch-malloc": torch_malloc,
    "gemm": gemm, "jax": jax, "dezero": dezero,
}  # fmt: skip


def serve(column: str) -> None:
    """Answer turns until the pipe closes."""
    built: dict[tuple[Any, ...], Step] = {}
    out, sys.stdout = sys.stdout, sys.stderr  # only answers go to the pipe
    for line in sys.stdin:
        turn = json.loads(line)
        key = (turn["model"], turn["opt"], turn["batch"])
        try:
            if key not in built:
                built[key] = COLUMNS[column](*key)
                for _ in range(5):
                    built[key]()
            built[key]()  # the first step after a pause finds its threads asleep
            begin, cpu = time.perf_counter(), time.process_time()
            for _ in range(turn["steps"]):
                built[key]()
            answer: dict[str, Any] = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
        except Exception as error:  # the column is skipped, with this reason
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
