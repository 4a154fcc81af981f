"""The race to 99 % on one card: `MINIDL_DATA=FOLDER python -m tests.race_gpu --seeds 5`.

One epoch of MNIST by minidl, by PyTorch's captured CUDA graph and by PyTorch eager, with the same network, settings and
order of images (see race.py), each in a process of its own: PyTorch's two modes don't get along in one. When the clock
starts, the data are on the card, standardized for PyTorch, and the kernels are compiled, by an earlier run that does
not count. The network, the optimizer and the capture are made while it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from minidl.backend import get_backend
from minidl.data import load_mnist
from minidl.data.batches import statistics, steps_per_epoch
from minidl.data.splits import split
from minidl.optim import Adam
from minidl.optim.schedule import onecycle
from minidl.trainer import Trainer
from minidl.training.models import build_model, standards
from tests.race import mean_interval
from tests.sizes import ROOT

RATE, BETAS, BATCH = 0.01, (0.7, 0.9), 256
LIMIT, MARGIN = 0.11, 0.0005  # seconds, and how far below PyTorch minidl may end
Runs = Iterator[tuple[float, float]]  # test accuracy, seconds


def minidl_runs(folder: str, seeds: list[int], device: str) -> Runs:
    backend = get_backend(device)
    data = load_mnist(name=folder)

    def wait() -> None:
        if hasattr(backend.xp, "cuda"):
            backend.xp.cuda.Device().synchronize()

    for seed in seeds:
        splits = split(data, 0, seed, device)
        mean, std = statistics(splits.train.images)
        wait()
        start = time.perf_counter()
        model = build_model("race", splits.image_size, splits.classes, seed)
        for layer in standards(model):
            layer.load_state_dict({"mean": np.asarray(mean), "std": np.asarray(std)})
        rates = onecycle(RATE, steps_per_epoch(len(splits.train), BATCH))
        trainer = Trainer(model.to(device), Adam(model.parameters(), rates, betas=BETAS), splits, BATCH, seed)
        trainer.train_to(1, validate=False)
        wait()
        seconds = time.perf_counter() - start
        yield trainer.evaluate().accuracy, seconds


def torch_runs(folder: str, seeds: list[int], device: str, captured: bool) -> Runs:
    import torch

    from tests.race_torch import network, read

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    where = "cuda" if device == "gpu" else device
    wait: Callable[[], Any] = torch.cuda.synchronize if where == "cuda" else lambda: None
    train, test = (read(folder, f"{part}-images-idx3").to(where).float() / 255 for part in ("train", "t10k"))
    train_labels, test_labels = (read(folder, f"{part}-labels-idx1").to(where).long() for part in ("train", "t10k"))
    mean, std = train.mean(), train.std()
    train, test = ((images[:, None] - mean) / std for images in (train, test))
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(train))
        order = order[np.random.default_rng([seed, 1, 0]).permutation(len(train))]
        batches = torch.from_numpy(order).to(where).split(BATCH)
        torch.manual_seed(seed)
        wait()
        start = time.perf_counter()
        model = network().to(where)
        rate = torch.tensor(RATE, device=where) if captured else RATE  # a graph reads it where it lies
        optimizer = torch.optim.Adam(model.parameters(), rate, BETAS, fused=True, capturable=captured)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, RATE, total_steps=len(batches), cycle_momentum=False
        )  # fmt: skip
        step = torch_step(model, optimizer)
        if captured:
            step = torch_captured(step, optimizer, train[batches[0]], train_labels[batches[0]])
        for batch in batches:
            step(train[batch], train_labels[batch])
            cycle.step()
        wait()
        seconds = time.perf_counter() - start
        with torch.no_grad():
            guesses = torch.cat([model(images).argmax(1) for images in test.split(1000)])
        yield (guesses == test_labels).double().mean().item(), seconds


def torch_step(model: Any, optimizer: Any) -> Callable[[Any, Any], None]:
    from torch.nn.functional import cross_entropy

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def torch_captured(step: Callable[[Any, Any], None], optimizer: Any, x: Any, y: Any) -> Callable[[Any, Any], None]:
    """The step as one CUDA graph: three as usual on a stream of its own, as PyTorch asks, and the fourth captured."""
    import torch

    x, y, done = x.clone(), y.clone(), 0
    side, graph = torch.cuda.Stream(), None

    def captured(new_x: Any, new_y: Any) -> None:
        nonlocal graph, done
        done += 1
        if done <= 3 or new_x.shape != x.shape:  # the last batch is smaller
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                step(new_x, new_y)
            torch.cuda.current_stream().wait_stream(side)
            return
        x.copy_(new_x)
        y.copy_(new_y)
        if graph is None:
            optimizer.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step(x, y)
        graph.replay()

    return captured


COLUMNS: dict[str, Callable[[str, list[int], str], Runs]] = {
    "minidl": minidl_runs,
    "torch graph": lambda folder, seeds, device: torch_runs(folder, seeds, device, captured=True),
    "torch eager": lambda folder, seeds, device: torch_runs(folder, seeds, device, captured=False),
}


def report(runs: dict[str, list[tuple[float, float]]]) -> list[str]:
    """A line for each column, and how minidl stands beside the limits."""
    lines, means = [], {}
    for column, found in runs.items():
        means[column], low, high = mean_interval([100 * accuracy for accuracy, _ in found])
        times = [seconds for _, seconds in found]
        lines.append(
            f"{column:>11}  {means[column]:.3f} % (95 % interval {low:.3f} to {high:.3f}, {len(found)} seeds), "
            f"{median(times):.3f} s ({min(times):.3f} to {max(times):.3f})"
        )
    if "minidl" in runs:
        own = median(seconds for _, seconds in runs["minidl"])
        lines.append(f"minidl takes {'at most' if own <= LIMIT else 'MORE THAN'} {LIMIT} s")
        for column in (name for name in runs if name != "minidl"):
            less = means["minidl"] - means[column]
            verdict = "no further" if less >= -100 * MARGIN else "FURTHER"
            lines.append(f"minus {column}: {less:+.3f} points, {verdict} than {100 * MARGIN:.2f} below")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.race_gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each (default: 5)")
    parser.add_argument("--device", default="gpu", metavar="D", help="gpu, or cpu to try the program (default: gpu)")
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS, help="who runs")
    parser.add_argument("--one", choices=COLUMNS, help="print the runs of this column as JSON")
    args = parser.parse_args()
    if args.seeds < 2 and not args.one:
        parser.error(f"--seeds must be at least 2, for an interval, got {args.seeds}")
    folder = os.environ.get("MINIDL_DATA")
    if not folder:
        parser.error("set MINIDL_DATA to a folder that holds MNIST's four files")
    if args.one:
        _, *runs = COLUMNS[args.one](folder, [10_000, *range(args.seeds)], args.device)  # the first does not count
        print(json.dumps(runs))
        return
    found = {}
    for column in args.columns:
        words = ["-m", "tests.race_gpu", "--one", column, "--seeds", str(args.seeds), "--device", args.device]
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env={**os.environ, "MINIDL_DATA": str(Path(folder).resolve())},
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{column}: {done.stderr}")
        found[column] = json.loads(done.stdout.splitlines()[-1])
        print(f"{column:>11}  {json.dumps(found[column])}", flush=True)
    print("\n".join(report(found)))


if __name__ == "__main__":
    main()
