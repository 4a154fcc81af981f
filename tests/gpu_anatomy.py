"""Where the time of a step goes: `python -m tests.bench_gpu --anatomy NETWORK`.

First, for each column, microseconds of one step: until the host has launched it, until it is done; on the device, the
number of kernels and copies (launches) and the sum of their times. What is left between that sum and the step are
gaps. Then the same by name of the kernel, as NVIDIA's profiler sees them through PyTorch: of the whole process, so
that CuPy's and JAX's kernels are there too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tests.bench_workers import Step
from tests.field import Network
from tests.gpu_columns import Column, Setting

TOP = 25  # kernels


class Kernel(NamedTuple):
    name: str
    launches: float  # of one step
    us: float  # of one step, all launches


def by_name(events: Iterable[tuple[str, float]], steps: int) -> list[Kernel]:
    """The longest first, from each launch's name and microseconds."""
    found: dict[str, list[float]] = {}
    for name, us in events:
        found.setdefault(" ".join(name.split()), []).append(us)
    kernels = [Kernel(name, len(times) / steps, sum(times) / steps) for name, times in found.items()]
    return sorted(kernels, key=lambda kernel: -kernel.us)


def launched(step: Step, wait: Callable[[], None], calls: int) -> list[tuple[str, float]]:
    """Name and microseconds of all that the device did in these calls."""
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.init()
    for n in (1, calls):  # the first profile of a process sets the profiler up
        wait()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            for _ in range(n):
                step()
            wait()
    events = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    return [(event.name, event.time_range.elapsed_us()) for event in events]


def table(kernels: list[Kernel]) -> list[str]:
    """The first TOP kernels, and the others in one line."""
    total = sum(kernel.us for kernel in kernels) or 1.0
    rest = kernels[TOP:]
    if rest:
        name = f"{len(rest)} others"
        kernels = [*kernels[:TOP], Kernel(name, sum(k.launches for k in rest), sum(k.us for k in rest))]
    lines = [f"  {'us':>9}{'share':>7}{'launches':>10}  kernel"]
    return lines + [f"  {us:9.1f}{us / total:7.1%}{launches:10.1f}  {name[:90]}" for name, launches, us in kernels]


def parts(step: Step, wait: Callable[[], None], calls: int, steps: int) -> dict[str, float]:
    """Microseconds of one step: until the host has launched it (host), and until it is done (step)."""
    wait()
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    host = time.perf_counter() - begin
    wait()
    return {"step": (time.perf_counter() - begin) / steps * 1e6, "host": host / steps * 1e6}


def show(network: Network, batch: int, columns: dict[str, Column], setting: Setting) -> None:
    """Print both tables; a column that can't run says why."""
    tables: dict[str, list[str]] = {}
    print(f"{network.name + f', batch {batch}: us a step':36}{'step':>10}{'host':>10}{'kernels':>10}{'launches':>10}")
    for name, column in columns.items():
        try:
            step, wait = column.build(network, batch, setting)
            calls = max(2, setting.profiled // column.steps)
            for _ in range(5):
                step()
            found: dict[str, Any] = parts(step, wait, calls, calls * column.steps)
            if setting.torch_device == "cuda":
                kernels = by_name(launched(step, wait, calls), calls * column.steps)
                found |= {"kernels": sum(k.us for k in kernels), "launches": sum(k.launches for k in kernels)}
                tables[name] = table(kernels)
        except Exception as error:  # the others are shown
            print(f"  {name} skipped: {' '.join(f'{type(error).__name__}: {error}'.split())[:150]}")
            continue
        keys = ("step", "host", "kernels", "launches")
        print(f"{name:36}" + "".join(f"{found[key]:10,.1f}" if key in found else f"{'-':>10}" for key in keys))
    for name, lines in tables.items():
        print(f"\n{name}", *lines, sep="\n")
