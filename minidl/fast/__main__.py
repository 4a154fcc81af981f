"""Compile all loops ahead of time: `python -m minidl.fast`.

numba compiles a loop on its first call and caches it on disk. So this command calls every loop once, on small networks
that together use every operation, loss and update rule.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from minidl import fast, nn, ops
from minidl.cli.command import command
from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain
from minidl.data.batches import batches
from minidl.data.splits import Examples
from minidl.evaluation import evaluate
from minidl.optim import SGD, SWATS, Adagrad, Adam, AdamW, AfterSteps, Blend, Hybrid, Optimizer, RMSprop
from minidl.tensor import Tensor
from minidl.training.models import MODELS, build_model

STEPS = 3  # of each training run

# ---- what is compiled: anything new in KERNELS (loops/kernels.py) must be added here too; a test checks it ----

RULES: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p, **more: SGD(p, 0.1, max_norm=1.0, **more),
    "momentum": lambda p, **more: SGD(p, 0.1, 0.9, **more),
    "nesterov": lambda p, **more: SGD(p, 0.1, 0.9, nesterov=True, **more),
    "adam": lambda p, **more: Adam(p, **more),
    "adamw": lambda p, **more: AdamW(p, **{"weight_decay": 0.0, **more}),
    "rmsprop": lambda p, **more: RMSprop(p, **more),
    "rmsprop, momentum": lambda p, **more: RMSprop(p, momentum=0.9, **more),
    "adagrad": lambda p, **more: Adagrad(p, **more),
    "swats": lambda p, **more: SWATS(p, switch_rtol=1e9, **more),  # switches at once
    "blend": lambda p, **more: Blend(p, steps_per_epoch=10, **more),
    "hybrid": lambda p, **more: Hybrid(p, Adam(**more), SGD(momentum=0.9, **more), AfterSteps(1), "projected"),
    "hybrid of adamw": lambda p, **more: Hybrid(p, AdamW(**more), SGD(**more), AfterSteps(1), "matched"),
}


def convolutions(rng: Generator) -> nn.Module:
    """Grey images, then few channels, then many: their memory layouts differ."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2, padding=2, rng=rng), nn.BatchNorm2d(6), nn.Tanh(), nn.AvgPool2d(2, 1, 1),
        nn.Conv2d(6, 12, 3, bias=False, rng=rng), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(12, 16, 1, rng=rng), nn.Sigmoid(), nn.AvgPool2d(3, 3), nn.Flatten(),
        nn.Linear(64, 20, rng=rng), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.2, rng=0), nn.Linear(20, 10, rng=rng),
    )  # fmt: skip


def layers_one_by_one(rng: Generator) -> nn.Module:
    """Layers that are not fused, with few channels and with many; their ReLUs stand alone."""
    return nn.Sequential(
        nn.MaxPool2d(2), nn.LeakyReLU(), nn.Tanh(), nn.Conv2d(1, 4, 3, padding=1, rng=rng), nn.GELU(), nn.GELU("tanh"),
        nn.MaxPool2d(3, 1), nn.Sigmoid(), nn.Dropout(0.1, rng=0), nn.ReLU(), nn.Conv2d(4, 8, 3, rng=rng),
        nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Tanh(), nn.Dropout(0.1, rng=0), nn.ReLU(), nn.BatchNorm2d(8),
        nn.Flatten(), nn.Linear(32, 10, bias=False, rng=rng),
    )  # fmt: skip


def squares(logits: Tensor, labels: Any) -> Tensor:
    """The other loss, mean squared error to one-hot labels, after products of matrices and of stacks of matrices."""
    one = np.eye(10, dtype=logits.dtype)
    table = Tensor(one, requires_grad=True)
    stack = ops.stack([logits @ table, logits]) @ table @ ops.stack([table, table])
    return ops.mse_loss(stack.mean(0), Tensor(one[labels]))


def everything() -> Iterator[tuple[nn.Module, Callable[..., Optimizer], Callable[..., Tensor]]]:
    """Networks, each with an optimizer and a loss."""
    rng = np.random.default_rng(0)
    for name in MODELS:
        yield build_model(name, (28, 28), 10), RULES["adam"], ops.cross_entropy
    for network in (convolutions, layers_one_by_one):
        yield network(rng), RULES["adam"], ops.cross_entropy
    for rule, decay in product(RULES.values(), (0.0, 1e-4)):
        model = build_model("linear", (28, 28), 10)
        yield model, lambda p, rule=rule, decay=decay: rule(p, weight_decay=decay), squares
    for rule in RULES.values():  # keeping each step, as in a recorded run
        yield build_model("linear", (28, 28), 10), lambda p, rule=rule: with_step(rule(p)), squares


