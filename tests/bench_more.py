"""Where minidl spends time and memory: one step by operation, cost against size, peak memory and start-up."""

from __future__ import annotations

import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests import bench_workers

ROOT = Path(__file__).resolve().parents[1]


def timed(times: dict[str, list[float]], name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    """f, with the seconds of each call recorded under `name`."""

    def call(*args: Any) -> Any:
        begin = time.perf_counter()
        result = f(*args)
        times[name].append(time.perf_counter() - begin)
        return result

    return call


def profile(models: list[str], repeats: int = 100) -> None:
    """One step of each model by operation: the median of many, in microseconds."""
    from minidl import Tensor, nn, ops
    from minidl.backend import CPU
    from minidl.tensor import _topological_order

    for model in models:
        times: dict[str, list[float]] = defaultdict(list)
        net, optimizer = bench_workers.minidl_net(model, "adam")
        pieces = [
            (f"{i} " + " ".join(type(layer).__name__ for layer in piece.layers), nn.Sequential(*piece.layers))
            for i, piece in enumerate(CPU.kernels["Sequential.forward"].segments(net))
        ]
        (x, y), *_ = bench_workers.examples(model, 128)
        for _ in range(repeats):
            begin = time.perf_counter()
            optimizer.zero_grad()
            h, made = Tensor(x), {}
            for name, piece in pieces:
                h = timed(times, f"{name} forward", piece)(h)
                made[h] = name
            loss = timed(times, "loss forward", ops.cross_entropy)(h, y)
            for tensor in _topological_order(loss):
                if tensor.node is not None:
                    edges = []
                    for parent, vjp in tensor.node.edges or ():
                        what = "input" if parent.node else "weight" if parent.ndim > 1 else "bias"
                        name = f"{made.get(tensor, 'loss')} backward, {what}"
                        edges.append((parent, timed(times, name, vjp)))
                    tensor.node.edges = tuple(edges)
            loss.backward()
            timed(times, "optimizer", optimizer.step)()
            times["the whole step, and this profiler"].append(time.perf_counter() - begin)
        print(f"\n{model}, batch 128, Adam: microseconds, median of {repeats}")
        for name, values in times.items():
            print(f"  {sorted(values)[len(values) // 2] * 1e6:9,.0f}  {name}")


def growth(folder: Path, columns: list[str]) -> None:
    """How the time per sample grows with batch size, width and image size: one PNG for each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    from tests.bench_turns import Worker, measure

    cases: dict[str, list[tuple[int, str, int]]] = {  # plot -> (what grows, model, batch)
        "batch size (MLP 784-256-128-10)": [(n, "mlp", n) for n in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)],
        "width (MLP, two hidden layers, batch 128)": [(2**k, f"mlp:{2**k}", 128) for k in range(6, 13)],
        "image size (CNN, batch 32)": [(n, f"cnn:{n}", 32) for n in (28, 56, 112, 224)],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    workers = [Worker(column) for column in columns]
    for title, sizes in cases.items():
        figure, axes = plt.subplots(figsize=(6, 4))
        lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for size, model, batch in sizes:
            for column, speeds in measure(workers, model, "adam", batch, 3, 0.1).items():
                lines[column].append((size, 1e6 / max(speeds)))
                print(f"{title} {size}: {column} {max(speeds):,.0f} samples/s", flush=True)
        for column, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=column)
        axes.set(xscale="log", yscale="log", xlabel=title, ylabel="microseconds per sample, best of 3 turns")
        axes.set_xticks([size for size, *_ in sizes], [str(size) for size, *_ in sizes])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_title(f"a step of training with Adam, {datetime.date.today()}", fontsize=10)
        axes.legend()
        axes.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(folder / f"growth-{title.split()[0]}.png", dpi=120)
        plt.close(figure)
    for worker in workers:
        worker.close()


IMPORTS = ("numpy", "minidl", "minidl.optim", "numba", "torch")
PEAK = """
import resource
step = workers.COLUMNS[sys.argv[2]](sys.argv[3], "adam", 128)
for _ in range(30):
    step()
print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def costs(models: list[str], columns: list[str], before: Path | None = None) -> None:
    """Peak memory of a process that trains the model, whole commands, start-up of the first command, and imports."""
    print("\npeak memory of the process, MB")
    for model in models:
        for column in [*columns, *(["before"] if before else [])]:
            run = [sys.executable, "-c", bench_workers.LOAD + PEAK, bench_workers.__file__, column, model]
            root, env = before if column == "before" else ROOT, os.environ | bench_workers.ENVIRONMENT.get(column, {})
            done = subprocess.run(run, cwd=root, env=env, capture_output=True, text=True, check=False)
            print(f"  {model:8} {column:14} {done.stdout.strip() or 'not installed'}")
    if os.environ.get("MINIDL_DATA"):
        whole_commands("torch" in columns, before)
    starts(before)


class Command(NamedTuple):
    """A command line, and where and how it runs. OUT stands for a fresh folder for each run."""

    run: list[str]
    root: Path = ROOT
    env: dict[str, str] = {}  # noqa: RUF012 (never modified)

    def cost(self) -> tuple[float, float] | None:
        """Seconds and peak memory in MB; None where it failed."""
        with tempfile.TemporaryDirectory() as folder:
            run = [word.replace("OUT", f"{folder}/run") for word in self.run]
            env = {name: value.replace("OUT", f"{folder}/run") for name, value in self.env.items()}
            begin = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *run], cwd=self.root, env=os.environ | env,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
            return None if status else (time.perf_counter() - begin, usage.ru_maxrss / 1024)


