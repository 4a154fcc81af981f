"""How fast is minidl on a GPU, compared with other libraries? `python -m tests.bench_gpu` prints microseconds per step.

    python -m tests.bench_gpu                         the three models of tests.bench at batch 128 and 1024, all columns
    python -m tests.bench_gpu --field                 the networks of tests/field.py, each at its own batch size
    python -m tests.bench_gpu --field --batches own 128 1024 --networks lenet5 keras
    python -m tests.bench_gpu --anatomy bn-cnn        where the time of a minidl step goes: launches, kernels by name
    python -m tests.bench_gpu --dry-run               a few steps on the CPU, to check that the program works

Steps train with Adam in float32 (TF32 off for all) on batches that are already on the device. The columns
(gpu_columns.py) take turns of a fraction of a second in one process, each round starts with a different column, and the
table shows medians over the rounds: minidl eager and as a captured graph; PyTorch eager with its fused Adam, with
torch.compile (which compiles slowly: with --field only if named) and as a captured graph; JAX compiled, one step per
call and 50 steps in one scan. A ratio is the median of the rounds' ratios; above 1, minidl is faster. Columns that
can't run are skipped, with the reason. It needs CuPy, and PyTorch with CUDA and JAX for their columns; a network takes
some 5 seconds. `bench_gpu.json` holds every round, written after each network.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minidl import DeviceError
from minidl.backend import get_backend
from tests import gpu_anatomy
from tests.bench_cases import OWN, Case, batch_size, cases, means, median_and_range
from tests.bench_workers import MODELS, Step
from tests.field import BY_NAME
from tests.gpu_columns import COLUMNS, OURS, Column, Setting, missing

# ---- measuring ----------------------------------------------------------------------------------------------------


def seconds(step: Step, wait: Callable[[], None], calls: int) -> float:
    """Time of some calls, including the device's work."""
    wait()
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    wait()
    return time.perf_counter() - begin


def left_out(what: str, error: Exception) -> None:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
    print(f"  {what} skipped: {reason}", file=sys.stderr, flush=True)


def measure(case: Case, columns: dict[str, Column], setting: Setting) -> dict[str, list[float]]:
    """Microseconds per step of each column, round by round."""
    network, batch, _ = case
    ready: dict[str, tuple[Step, Callable[[], None], int]] = {}
    for name, column in columns.items():
        try:
            step, wait = column.build(network, batch, setting)
            seconds(step, wait, 3)  # compiles, captures
            once = seconds(step, wait, 3) / 3
        except Exception as error:  # skipped, with this reason
            left_out(f"{network.name} {batch}: {name}", error)
            continue
        ready[name] = step, wait, max(1, round(setting.turn / once))
    times: dict[str, list[float]] = {name: [] for name in ready}
    for k in range(setting.rounds):
        names = list(ready)
        start = k % max(1, len(names))
        for name in names[start:] + names[:start]:  # each round starts with another one
            step, wait, calls = ready[name]
            try:
                times[name].append(seconds(step, wait, calls) / (calls * columns[name].steps) * 1e6)
            except Exception as error:
                left_out(f"{network.name} {batch}: {name}", error)
                del ready[name], times[name]
    return times


def forget(setting: Setting) -> None:
    """Release the last network's memory on the device."""
    gc.collect()
    if setting.backend.name == "gpu":
        setting.backend.xp.get_default_memory_pool().free_all_blocks()
    for module, clear in (("torch", lambda torch: torch.cuda.empty_cache()), ("jax", lambda jax: jax.clear_caches())):
        if module in sys.modules:
            clear(sys.modules[module])


def card(setting: Setting) -> dict[str, Any]:
    """The device's peak rates: copies within its memory, and a large product of float32 matrices."""
    xp, on_gpu = setting.backend.xp, setting.backend.name == "gpu"
    n, side = (1 << 28, 8192) if on_gpu else (1 << 20, 256)
    a, b = xp.zeros(n, "float32"), xp.empty(n, "float32")
    m, product = xp.ones((side, side), "float32"), xp.empty((side, side), "float32")

    def wait() -> None:
        if on_gpu:
            xp.cuda.Device().synchronize()

    def best(work: Step) -> float:
        return min(seconds(work, wait, 3) / 3 for _ in range(5))

    name = "CPU"
    if on_gpu:
        name = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"].decode()
    return {
        "name": name,
        "bandwidth_GBs": 2 * a.nbytes / best(lambda: xp.copyto(b, a)) / 1e9,
        "gemm_TFLOPs": 2 * side**3 / best(lambda: m.dot(m, out=product)) / 1e12,
    }


