"""Same seed, same bits: for any number of threads, in any thread, under any load, whatever else the process does.

Each test is a scenario that trains one network in several ways and compares the weights to the last bit. It runs in a
process of its own, once with this machine's OpenBLAS kernels and once with each of some older families: what cuts a
product elsewhere, or has another number of threads do it, shows with some of them and not with others.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_features__
from safetensors.numpy import load_file

from minidl import Tensor, nn, ops, optim
from minidl.backend import Backend
from minidl.data import write_idx
from minidl.data.batches import batches
from minidl.data.splits import Examples, Splits
from minidl.trainer import Trainer, evaluate

ROOT = Path(__file__).parents[1]
X86, ARM64 = (__cpu_features__.get(feature) for feature in ("AVX2", "ASIMD"))
# of OpenBLAS's kernels: this machine's, and older ones that it can compute with
OLDER = ["Haswell", "Sandybridge"] if X86 else ["ARMV8", "CORTEXA53"] if ARM64 else []
FAMILIES = ["", *OLDER]
Steps = Iterator[str]  # the weights' hash after every step


def numbers(n: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n)


def mlp() -> nn.Module:
    """Its first layer is split without loops too: into three parts of 218 outputs and one of 216."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 870, rng=0), nn.ReLU(), nn.Linear(870, 128, rng=1), nn.ReLU(),
        nn.Linear(128, 10, rng=2),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1, rng=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 128, rng=2), nn.ReLU(), nn.Linear(128, 10, rng=3),
    )  # fmt: skip


def digest(model: nn.Module) -> str:
    return hashed(model.state_dict())


def hashed(arrays: dict[str, Any]) -> str:
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


def adam(params: Any) -> Any:
    return optim.Adam(params, lr=1e-3, max_norm=1.0)


def training(make: Callable[[], nn.Module], rule: Callable[[Any], Any] = adam, dtype: Any = np.float32) -> Steps:
    """A bare loop, without a Trainer, that never ends. Batches of 100: parts of unequal size are among them."""
    model = make().to(dtype=dtype)
    optimizer = rule(model.parameters())
    images, labels = numbers(400)
    while True:
        for x, y in batches(images, labels, 100, dtype=dtype):
            optimizer.zero_grad()
            ops.cross_entropy(model(x), y).backward()
            optimizer.step()
            yield digest(model)


def steps(n: int, *args: Any) -> list[str]:
    run = training(*args)
    return [next(run) for _ in range(n)]


def in_a_thread(n: int, *args: Any) -> list[str]:
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.extend(steps(n, *args)))
    thread.start()
    thread.join()
    return results


@contextmanager
def beside(make: Callable[[], nn.Module]) -> Iterator[None]:
    """Meanwhile another thread trains too."""
    begun, enough = threading.Event(), threading.Event()

    def train() -> None:
        for _ in training(make):
            begun.set()
            if enough.is_set():
                return

    thread = threading.Thread(target=train)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        enough.set()
        thread.join()


# ---- scenarios: each returns what must all be equal ----


def a_network_evaluated_between_the_steps_of_another() -> list[list[str]]:
    other, (images, labels) = cnn(), numbers(300, seed=1)
    run, between = training(mlp), []
    for _ in range(5):
        between.append(next(run))
        evaluate(other, Examples(images, labels))
    return [steps(5, mlp), between, steps(5, mlp)]


def alone_or_beside_another_training_or_in_another_thread() -> list[list[str]]:
    found = [steps(4, cnn), in_a_thread(4, cnn)]
    for other in (cnn, mlp):
        with beside(other):
            found += [steps(4, cnn), in_a_thread(4, cnn)]
    return [*found, in_a_thread(4, cnn)]


def a_perceptron_beside_another_training() -> list[list[str]]:
    found = [in_a_thread(5, mlp), steps(5, mlp)]
    with beside(cnn):
        found += [steps(5, mlp), in_a_thread(5, mlp)]
    return found


def two_trainings_in_turns() -> list[list[str]]:
    first, second, turns = training(cnn), training(mlp), []
    for _ in range(4):
        turns += [next(first), next(second)]
    alone = [step for pair in zip(steps(4, cnn), steps(4, mlp), strict=True) for step in pair]
    return [turns, alone]