def table(title: str, commands: dict[str, Command], rounds: int = 5) -> None:
    """The cost of each command, measured in turns."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, command in commands.items():
            cost = command.cost()
            if cost:
                found[name].append(cost)
    print(f"\n{title}: seconds, median (and range) of {rounds}; peak memory, MB")
    for name in commands:
        if name in found:
            seconds, memory = (sorted(values) for values in zip(*found[name], strict=True))
            spread = f"{statistics.median(seconds):6.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"
            print(f"  {name:48} {spread} {statistics.median(memory):6.0f}")
        else:
            print(f"  {name:48} failed")


def whole_commands(torch: bool, before: Path | None) -> None:
    """Training on the full MNIST as a user runs it, with imports and files, beside PyTorch or an earlier checkout."""
    train = ["-m", "minidl.train", "--out", "OUT", "--model"]
    ours = {
        "mlp, 1 epoch": [*train, "mlp", "--epochs", "1"],
        "mlp, 10 epochs of Adam": [*train, "mlp", "--epochs", "10", "--opt", "adam"],
        "cnn, 1 epoch": [*train, "cnn", "--epochs", "1"],
    }
    peers = {
        "PyTorch script, 1 epoch": ["-m", "tests.peer_script", "OUT"],
        "PyTorch script, 10 epochs": ["-m", "tests.peer_script", "OUT", "10"],
    }
    commands = {name: Command(run) for name, run in (ours | (peers if torch else {})).items()}
    commands |= {f"{name}, before": Command(run, before) for name, run in ours.items()} if before else {}
    table("whole commands on the full MNIST", commands)


def starts(before: Path | None) -> None:
    """Time to the first result, with the loops not yet compiled, compiled, and disabled."""
    first = ["-m", "minidl.train", "--dataset", "mnist5k", "--epochs", "1", "--out", "OUT", "--model"]
    commands = {f"import {name}": Command(["-c", f"import {name}"]) for name in IMPORTS}
    for model in ("mlp", "cnn"):
        run, name = [*first, model], f"{model}, an epoch of mnist5k"
        commands[name] = Command(run)
        commands[f"{name}, nothing compiled yet"] = Command(run, env={"NUMBA_CACHE_DIR": "OUT-compiled"})
        commands[f"{name}, without compiled loops"] = Command(run, env={"MINIDL_NO_FAST": "1"})
        commands |= {f"{name}, before": Command(run, before)} if before else {}
    if before:
        commands["import minidl, before"] = Command(["-c", "import minidl"], before)
    table("the first command", commands)