def versions() -> dict[str, str]:
    found = {}
    for package in ("numpy", "cupy-cuda12x", "cupy-cuda13x", "nvmath-python", "torch", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ---- the table ----------------------------------------------------------------------------------------------------


def ratios(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """For each other library: its time over that of minidl's best column, round by round."""
    ours = next((name for name in OURS if name in times), None)
    if ours is None:
        return {}
    peers = [name for name in times if name not in OURS]
    return {
        f"{name} / minidl": [their / our for their, our in zip(times[name], times[ours], strict=True)] for name in peers
    }


def heading(columns: list[str]) -> str:
    return f"{'us per step (median)':22}{'batch':>6}" + "".join(f"{c:>16}" for c in columns) + "   torch graph / minidl"


def line(case: Case, times: dict[str, list[float]], columns: list[str]) -> str:
    """A network's medians, and how much faster minidl is than PyTorch's captured graph, with the range over rounds."""
    cells = "".join(f"{statistics.median(times[c]):16,.1f}" if c in times else f"{'-':>16}" for c in columns)
    over = ratios(times).get("torch graph / minidl")
    text = median_and_range(over) if over else f"{'-':>6}"
    return f"{case.network.name:22}{case.batch:>6}{cells}   {text}"


# ---- the command --------------------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--field", action="store_true", help="the networks of tests/field.py")
    parser.add_argument("--anatomy", metavar="NETWORK", choices=BY_NAME, help="only: where this network's time goes")
    parser.add_argument("--networks", nargs="+", choices=BY_NAME, metavar="NAME", help=f"of {' '.join(BY_NAME)}")
    parser.add_argument("--batches", nargs="+", type=batch_size, help="numbers, or 'own': the batch size of its source")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, metavar="COLUMN", help=f"of {', '.join(COLUMNS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=0.05, help="seconds for one turn of one column")
    parser.add_argument("--json", type=Path, default=Path("bench_gpu.json"), help="write every round's numbers here")
    parser.add_argument("--dry-run", action="store_true", help="a few steps on the CPU: its numbers mean nothing")
    args = parser.parse_args(argv)
    if args.anatomy:
        args.networks, args.columns = [args.anatomy], args.columns or list(reversed(OURS))
    args.networks = args.networks or list(BY_NAME if args.field else MODELS)
    slow = ["torch.compile"] if args.field or args.dry_run else []  # half a minute for each network
    args.columns = args.columns or [name for name in COLUMNS if name not in slow]
    small = ["4"] if args.dry_run else [OWN]
    args.batches = args.batches or (small if args.field or args.anatomy or args.dry_run else ["128", "1024"])
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parse(argv)
    if args.dry_run:
        setting = Setting(get_backend("cpu"), "cpu", rounds=2, turn=0.01, profiled=2)
    else:
        try:
            setting = Setting(get_backend("gpu"), "cuda", rounds=args.rounds, turn=args.turn, profiled=50)
        except DeviceError as error:
            print(f"tests.bench_gpu: error: {error}", file=sys.stderr)
            return 2
    columns = {name: COLUMNS[name] for name in args.columns}
    for name in [name for name, column in columns.items() if missing(column)]:
        print(f"  {name} skipped: there is no {columns.pop(name).needs}", file=sys.stderr)
    best = card(setting)
    print(
        f"{datetime.date.today()}, {best['name']}: copies {best['bandwidth_GBs']:,.0f} GB/s (read and written), "
        f"8192 x 8192 products {best['gemm_TFLOPs']:.1f} TFLOP/s in float32"
    )
    todo = cases([BY_NAME[name] for name in args.networks], args.batches)
    if args.anatomy:
        for case in todo:
            gpu_anatomy.show(case.network, case.batch, columns, setting)
        return 0
    record = {"date": str(datetime.date.today()), "card": best, "versions": versions(), "dry_run": args.dry_run}
    results: list[tuple[Case, dict[str, list[float]]]] = []
    print(heading(list(columns)), flush=True)
    for case in todo:
        times = measure(case, columns, setting)
        forget(setting)
        results.append((case, times))
        print(line(case, times, list(columns)), flush=True)
        lines = [{"network": c.network.name, "batch": c.batch, "classes": c.classes, "us": t} for c, t in results]
        args.json.write_text(json.dumps({**record, "results": lines}, indent=1) + "\n")
    print("", *means([(case, ratios(times)) for case, times in results]), sep="\n")
    return 0 if any(times for _, times in results) else 1


if __name__ == "__main__":
    sys.exit(main())