def with_step(optimizer: Optimizer) -> Optimizer:
    """The optimizer, set to keep each step."""
    for rule in (optimizer.first, optimizer.then) if isinstance(optimizer, Hybrid) else (optimizer.active,):
        rule._keeps_step = True
    optimizer.active.keep_step()
    return optimizer


def train(model: nn.Module, rule: Callable[..., Optimizer], loss: Callable[..., Tensor], dtype: Any) -> None:
    """A few steps and an evaluation, then the operations that these networks do not use."""
    from minidl.fast.loops.team import SIZE, help_out, now  # here, because it loads numba

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (8 * STEPS, 28, 28), np.uint8), rng.integers(0, 10, 8 * STEPS)
    optimizer = rule(model.to(dtype=dtype).parameters())
    for x, y in batches(images, labels, 8, rng, dtype=dtype):
        optimizer.zero_grad()
        logits = model(x)
        loss(logits, y).backward()
        ops.count_right(logits, y)
        optimizer.step()
    if dtype == np.float32:
        evaluate(model, Examples(images, labels))
    rows = Tensor(np.ones((64, 40), dtype), requires_grad=True)  # large enough for a compiled loop
    (ops.softmax(rows) * ops.log_softmax(rows)).mean(0).sum().backward()
    rows.mean(1)
    rows[[1, 2, 1]].sum().backward()
    now()  # type: ignore[no-untyped-call] # called only after a helper was late
    help_out(np.zeros(SIZE, np.int64), 0)  # type: ignore[no-untyped-call] # called only where there is a second core


# ---- the command ----


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command("minidl.fast", lambda stop: compile_or_clear(argv))


def compile_or_clear(argv: Sequence[str] | None) -> int:
    """The command itself."""
    parser = Parser(
        prog="minidl.fast",
        description="Compile minidl's fast loops ahead of time, so no run has to (needs the extra `fast`). They are "
        "cached for this processor, and compiled again when numba or minidl changes.",
        allow_abbrev=False,
    )
    parser.add_argument("--float64", action="store_true", help="compile for double precision too")
    parser.add_argument("--clear", action="store_true", help="delete the compiled loops and exit")
    args = parser.parse_args(argv)
    if fast.version() is None:
        return complain(f"nothing to compile: {fast.why_not()}", BAD_INPUT, parser.prog)
    folder = kept_in()
    if folder is None:
        return complain("no writable folder for the compiled loops: set NUMBA_CACHE_DIR to one", FAILED, parser.prog)
    if args.clear:
        return clear(folder)
    return compile_all(folder, ["float32", "float64"] if args.float64 else ["float32"])


def compile_all(folder: Path, dtypes: Sequence[str]) -> int:
    """Call everything once; returns the exit status."""
    from minidl.fast.loops.compiler import announce

    with redirect_stderr(io.StringIO()):
        announce()  # marks the message as shown: this command prints its own
    before, start = cached(folder), time.perf_counter()
    for dtype in dtypes:
        print(f"compiling the loops for {dtype}, with {fast.version()}: about a minute", flush=True)
        for model, rule, loss in everything():
            train(model, rule, loss, np.dtype(dtype))
    now, seconds = cached(folder), time.perf_counter() - start
    kept = len(now.items() & before.items())
    print(f"{len(now) - kept} compiled in {seconds:.0f} s, {kept} were cached already; folder: {folder}")
    return DONE


def clear(folder: Path) -> int:
    """Delete numba's cache of these loops; returns the exit status."""
    found = files(folder, "nb[ci]")
    for file in found:
        file.unlink(missing_ok=True)
    print(f"{len(found)} files removed from {folder}")
    return DONE


def kept_in() -> Path | None:
    """The folder that numba caches these loops in, and no others; None where it is not writable."""
    from minidl.fast.loops.team import now

    dispatcher: Any = now
    folder = dispatcher.stats.cache_path
    return Path(folder) if os.access(folder, os.W_OK) else None


def cached(folder: Path) -> dict[Path, int]:
    """The compiled loops, and when each was compiled: those of older sources are replaced."""
    return {file: file.stat().st_mtime_ns for file in files(folder, "nbc")}


def files(folder: Path, ending: str) -> list[Path]:
    """The files with this extension."""
    return list(folder.glob(f"*.{ending}"))


if __name__ == "__main__":
    sys.exit(main())
