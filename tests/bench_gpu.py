"""How fast is minidl on a GPU, beside PyTorch? `python -m tests.bench_gpu` prints one table, in under eight minutes.

Columns take turns of a fraction of a second in one process, and the table shows medians over the rounds: samples per
second of whole training steps with Adam, from batches that lie on the device. PyTorch runs three times: eager with its
fused Adam, with torch.compile, and replaying a captured CUDA graph, which has no launches to wait for. Above the table
stands what the card can do at best; below it, where the time of one step goes.

    python -m tests.bench_gpu                         the table, and bench_gpu.json
    python -m tests.bench_gpu --models mlp --batches 128
    python -m tests.bench_gpu --dry-run               a few steps on the CPU, to see that the program works

It needs CuPy and a PyTorch with CUDA; columns that can't run are left out, with the reason.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minidl import DeviceError, Tensor, ops
from minidl.backend import Backend, get_backend
from minidl.optim import Adam
from tests.bench_workers import MODELS, Step, cycle, examples, minidl_net, torch_net


class Setting(NamedTuple):
    """Where and how long to measure."""

    backend: Backend  # minidl's device
    torch_device: str
    rounds: int
    turn: float  # seconds
    profiled: int  # steps to look into


class Column(NamedTuple):
    build: Callable[[str, int, Setting], Step]  # from a model's name and a batch size
    wait: Callable[[Setting], None]  # until the device has done all that it was told


# ---- the columns --------------------------------------------------------------------------------------------------


def build_minidl(model: str, batch: int, setting: Setting) -> Step:
    backend = setting.backend
    net = minidl_net(model, "adam")[0].to(backend.name)
    optimizer = Adam(net.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        ops.cross_entropy(net(Tensor(x)), y).backward()
        optimizer.step()

    return cycle([(backend.from_host(x), backend.from_host(y)) for x, y in examples(model, batch)], step)


def wait_minidl(setting: Setting) -> None:
    if setting.backend.name == "gpu":
        setting.backend.xp.cuda.Device().synchronize()


def torch_parts(model: str, batch: int, setting: Setting, **adam: Any) -> tuple[Any, Any, list[Any]]:
    """PyTorch's model, optimizer and batches, on the device."""
    import torch

    where = setting.torch_device
    torch.manual_seed(0)
    net = torch_net(model).to(where)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, **adam)
    batches = [(torch.from_numpy(x).to(where), torch.from_numpy(y).to(where)) for x, y in examples(model, batch)]
    return net, optimizer, batches


def build_torch(model: str, batch: int, setting: Setting, compiled: bool = False) -> Step:
    import torch

    net, optimizer, batches = torch_parts(model, batch, setting)
    run = torch.compile(net) if compiled else net

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(run(x), y).backward()
        optimizer.step()

    return cycle(batches, step)


def build_torch_compiled(model: str, batch: int, setting: Setting) -> Step:
    return build_torch(model, batch, setting, compiled=True)


def build_torch_graph(model: str, batch: int, setting: Setting) -> Step:
    """One captured step; each replay copies a batch to where the graph reads it."""
    import torch

    if setting.torch_device == "cpu":
        raise RuntimeError("a CUDA graph needs a GPU")
    net, optimizer, batches = torch_parts(model, batch, setting, capturable=True)
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

    return cycle(batches, step)


def wait_torch(setting: Setting) -> None:
    import torch

    if setting.torch_device == "cuda":
        torch.cuda.synchronize()


COLUMNS = {
    "minidl": Column(build_minidl, wait_minidl),
    "torch": Column(build_torch, wait_torch),
    "torch.compile": Column(build_torch_compiled, wait_torch),
    "torch graph": Column(build_torch_graph, wait_torch),
}


# ---- measuring ----------------------------------------------------------------------------------------------------


def seconds(step: Step, wait: Callable[[], None], steps: int) -> float:
    """Time of some whole steps, the device's part counted."""
    wait()
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return time.perf_counter() - begin