def a_busy_machine() -> list[list[str]]:
    quiet = steps(4, cnn) + steps(5, mlp)
    burn = [sys.executable, "-c", "import time\nwhile time.process_time() < 20: pass"]
    burners = [subprocess.Popen(burn) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        return [quiet, steps(4, cnn) + steps(5, mlp)]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def a_trainer_or_a_bare_loop() -> list[list[str]]:
    (images, labels), found = numbers(400), []
    model = cnn()
    examples = Examples(images, labels)
    trainer = Trainer(model, adam(model.parameters()), Splits(examples, examples, examples, 10, (28, 28)), 100, seed=3)
    found.append([digest(model) for _ in trainer.steps()])
    model = cnn()
    optimizer, rng = adam(model.parameters()), np.random.default_rng([3, 1, 0])
    found.append([])
    for x, y in batches(images, labels, 100, rng):
        optimizer.zero_grad()
        ops.cross_entropy(model(x), y).backward()
        optimizer.step()
        found[-1].append(digest(model))
    return found


def any_threads_option() -> list[list[str]]:
    """`python -m minidl.train` with each number of threads, one after the other."""
    from minidl.train import main

    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for part, n in (("train", 600), ("t10k", 100)):
            images, labels = numbers(n)
            write_idx(folder / "data" / f"{part}-images-idx3-ubyte", images)
            write_idx(folder / "data" / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
        for threads in (["--threads", "1"], ["--threads", "2"], ["--threads", "4"], []):
            weights = []
            for model in ("mlp", "cnn"):
                out = folder / f"{model}{''.join(threads)}"
                args = ["--dataset", str(folder / "data"), "--epochs", "1", "--model", model, "--opt", "adam"]
                assert main([*args, "--out", str(out), *threads]) == 0
                weights.append(hashed(load_file(out / "checkpoint.safetensors")))  # Adam's vectors too
            found.append(weights)
    return found


def everything() -> list[list[str]]:
    """What a process with another limit of BLAS has to give again; rules that multiply vectors are among it."""
    swats = steps(3, mlp, lambda params: optim.SWATS(params, max_norm=1.0), np.float64)
    x, y = (Tensor(np.random.default_rng(i).normal(size=(500, 400)), requires_grad=True) for i in range(2))
    product = x @ y.T
    product.backward(np.cos(product.data))
    products = hashed({"x @ y.T": product.data, "x": x.grad, "y": y.grad})
    return [[*steps(5, mlp), *steps(4, cnn), *swats, products]]


SCENARIOS = {
    f.__name__: f
    for f in (
        a_network_evaluated_between_the_steps_of_another, alone_or_beside_another_training_or_in_another_thread,
        a_perceptron_beside_another_training, two_trainings_in_turns, a_busy_machine, a_trainer_or_a_bare_loop,
        any_threads_option,
    )
}  # fmt: skip


# ---- tests ----


def play(scenario: str, family: str, **env: str) -> str:
    """The scenario's last line, in a process of its own: the hash of what it found, all of it equal."""
    done = with_kernels(family, "-m", "tests.test_same_bits", scenario, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def with_kernels(family: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"OPENBLAS_CORETYPE": family} if family else {}), **env}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_same_bits(scenario: str, family: str) -> None:
    play(scenario, family, OPENBLAS_NUM_THREADS="2")


@pytest.mark.parametrize("family", FAMILIES)
def test_any_limit_of_blas(family: str) -> None:
    alone = "import numpy as np; np.ones((256, 784)) @ np.ones((784, 100))"
    if with_kernels(family, "-c", alone).returncode < 0:
        pytest.skip(f"OpenBLAS 0.3.34 on Zen 4 and 5 crashes in float64 with the kernels for {family}: its issue 6026")
    found = {n: play("everything", family, OPENBLAS_NUM_THREADS=n) for n in ("1", "2", "4")}
    assert len(set(found.values())) == 1, found


def test_memory_taken_for_speed_never_shows_in_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = steps(2, cnn) + steps(2, mlp)

    def spoilt(self: Backend, shape: tuple[int, ...], dtype: Any) -> Any:
        array = np.empty(shape, dtype)
        array.view(np.uint8).fill(255)  # NaNs, and booleans that are neither
        return array

    monkeypatch.setattr(Backend, "empty", spoilt)
    assert steps(2, cnn) + steps(2, mlp) == expected


if __name__ == "__main__":
    results = (SCENARIOS | {"everything": everything})[sys.argv[1]]()
    for i, result in enumerate(results):
        print(i, *(value[:8] for value in result))
    assert all(result == results[0] for result in results), "not the same bits"
    print(hashlib.sha256("".join(results[0]).encode()).hexdigest())
