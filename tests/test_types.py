"""Right programs, as users with a type checker write them, are right to mypy too, and it knows what comes of a call."""

import ast
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from minidl.backend import Array
from minidl.ops_conv import Size
from minidl.optim import Schedule
from minidl.optim.optimizer import Rate
from minidl.optim.rule import Params
from minidl.tensor import Dims
from tests.test_readme import README, code

ROOT = Path(__file__).parent.parent

LOOP = """
import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

from minidl import Tensor, batches, load_mnist, nn, no_grad, ops, seed, split
from minidl.backend import Array
from minidl.optim import SGD, Adam, Hybrid, AfterSteps, Optimizer


@no_grad()
def accuracy(net: nn.Module, x: NDArray[np.uint8], y: NDArray[np.int64]) -> float:
    return sum(int((net(xb).argmax(1) == yb).sum()) for xb, yb in batches(x, y, 500)) / len(y)


@seed(0)
def network(width: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10)).train()


def optimizer_of(net: nn.Module, how: str) -> Optimizer:
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 1e-4},
        {"params": [p for p in net.parameters() if p.ndim == 1], "lr": 1e-2},
    ]
    if how == "hybrid":
        return Hybrid(groups, first=Adam(), then=SGD(lr=0.1), switch=AfterSteps(9))
    return Adam(groups) if how == "groups" else SGD(net.named_parameters(), lr=0.1)


data, net = split(load_mnist("mnist5k")), network(width=16)
optimizer = optimizer_of(net, "hybrid")
for x, labels in batches(*data.train, batch_size=64, rng=np.random.default_rng(0), drop_last=True):
    logits = net(x)
    loss = ops.cross_entropy(logits.reshape((len(labels), -1)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
assert_type(logits, Tensor)
assert_type(accuracy(net, *data.val), float)
assert_type(logits > 0, Array)
"""

MODULE = """
import numpy as np
from typing_extensions import assert_type

from minidl import Tensor, nn


class Encoder(nn.Module):
    def __init__(self, latent: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Tanh())
        self.mean, self.spread = nn.Linear(64, latent), nn.Linear(64, latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mean(h), self.spread(h)


class Attention(nn.Module):
    scale: nn.Parameter

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.ones(1, np.float32))
        self.heads, self.query, self.out = heads, nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        n, t, c = x.shape
        q = self.query(x).view((n, t, self.heads, -1)).permute((0, 2, 1, 3))
        scores = q @ q.transpose(-2, -1) * self.scale
        scores += 0 if mask is None else mask
        return self.out((scores.softmax(-1) @ q).permute(0, 2, 1, 3).reshape(x.shape))


encoder = Encoder(2).to(dtype=np.float64).eval()
assert_type(encoder, Encoder)
assert_type(encoder(np.zeros((1, 28, 28))), tuple[Tensor, Tensor])
assert_type(Encoder(2).load("weights.safetensors").mean(Tensor([1.0])), Tensor)
assert_type(Attention(8, 2)(encoder.mean.weight, mask=None), Tensor)
"""

RULE = """
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from minidl import Tensor
from minidl.optim import SGD, AfterSteps, Hybrid, Rule

Array = NDArray[np.float32]


class Lion(Rule):
    name, vectors = "lion", ("m",)

    def __init__(
        self, params: Iterable[Tensor] | None = None, lr: float | Callable[[int], float] = 3e-4, *, b: float = 0.9
    ) -> None:
        super().__init__(params, lr)
        self.b = b

    def update(self) -> None:
        print(len(self.flat.params), self.flat.w.dtype)
        super().update()

    def rule(self, g: Array, p: Array, lr: float, m: Array) -> None:
        p[...] = -lr * np.sign(self.b * m + (1 - self.b) * g)
        m[...] = self.b * m + (1 - self.b) * g


def lion_then_sgd(params: Iterable[Tensor]) -> Hybrid:
    return Hybrid(params, first=Lion(lr=1e-4), then=SGD(lr=0.1, momentum=0.9), switch=AfterSteps(100))
"""

TRAINER = """
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

from minidl import Examples, Observer, Tensor, Trainer, evaluate, load_run, nn, predict
from minidl.optim import Adam
from minidl.teach import show


class Early(Observer):
    def after_epoch(self, record: dict[str, Any]) -> bool:
        return bool(record["train_loss"] < 0.1)


def train(rows: list[list[list[int]]], labels: list[int], folder: Path) -> nn.Sequential:
    examples = Examples(np.array(rows, np.uint8), labels)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    trainer = Trainer(net, Adam(net.parameters()), (examples.images, labels), folder=folder)
    history = trainer.fit(3, Early(), verbose=False)
    assert_type(history[-1], dict[str, Any])
    assert_type(history["val_loss"], list[Any])
    assert_type(evaluate(net, (Tensor(examples.images), labels)).loss, float)
    show.digits([image for image in examples.images[:3]], labels[:3])
    return net


def best(folder: str, images: NDArray[np.uint8]) -> list[int]:
    run = load_run(folder)
    run.fit(2, [Early()], validate=False, verbose=False)
    assert_type(run.trainer, Trainer)
    return [int(k) for k in run.predict(images).argmax(1) + predict(run.model, images).argmax(1)]
"""


@pytest.mark.parametrize("kind", [Array, Dims, Params, Rate, Schedule, Size])
def test_a_name_of_a_type_may_be_joined_with_none(kind):
    """As in `def rule(self, g: Array, v: Array | None = None)`, which Python evaluates in a user's file."""
    assert type(None) in typing.get_args(kind | None)


@pytest.mark.extra("mypy")
def test_mypy_finds_no_fault_in_right_programs(tmp_path):
    package = tmp_path / "found" / "minidl"  # in a clone minidl.optim and minidl.data lie beside it
    package.mkdir(parents=True)
    for part in [*(ROOT / "minidl").iterdir(), ROOT / "optim", ROOT / "data"]:
        (package / part.name).symlink_to(part)
    programs = {"readme": code(README, "backward"), "loop": LOOP, "module": MODULE}
    for name, text in (programs | {"rule": RULE, "trainer": TRAINER}).items():
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "--cache-dir=c"]
    files = sorted(path.name for path in tmp_path.glob("*.py"))
    there = os.environ | {"MYPYPATH": str(package.parent)}
    answer = subprocess.run([*command, *files], cwd=tmp_path, env=there, capture_output=True, text=True)
    assert answer.stdout == f"Success: no issues found in {len(files)} source files\n", answer.stdout + answer.stderr


def test_a_block_is_a_context_manager_to_pylint_too():
    """It looks at decorators alone, and took `with no_grad():` for an error, E1129."""
    decorated = [
        [ast.unparse(each) for each in function.decorator_list]
        for file in (ROOT / "minidl").rglob("*.py")
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
    ]
    blocks = [names for names in decorated if "block" in names]
    assert len(blocks) > 4
    assert all(names == ["block", "contextmanager"] for names in blocks)