def measure(model: str, batch: int, columns: list[str], setting: Setting) -> tuple[dict[str, Any], dict[str, Any]]:
    """Samples per second of each column, round by round; and what its step consists of."""
    ready: dict[str, tuple[Step, Callable[[], None], int]] = {}
    for name in columns:
        column = COLUMNS[name]

        def wait(column: Column = column) -> None:
            column.wait(setting)

        try:
            step = column.build(model, batch, setting)
            seconds(step, wait, 5)  # compiles
            once = seconds(step, wait, 5) / 5
        except Exception as error:  # left out, with this reason
            print(f"  {model} {batch}: {name} left out: {' '.join(str(error).split())[:150]}", file=sys.stderr)
            continue
        ready[name] = step, wait, max(2, round(setting.turn / once))
    speeds: dict[str, list[float]] = {name: [] for name in ready}
    names = list(ready)
    for k in range(setting.rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:  # another one begins each round
            step, wait, steps = ready[name]
            speeds[name].append(steps * batch / seconds(step, wait, steps))
    parts = {name: anatomy(step, wait, setting) for name, (step, wait, _) in ready.items()}
    return speeds, parts


def anatomy(step: Step, wait: Callable[[], None], setting: Setting) -> dict[str, float]:
    """Microseconds of one step: until the host has said what to do (host) and until it is done (step); on the device,
    the number of kernels and copies (launches) and their time (kernels), as NVIDIA's profiler sees them."""
    n = setting.profiled
    wait()
    begin = time.perf_counter()
    for _ in range(n):
        step()
    host = time.perf_counter() - begin
    wait()
    found = {"step": (time.perf_counter() - begin) / n * 1e6, "host": host / n * 1e6}
    if setting.torch_device != "cuda":
        return found
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:  # it sees all of the process, CuPy's kernels too
        for _ in range(n):
            step()
        wait()
    events = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    found["kernels"] = sum(event.time_range.elapsed_us() for event in events) / n
    found["launches"] = len(events) / n
    return found


def card(setting: Setting) -> dict[str, Any]:
    """What the device can do at best: copies within its memory, and a large product of float32 matrices."""
    xp, on_gpu = setting.backend.xp, setting.backend.name == "gpu"
    n, side = (1 << 28, 8192) if on_gpu else (1 << 20, 256)
    a, b = xp.zeros(n, "float32"), xp.empty(n, "float32")
    m, product = xp.ones((side, side), "float32"), xp.empty((side, side), "float32")

    def best(work: Step) -> float:
        return min(seconds(work, lambda: wait_minidl(setting), 3) / 3 for _ in range(5))

    name = "CPU"
    if on_gpu:
        name = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"].decode()
    return {
        "name": name,
        "bandwidth_GBs": 2 * a.nbytes / best(lambda: xp.copyto(b, a)) / 1e9,
        "gemm_TFLOPs": 2 * side**3 / best(lambda: m.dot(m, out=product)) / 1e12,
    }


# ---- the table ----------------------------------------------------------------------------------------------------


def report(results: dict[str, Any], columns: list[str]) -> None:
    """Print the table, then the parts of a step."""
    print(f"\n{'samples/s (median)':24}" + "".join(f"{name:>16}" for name in columns) + "   minidl is faster by")
    for case, result in results.items():
        median = {name: statistics.median(values) for name, values in result["samples_per_second"].items()}
        cells = "".join(f"{median[name]:16,.0f}" if name in median else f"{'-':>16}" for name in columns)
        ratios = [f"{median['minidl'] / median[name]:.2f}" for name in columns if name != "minidl" and name in median]
        print(f"{case:24}{cells}   {' '.join(ratios)}")
    print(f"\n{'us of one step':24}{'':16}{'step':>10}{'host':>10}{'kernels':>10}{'launches':>10}")
    for case, result in results.items():
        for name, parts in result["microseconds"].items():
            cells = "".join(
                f"{parts[key]:10,.0f}" if key in parts else f"{'-':>10}"
                for key in ("step", "host", "kernels", "launches")
            )
            print(f"{case:24}{name:16}{cells}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, help="default: 128 1024")
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("bench_gpu.json"), help="write every round's numbers here")
    parser.add_argument("--dry-run", action="store_true", help="a few steps on the CPU: its numbers mean nothing")
    args = parser.parse_args(argv)
    if args.dry_run:
        setting = Setting(get_backend("cpu"), "cpu", rounds=2, turn=0.01, profiled=2)
        batches = args.batches or [4, 8]
    else:
        try:
            setting = Setting(get_backend("gpu"), "cuda", rounds=args.rounds, turn=0.25, profiled=50)
        except DeviceError as error:
            print(f"tests.bench_gpu: error: {error}", file=sys.stderr)
            return 2
        batches = args.batches or [128, 1024]
    best = card(setting)
    print(
        f"{datetime.date.today()}, {best['name']}: copies {best['bandwidth_GBs']:,.0f} GB/s (read and written), "
        f"8192 x 8192 products {best['gemm_TFLOPs']:.1f} TFLOP/s in float32"
    )
    results = {}
    for model in args.models:
        for batch in batches:
            speeds, parts = measure(model, batch, args.columns, setting)
            if not speeds:
                return 1
            results[f"{model}, batch {batch}"] = {"samples_per_second": speeds, "microseconds": parts}
    report(results, args.columns)
    record = {"date": str(datetime.date.today()), "card": best, "dry_run": args.dry_run, "results": results}
    args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
