"""The second hour with minidl: what a student tried with networks of her own, point by point, and slips that are told.

The numbers are those of the points that she wrote down. Training here is short; whether it is right, others prove.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import os
import pydoc
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import (
    Observer,
    Splits,
    Tensor,
    Trainer,
    backend,
    evaluate,
    gradcheck,
    load_mnist,
    load_run,
    nn,
    ops,
    seed,
    split,
)  # fmt: skip
from minidl.data.splits import Examples
from minidl.evaluation import predict
from minidl.optim import (
    SGD,
    SWATS,
    Adam,
    AfterEpochs,
    AllOf,
    Crossing,
    ExponentialLR,
    Formula,
    Hybrid,
    Line,
    LinearLR,
    OneCycleLR,
    Plateau,
    RMSprop,
    Rule,
    parse_schedule,
    schedule,
)  # fmt: skip
from minidl.program.describe import RULES, describe_optimizer, make_optimizer
from minidl.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parent.parent
DATA = load_mnist("mnist5k")


def few(n: int = 200, val: int = 100) -> Splits:
    return split(DATA, counts=(n, val))


class Net(nn.Module):
    def __init__(self) -> None:
        self.hidden, self.out = nn.Linear(784, 16), nn.Linear(16, 10, init="xavier")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x.flatten(1)).relu())


def net(n: int = 0) -> Net:
    with seed(n):
        return Net()


def trainer(data: Any = None, model: nn.Module | None = None, **how: Any) -> Trainer:
    model = model or net()
    return Trainer(
        model, how.pop("optimizer", None) or Adam(model.parameters()), data or few(), **{"batch_size": 50, **how}
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- 1, 2: the way in ----


def test_1_help_begins_with_a_program_that_runs(tmp_path: Path) -> None:
    """Ten lines of code, from data to a saved file."""
    page = pydoc.plaintext.document(minidl).splitlines()
    assert any("Trainer(" in line for line in page[:16])
    code = inspect.cleandoc(minidl.__doc__ or "").split("\n\n    ", 1)[1].split("\n\nA network")[0]
    program = "\n".join(line.removeprefix("    ") for line in ("    " + code).splitlines())
    lines = [line for line in program.splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 10
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.replace("fit(5)", "fit(1)")], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "net.safetensors").exists()
    assert (tmp_path / "runs" / "first" / "checkpoint.safetensors").exists()


def test_1_every_name_is_at_one_place() -> None:
    for name in minidl.__all__:
        assert getattr(minidl, name) is not None
    assert {"Trainer", "evaluate", "load_mnist", "load_run", "split", "seed", "nn"} <= set(minidl.__all__) & set(
        dir(minidl)
    )
    with pytest.raises(AttributeError, match=r"minidl has no 'trainr': did you mean Trainer\?"):
        minidl.trainr  # noqa: B018
    signature = list(inspect.signature(Trainer).parameters)
    assert signature[:6] == ["model", "optimizer", "data", "batch_size", "seed", "folder"]


@pytest.mark.parametrize("module", [minidl, minidl.nn, minidl.ops, minidl.optim, minidl.data, minidl.teach])
def test_1_completion_lists_public_names_and_no_imports(module: Any) -> None:
    """What Tab offers in a notebook."""
    names = dir(module)
    assert set(module.__all__) <= set(names)
    assert not {"Any", "TYPE_CHECKING", "annotations", "missing", "np", "os", "sys"} & set(names)
    assert all(getattr(module, name) is not None for name in names)


def test_1_completion_of_a_network_lists_what_can_be_typed() -> None:
    assert {"forward", "save"} <= set(names := dir(nn.Sequential(nn.ReLU(), nn.ReLU())))
    assert all(name.isidentifier() for name in names)


def test_1_import_minidl_is_enough_for_figures_replays_and_studies(tmp_path: Path) -> None:
    code = (
        "import minidl; print(minidl.teach.show.curves, minidl.teach.draw, minidl.trace.Recorder, minidl.study.QUICK)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
    with pytest.raises(AttributeError, match=r"minidl.teach has no 'shows'"):
        minidl.teach.shows  # noqa: B018


def test_1_a_decorated_function_in_a_changed_file_is_the_new_one() -> None:
    """IPython's %autoreload writes the new code, and the new attributes, into the functions of the old file."""

    def old(x: Any) -> Any:
        return x * 2 if isinstance(x, Tensor) else 2

    def new(x: Any) -> Any:
        return x * 3 if isinstance(x, Tensor) else 3

    def twice(n: int) -> Any:
        yield from (n, n)

    def thrice(n: int) -> Any:
        yield from (n, n, n)

    for decorator in (minidl.no_grad(), seed(0), backend.same_bits, backend.accelerated):
        kept, now = decorator(old), decorator(new)
        assert kept(1) == 2
        kept.__code__, kept.__dict__ = now.__code__, now.__dict__
        assert kept(1) == 3
        assert kept(Tensor(2.0)).item() == kept(x=Tensor(2.0)).item() == 6
    kept, now = minidl.no_grad()(twice), minidl.no_grad()(thrice)
    kept.__code__, kept.__dict__ = now.__code__, now.__dict__
    assert list(kept(1)) == [1, 1, 1]


def test_2_a_data_set_by_its_name_or_folder(tmp_path: Path) -> None:
    for file in (ROOT / "data" / "embedded").glob("*ubyte*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load_mnist(str(tmp_path)).sha256 == load_mnist("mnist5k").sha256 == DATA.sha256


def test_2_damaged_digits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minidl.data import DataError, mnist, write_idx

    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    arrays = [
        DATA.train_images,
        DATA.train_labels.astype(np.uint8),
        DATA.test_images,
        DATA.test_labels.astype(np.uint8),
    ]
    arrays[1] = np.concatenate([[(arrays[1][0] + 1) % 10], arrays[1][1:]]).astype(np.uint8)
    for name, array in zip(names, arrays, strict=True):
        write_idx(tmp_path / f"{name}-ubyte", array)
    assert load_mnist(str(tmp_path)).train_labels[0] != DATA.train_labels[0], "as a folder of your own it is taken"
    monkeypatch.setattr(mnist, "EMBEDDED", tmp_path)
    with pytest.raises(DataError, match="damaged"):
        load_mnist("mnist5k")


@pytest.mark.mnist
def test_2_a_folder_with_a_damaged_file_of_mnist(tmp_path: Path, mnist_root: Path) -> None:
    from minidl.data import DataError, write_idx

    for file in mnist_root.glob("*ubyte*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert len(load_mnist(str(tmp_path)).train_labels) == 60_000
    (next(tmp_path.glob("t10k-labels*"))).unlink()
    labels = load_mnist("mnist", mnist_root).test_labels.astype(np.uint8)
    labels[17] = (labels[17] + 1) % 10
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels)
    with pytest.raises(DataError, match="t10k-labels is not MNIST's, by its hash, though the others are"):
        load_mnist(str(tmp_path))


# ---- 3: fit says what it does ----


def test_3_fit_prints_a_line_for_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    one = trainer(threads=1)
    one.fit(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines] == ["epoch   1", "epoch   2"]
    assert "val loss" in lines[0]
    record = one.fit(2, verbose=False)  # so many more, as in Keras
    assert [r["epoch"] for r in record] == [1, 2, 3, 4]
    assert capsys.readouterr().out == ""
    assert len(repr(record)) < 150
    straight = trainer()
    straight.train_to(4)
    assert same(straight.model, one.model)


# ---- 4: evaluate, save, load, print ----


def test_4_evaluate_save_load(tmp_path: Path) -> None:
    one, data = trainer(), few()
    one.fit(1, verbose=False)
    found = evaluate(one.model, data.test)
    logits = one.model.eval()(Tensor(data.test.images[:, None] / np.float32(255)))
    assert found.accuracy == np.mean(logits.numpy().argmax(1) == data.test.labels)
    assert evaluate(one.model, tuple(data.test)) == one.evaluate() == found
    one.model.save(tmp_path / "net.safetensors")
    again = Net().load(tmp_path / "net.safetensors")
    assert same(again, one.model)
    np.testing.assert_allclose(predict(again, data.test.images), ops.softmax(logits).numpy(), rtol=1e-5, atol=1e-7)
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(ValueError, match="not a safetensors file"):
        Net().load(tmp_path / "x")
    with pytest.raises(KeyError, match=r"net.safetensors holds 4 tensors .*another network's, .*this Linear.*missing"):
        nn.Linear(2, 2).load(tmp_path / "net.safetensors")


def test_4_print_shows_shapes_and_counts() -> None:
    text = str(net())
    assert text.splitlines()[0] == "Net, 12,730 parameters"
    assert re.search(r"hidden +Linear\(784, 16\) +16x784, 16 +12,560", text)
    assert repr(nn.Conv2d(1, 2, 3, bias=False)).endswith("bias=False)")
    assert repr(nn.Linear(3, 2)) == "Linear(3, 2)"


def test_4_print_shows_a_layer_in_each_of_its_places() -> None:
    act, twice = nn.ReLU(), nn.Linear(8, 8)
    text = str(nn.Sequential(nn.Linear(4, 8), act, twice, act, nn.Sequential(twice)))
    first, *rows = [" ".join(line.split()) for line in text.splitlines()]
    assert first == "Sequential, 112 parameters"
    assert rows[2:] == [
        "2 Linear(8, 8) 8x8, 8 72", "3 ReLU(), the same as 1", "4 Sequential", "4.0 Linear(8, 8), the same as 2"
    ]  # fmt: skip


# ---- 5: pixels that nothing scales ----


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint16"])
def test_5_unscaled_images_are_told_once_per_trainer(dtype: str) -> None:
    data = few()
    raw = Examples(data.train.images.astype(dtype), data.train.labels)
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"the images range from 0 to 255 .*x / 255") as told:
            trainer(raw).fit(2, verbose=False)
        assert len(told) == 1
        assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="and are not scaled"):
        evaluate(net(), (raw.images, raw.labels))


def test_5_scaled_and_standardized_images_are_left_alone() -> None:
    data = few()
    x = data.train.images / np.float32(255)
    wide = (x - x.mean()) * 100  # far, but on both sides of 0
    for images in (data.train.images, x, (x - 0.13) / 0.31, wide.astype(np.float32), x[:, None], x > 0.5):
        trainer(Examples(images, data.train.labels)).fit(1, verbose=False)  # warnings are errors in these tests


# ---- 6: what is printed ----


def test_6_reprs_are_short() -> None:
    one = trainer()
    one.fit(1, verbose=False)
    things = (DATA, one.splits, one.splits.train, one, one.metrics, net(), one.evaluate())
    for thing in things:
        assert len(repr(thing)) < 400, type(thing)
        assert len(repr(thing).splitlines()) <= 3
    assert repr(DATA).startswith(
        "mnist5k (embedded in the package): 4,000 training, 1,000 test images 28x28, 10 classes"
    )


# ---- 7, 15: layers in a list ----


@pytest.mark.parametrize("wrap", [list, tuple, set, lambda layers: dict(enumerate(layers)), lambda layers: [[*layers]]])
def test_7_layers_that_nobody_would_find(wrap: Any) -> None:
    class Lost(nn.Module):
        def __init__(self) -> None:
            self.hidden = wrap([nn.Linear(784, 32, rng=0)])
            self.out = nn.Linear(32, 10, rng=1)

    with pytest.raises(TypeError, match=r"hidden is a \w+ with a Linear in it.*nn.ModuleList"):
        list(Lost().parameters())
    assert re.search(r"hidden +a \w+: its layers are not found", str(Lost()))


# ---- 8: rules of your own ----


class Rebinds(Rule):
    name = "rebinds"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p = -lr * g  # noqa: F841


class Stands(Rule):
    name = "stands"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = 0


class Forgets(Rule):
    name, vectors = "forgets", ("m",)

    def rule(self, g: Any, p: Any, lr: float, m: Any) -> None:
        m = 0.9 * m + g
        p[...] = -lr * m


def test_8_a_rule_that_moves_nothing() -> None:
    model = net()
    with pytest.raises(TypeError, match=r"Rebinds.rule left p unchanged.*p\[\.\.\.\] ="):
        trainer(model=model, optimizer=Rebinds(model.parameters(), 0.1)).fit(1, verbose=False)
    with pytest.warns(UserWarning, match="Stands.rule made a first step of zeros") as told:
        trainer(model=model, optimizer=Stands(model.parameters(), 0.1)).fit(1, verbose=False)
    assert len(told) == 1
    with pytest.warns(UserWarning, match=r"left its vector m unchanged.*m\[\.\.\.\]") as told:
        trainer(model=model, optimizer=Forgets(model.parameters(), 0.1)).fit(1, verbose=False)
    assert len(told) == 1


def test_8_a_rule_that_was_mended_wrongly_is_told_again() -> None:
    """The cell that has the class runs once more, over the same network."""
    model = net()
    for _ in range(2):

        class Cell(Stands):
            pass

        with pytest.warns(UserWarning, match=r"Cell.rule made a first step of zeros") as told:
            trainer(model=model, optimizer=Cell(model.parameters(), 0.1)).fit(1, verbose=False)
        assert len(told) == 1


def moved(make: Any, frozen: bool = False, n: int = 4) -> list[str]:
    """What a rule of one's own is warned of in two steps, on one tensor and on a frozen one before it."""
    params = [Tensor(np.ones(k, np.float32), requires_grad=True) for k in (3, n)]
    params[0].requires_grad = not frozen
    optimizer = make(params, 0.1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            for p in params[frozen:]:
                p.grad = np.arange(1, p.size + 1, dtype=np.float32)
            optimizer.step()
    return [str(each.message) for each in told]


class Counts(Rule):
    name, calls = "counts", 0

    def rule(self, g: Any, p: Any, lr: float) -> None:
        self.calls += 1
        p[...] = -lr * g / self.calls


class CountsInDict(Rule):
    name = "counts-in-dict"

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.kept = {"calls": 0}

    def rule(self, g: Any, p: Any, lr: float) -> None:
        self.kept["calls"] += 1
        p[...] = -lr * g / self.kept["calls"]


class Normalized(Rule):
    name = "normalized"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = -lr * g / np.linalg.norm(g)


class NormalizedWhole(Rule):
    name = "normalized-whole"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = -lr * g / np.linalg.norm((self.whole or self).flat.g)


class Noisy(Rule):
    name = "noisy"

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.rng = np.random.default_rng(0)

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = -lr * (g + self.rng.standard_normal(len(g)))


class Adan(Rule):
    """Xie et al. 2022, without its decay: v, the mean of differences of gradients, is 0 in the first step."""

    name, vectors = "adan", ("m", "v", "n", "old")

    def rule(self, g: Any, p: Any, lr: float, m: Any, v: Any, n: Any, old: Any) -> None:
        d = g - old if self.t > 1 else 0 * g
        m[...] = 0.98 * m + 0.02 * g
        v[...] = 0.92 * v + 0.08 * d
        n[...] = 0.99 * n + 0.01 * (g + 0.92 * d) ** 2
        old[...] = g
        p[...] = -lr * (m + 0.92 * v) / (np.sqrt(n) + 1e-8)


class Doubles(Rule):
    name, formula = "doubles", Formula(Line("p", "-lr * g"))

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = -2 * lr * g


class TurnsOn(Rule):
    """SGD in place of signs, layer by layer: a vector that update() fills, from the third step on."""

    name, vectors = "turns-on", ("sgd",)

    def update(self) -> None:
        if self.t > 2:
            self.sgd[:3] = 1
        super().update()

    def rule(self, g: Any, p: Any, lr: float, sgd: Any) -> None:
        p[...] = -lr * np.where(sgd > 0, g, np.sign(g))


@pytest.mark.parametrize("frozen", [False, True])
def test_8_a_rule_that_is_right_on_small_networks_alone(frozen: bool) -> None:
    """It is called for blocks of the vector, for parts of it where some parameters rest, and may have a formula too."""
    for make, says in (
        (Counts, r"Counts.rule has set self.calls: .* only numbers, strings and generators. Count with self.t"),
        (CountsInDict, r"CountsInDict.rule has set self.kept: "),
        (
            Normalized,
            r"Normalized.rule gives some weights a different step when it is given only those: .*flat.g is the whole",
        ),
        (Doubles, r"Doubles.rule and Doubles.formula give different first steps: -0.\d+ and -0.\d+ for one weight"),
        (Forgets, r"Forgets.rule left its vector m unchanged"),
    ):
        (said,) = moved(make, frozen)
        assert re.search(says, said), said
    assert moved(Noisy, frozen) == []
    assert moved(Adan, frozen) == []
    assert moved(TurnsOn, frozen) == []
    assert moved(NormalizedWhole, frozen, n=70_000) == []


class OfSelf(Rule):
    name, vectors = "of-self", ("m",)

    def rule(self, g: Any, p: Any, lr: float, m: Any) -> None:
        self.m[...] = 0.9 * self.m + g
        p[...] = -lr * self.m


class OwnArray(Rule):
    name = "own-array"

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.kept = [np.zeros(7, np.float32)]

    def rule(self, g: Any, p: Any, lr: float) -> None:
        self.kept[0] *= 0.9
        self.kept[0] += g
        p[...] = -lr * self.kept[0]


class Twice(Rule):
    name, vectors = "twice", ("m",)

    def rule(self, g: Any, p: Any, lr: float, m: Any) -> None:
        m[...] = 0.9 * m + g
        self.flat.w -= lr * m  # type: ignore[union-attr]
        p[...] = 0


class IntoGradient(Rule):
    name, vectors = "into-gradient", ("m",)

    def rule(self, g: Any, p: Any, lr: float, m: Any) -> None:
        g += 0.9 * m  # in the first step, 0
        m[...] = g
        p[...] = -lr * g


OUTSIDE: dict[str, Any] = {}


class Outside(Rule):
    name = "outside"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        OUTSIDE["calls"] = OUTSIDE.get("calls", 0) + 1
        p[...] = -lr * g / OUTSIDE["calls"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (OfSelf, ["OfSelf.rule fails when it is given only half of the weights: .* m and not self.m"]),
        (OwnArray, ["OwnArray.rule has set self.kept", "fails when it is given only half"]),
        (
            Twice,
            [
                "writes into the weights: the step goes into p",
                "first step of zeros",
                "fails when it is given only half",
            ],
        ),
        (IntoGradient, [r"IntoGradient.rule changes g, which is the user's .grad.*g = 2 \* g"]),
    ],
)
def test_8_a_look_at_the_first_step_changes_nothing(kind: Any, says: list[str]) -> None:
    """Here a momentum of 0.9, kept in ways that no page tells of: it was taken up to three times in that step."""
    w = Tensor(np.ones(7, np.float32), requires_grad=True)
    optimizer, m, wanted = kind([w], 0.1), 0.0, 1.0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for k in range(1, 4):
            w.grad = np.full(7, k, np.float32)
            optimizer.step()
            optimizer.zero_grad()
            m = 0.9 * m + k
            wanted -= 0.1 * m
    assert w.data == pytest.approx(wanted, abs=1e-6)
    assert len(told) == len(says)
    for words, each in zip(says, told, strict=True):
        assert re.search(words, str(each.message)), each.message


def decays(decayed: Any) -> Any:
    def rule(self: Any, g: Any, p: Any, lr: float) -> None:
        p[...] = -lr * g

    return type("Own", (Rule,), {"name": "own", "rule": rule, "decayed": decayed})


def in_place(self: Any, w: Any, g: Any, lr: float) -> Any:
    w *= 1 - lr * self.weight_decay
    return g


def rebound(self: Any, w: Any, g: Any, lr: float) -> Any:
    w = w * (1 - lr * self.weight_decay)
    return g


def own_number(self: Any, w: Any, g: Any, lr: float) -> Any:
    w *= 1 - lr * 0.1
    return g


def test_8_a_decay_that_does_nothing() -> None:
    for decayed, number, wanted, says in (
        (in_place, 0.5, 0.85, []),
        (in_place, 0.0, 0.9, []),
        (rebound, 0.5, 0.9, ["Own.decayed changes neither the weights nor the gradient"]),
        (own_number, 0.0, 0.9, ["Own.decayed is not called, because weight_decay is 0"]),
        (own_number, 0.5, 0.89, []),
    ):
        w = Tensor(np.ones(3), requires_grad=True)
        optimizer = decays(decayed)([w], 0.1, weight_decay=number)
        w.grad = np.ones(3)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            optimizer.step()
        assert w.data == pytest.approx(wanted)
        assert [str(each.message)[: len(words)] for each, words in zip(told, says, strict=True)] == says
    w.grad = np.ones(3)
    with pytest.raises(TypeError, match="decayed returns None"):
        decays(lambda self, w, g, lr: None)([w], 0.1, weight_decay=0.1).step()


def test_8_a_decay_that_is_in_the_update() -> None:
    """As in LAMB, where it is a part of the step whose norm counts: its `decayed` only returns the gradient."""

    class LAMB(Rule):
        name = "lamb"

        def rule(self, g: Any, p: Any, lr: float) -> None:
            p[...] = -lr * g

        def decayed(self, w: Any, g: Any, lr: float) -> Any:
            return g

        def update(self) -> None:
            p = self.keep_step()
            super().update()
            assert self.flat is not None
            self.flat.w -= self.rate * self.weight_decay * (self.flat.w - p)

    w = Tensor(np.ones(3), requires_grad=True)
    optimizer = LAMB([w], 0.1, weight_decay=0.5)
    w.grad = np.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert w.data == pytest.approx(1 - 0.1 - 0.1 * 0.5)


@pytest.mark.parametrize("base", [SGD, RMSprop])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_8_vectors_beside_those_of_a_rule_whose_momentum_decides_them(base: Any, momentum: float) -> None:
    """They are what the class says, not what SGD makes of its momentum; and the rule has to take them."""
    names = ("v",) if base is SGD else ("s", "v")
    content: dict[str, Any] = {"name": "slow", "vectors": (*names, "slow")}

    def rule(self: Any, g: Any, p: Any, lr: float, slow: Any, **state: Any) -> None:
        base.rule(self, g, p, lr, **state)
        slow += p

    w, plain = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    optimizer = type("Slow", (base,), {**content, "rule": rule})([w], 0.1, momentum=momentum)
    other = base([plain], 0.1, momentum=momentum)
    for k in range(3):
        for each, tensor in ((optimizer, w), (other, plain)):
            tensor.grad = np.full(3, 1.0 + k)
            each.step()
    assert w.data == pytest.approx(plain.data, abs=1e-15)
    assert optimizer.slow == pytest.approx(w.data - 1)
    assert set(optimizer.state_dict()["vectors"]) == {*names, "slow"}
    with pytest.raises(TypeError, match="names 'slow', which its rule does not take"):
        type("Slow", (base,), content)([w])


@pytest.mark.parametrize("name", ["rate", "p"])
def test_8_a_number_under_a_name_that_every_rule_has(name: str) -> None:
    """As the rate of a noise, or Padam's power p: each step would put its own there, and the rule read that one."""

    class Own(Rule):
        name = "own"

        def rule(self, g: Any, p: Any, lr: float) -> None:
            p[...] = -lr * getattr(self, name) * g

    w = Tensor(np.ones(3), requires_grad=True)
    optimizer = Own([w], 0.1)
    setattr(optimizer, name, 0.5)
    w.grad = np.ones(3)
    with pytest.raises(TypeError, match=f"Own sets self.{name}, which every rule has: give it another name"):
        optimizer.step()


def test_8_a_rule_that_is_written_anew_is_looked_at_anew() -> None:
    """As in a notebook: the same network and name, another class; and each block is not, for that takes copies."""
    w = Tensor(np.ones(200_000, np.float32), requires_grad=True)
    calls = []

    def right(self: Any, g: Any, p: Any, lr: float) -> None:
        calls.append(len(g))
        p[...] = -lr * g

    def wrong(self: Any, g: Any, p: Any, lr: float) -> None:
        p = -lr * g  # noqa: F841

    w.grad = np.ones(200_000, np.float32)
    type("Mine", (Rule,), {"name": "mine", "rule": right})([w], 0.1).step()
    assert w.data == pytest.approx(0.9)
    assert calls.count(3_392) == 1  # the last block
    w.grad = np.ones(200_000, np.float32)
    with pytest.raises(TypeError, match="left p unchanged"):
        type("Mine", (Rule,), {"name": "mine", "rule": wrong})([w], 0.1).step()


def test_8_what_a_rule_keeps_outside_itself_is_told() -> None:
    (said,) = moved(Outside)
    assert said.startswith("Outside.rule gives a different step when it is called again with the same arrays")


@pytest.mark.filterwarnings("error")
def test_8_a_vector_that_starts_from_the_weights() -> None:
    class Anchored(Rule):
        name, vectors = "anchored", ("start",)

        def bind(self, flat: Any) -> None:
            super().bind(flat)
            self.start[...] = flat.w  # type: ignore[attr-defined]

        def rule(self, g: Any, p: Any, lr: float, start: Any) -> None:
            p[...] = -lr * (g + start)

    params = [Tensor(np.full(2, k, np.float32), requires_grad=True) for k in (0, 1)]  # a bias may be 0
    optimizer = Anchored(
        [{"params": [p], "weight_decay": decay} for p, decay in zip(params, (0, None), strict=True)], 0.1
    )
    for p in params:
        p.grad = np.ones(2, np.float32)
    optimizer.step()
    assert [p.data[0] for p in params] == pytest.approx([-0.1, 0.8])


def test_8_a_norm_of_each_group() -> None:
    """A group for each tensor: groups with the same options stay apart."""

    class Unit(Rule):
        name = "unit"

        def rule(self, g: Any, p: Any, lr: float) -> None:
            flat: Any = self.flat
            p[...] = -lr * g / np.linalg.norm(flat.g)

    params = [Tensor(np.full(k, k, np.float32), requires_grad=True) for k in (2, 3, 4)]
    optimizer = Unit([{"params": [p]} for p in params], 0.1)
    for p in params:
        p.grad = np.ones(p.size, np.float32)
    optimizer.step()
    assert [p.data[0] for p in params] == pytest.approx([k - 0.1 / k**0.5 for k in (2, 3, 4)])


class Trust(Rule):
    """LARS without momentum (You et al. 2017), with the norm where some of the weights have moved already."""

    name = "trust"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = -lr * np.linalg.norm((self.whole or self).flat.w) * g  # type: ignore[union-attr]


def test_8_a_norm_of_the_weights_is_taken_before_the_step() -> None:
    (said,) = moved(Trust)
    assert re.search(r"Trust.rule reads the weights in flat.w, .* in update\(\), before super", said)


class OwnScale(Rule):
    name = "own-scale"

    def __init__(self, params: Any = None, lr: Any = 0.1, scale: float = 0.5, **common: Any) -> None:
        super().__init__(params, lr, **common)
        self.scale = scale

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = -self.scale * lr * g


class OwnRate(Rule):
    name = "own-rate"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = -self.lr * g


def test_8_the_rate_that_a_rule_works_with() -> None:
    """An option named scale was a factor on schedules too; and in the rule self.lr is already the next step's."""
    said = {}
    for kind in (OwnScale, OwnRate):
        w = Tensor(np.ones(3), requires_grad=True)
        optimizer = kind([w], lambda k: (0.3, 0.1)[k] if k < 2 else 0.0)
        w.grad = np.ones(3)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            optimizer.step()
        said[kind] = w.data[0], [str(each.message) for each in told]
    assert said[OwnScale] == (pytest.approx(0.85), [])
    assert re.match("OwnRate.rule reads self.lr, the rate of the next step", *said[OwnRate][1])


def changed(**content: Any) -> Any:
    def rule(self: Any, g: Any, p: Any, lr: float, m: Any) -> None:
        m[...] = 0.9 * m + g
        p[...] = -lr * m

    return type("Own", (Rule,), {"name": "own", "vectors": ("m",), "rule": rule, **content})


def binds(make: Any) -> Any:
    def bind(self: Any, flat: Any) -> None:
        Rule.bind(self, flat)
        self.m = make(flat)

    return changed(bind=bind)


def named_t(self: Any, params: Any = None, lr: float = 0.1, t: float = 1.0) -> None:
    Rule.__init__(self, params, lr)
    self.t = t  # a temperature


def swapped(self: Any, w: Any, grad: Any, lr: float, m: Any) -> None:
    m[...] = 0.9 * m + grad
    w -= lr * m


def whole(self: Any, g: Any, p: Any, lr: float, m: Any) -> None:
    self.m[...] = 0.9 * self.m + g
    p[...] = -lr * self.m


@pytest.mark.parametrize(
    ("kind", "n", "says"),
    [
        (
            binds(lambda flat: np.zeros(len(flat.w), int)),
            4,
            r"Own.m is int64 \(4,\), but a vector must match the weights",
        ),
        (binds(lambda flat: 0.0), 4, r"Own.m is a float, but a vector must match the weights, float32 \(4,\)"),
        (binds(lambda flat: flat.w), 4, "Own.m and the weights share memory"),
        (changed(advance=lambda self: None), 4, r"Own.advance has not counted the step: .*super\(\).advance\(\)"),
        (changed(rule=swapped), 4, "Own.rule writes into its first array, the gradient"),
        (changed(rule=whole), 70_000, "Own.rule fails with 65,536 of the weights: .* m and not self.m"),
        (changed(rule=lambda self, g, p, lr, m, w: None), 4, "takes 'w', but is not given the weights: .* w_old"),
        (changed(vectors=("m", "w")), 4, "names 'w', which every rule has already"),
        (changed(rate=0.5), 4, "Own has a rate of its own, but every rule has one already"),
        (changed(__init__=named_t), 4, "Own has a t of its own, but every rule has one already"),
    ],
)
def test_8_a_rule_that_can_not_go_on(kind: Any, n: int, says: str) -> None:
    w = Tensor(np.ones(n, np.float32), requires_grad=True)
    w.grad = np.ones(n, np.float32)
    with pytest.raises((TypeError, ValueError), match=says):
        kind([w], 0.1).step()


class Subtracts(Rule):
    name = "subtracts"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p -= lr * g  # as from the weights


class Roots(Rule):
    name = "roots"

    def rule(self, g: Any, p: Any, lr: float) -> None:
        p[...] = lr * np.sqrt(-1 - g * g)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_8_a_rule_that_makes_nan() -> None:
    model = net()
    with pytest.raises(TypeError, match=r"Subtracts.rule computes its step from p.*write p\[\.\.\.\] = -lr"):
        trainer(model=model, optimizer=Subtracts(model.parameters(), 0.1)).fit(1, verbose=False)
    with pytest.raises(ValueError, match=r"Roots.rule made a first step of NaN .* rate 0.1: .*root"):
        trainer(model=model, optimizer=Roots(model.parameters(), 0.1)).fit(1, verbose=False)


def test_8_a_rule_in_the_second_phase() -> None:
    model = net()
    hybrid = Hybrid(model.parameters(), Adam(), Rebinds(lr=0.1), switch=AfterEpochs(1))
    with pytest.raises(TypeError, match="left p unchanged"):
        trainer(model=model, optimizer=hybrid).fit(2, verbose=False)


def test_8_a_rule_without_name_or_vectors() -> None:
    def rule(self: Any, g: Any, p: Any, lr: float) -> None:
        p[...] = -lr * g

    def with_m(self: Any, g: Any, p: Any, lr: float, m: Any) -> None:
        p[...] = -lr * g

    def no_rate(self: Any, g: Any, p: Any, m: Any) -> None:
        p[...] = -0.1 * m

    def m_first(self: Any, m: Any, g: Any, p: Any, lr: float) -> None:
        p[...] = -lr * m

    slips: list[tuple[dict[str, Any], str]] = [
        ({"rule": rule}, "Own has no name: write name = 'own'"),
        ({"rule": rule, "name": "x" * 101}, "Own.name has 101 characters, a run's record has room for 100: shorten"),
        ({"name": "own", "rule": with_m}, r"takes 'm', which vectors does not name: write vectors = \('m',\)"),
        ({"name": "own", "vectors": ("m",), "rule": rule}, r"names 'm', which its rule does not take"),
        ({"name": "own", "vectors": ("m",), "rule": no_rate}, "must take self, g, p and lr, .* not self, g, p, m"),
        ({"name": "own", "vectors": ("m",), "rule": m_first}, "must take self, g, p and lr, .* not self, m, g, p, lr"),
        (
            {"name": "own", "vectors": "momentum", "rule": with_m},
            r"the string 'momentum': write vectors = \('momentum',\)",
        ),
    ]
    for content, words in slips:
        own: Any = type("Own", (Rule,), content)
        with pytest.raises(TypeError, match=words):
            own(net().parameters(), 0.1)
        with pytest.raises(TypeError, match=words):
            Hybrid(net().parameters(), Adam(), own(lr=0.1), switch=AfterEpochs(1))


# ---- 9: pictures ----


def test_9_a_picture_in_a_script(tmp_path: Path) -> None:
    program = """
from minidl import load_mnist
from minidl.teach import show
d = load_mnist("mnist5k")
figure = show.digits(d.test_images[:10], d.test_labels[:10], save="a.png")
figure.savefig("b.png")
show.curves({"loss": [3, 2, 1]}, xlabel="epoch", save="c.png")
show.digits(d.test_images[:1])
"""
    (tmp_path / "mine.py").write_text(program)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "mine.py:8: UserWarning: there is no screen to show this picture on: write it to a file" in done.stderr
    from matplotlib.image import imread

    for name in "abc":
        assert imread(tmp_path / f"{name}.png")[..., :3].std() > 0.02, "a blank picture"


def test_9_epochs_are_whole_and_count_from_one() -> None:
    from matplotlib.figure import Figure

    from minidl.teach import show

    def ticks(figure: Any) -> list[float]:
        figure.canvas.draw()
        return [tick for axes in figure.axes for tick in axes.get_xticks()]

    drawn = show.curves({"loss": [3, 2, 1]}, xlabel="epoch", figure=Figure())
    assert drawn.axes[0].lines[0].get_xdata()[0] == 1
    one = trainer()
    record = show.curves(one.fit(3, verbose=False), figure=Figure())
    assert all(tick == int(tick) for tick in [*ticks(drawn), *ticks(record)])
    assert list(record.axes[1].lines[1].get_ydata()) == [r["val_accuracy"] for r in one.metrics]


def test_9_a_lesson_run_as_a_script_saves_its_pictures(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    lesson = ROOT / "tutorials" / "01_bytes_to_pictures.py"
    done = subprocess.run([sys.executable, lesson], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = [Path(path) for path in re.findall(r"^picture: (.*)$", done.stdout, re.MULTILINE)]
    assert said
    assert sorted(said) == sorted(path.relative_to(tmp_path) for path in (tmp_path / "pictures").iterdir())


# ---- 10: checkpoints made in Python ----


def test_10_a_run_of_a_trainer_is_a_run(tmp_path: Path) -> None:
    one = trainer(folder=tmp_path / "run")
    one.fit(2, verbose=False)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["model"], config["opt"], config["dataset"], config["epochs"]) == ("Net", "adam", "mnist5k", 2)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_accuracy"] == one.evaluate().accuracy
    assert (tmp_path / "run" / "curves.png").exists()
    with pytest.raises(ValueError, match=r"already holds a run.*load_run"):
        trainer(folder=tmp_path / "run")
    found = load_run(tmp_path / "run", model=Net)
    assert same(found.model, one.model)
    assert found.summary["test_accuracy"] == summary["test_accuracy"]
    assert list(found.metrics) == list(one.metrics)
    np.testing.assert_array_equal(found.predict(DATA.test_images[:9]), one.predict(DATA.test_images[:9]))
    assert len(repr(found)) < 300
    with pytest.raises(ValueError, match=r"is Net, a class of your own: give it, load_run\(folder, model=Net\)"):
        load_run(tmp_path / "run")
    with pytest.raises(ValueError, match="do not fit"):
        load_run(tmp_path / "run", model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))


def test_10_what_can_be_made_again_is_not_asked_for(tmp_path: Path) -> None:
    with seed(1):
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2, bias=False), nn.BatchNorm2d(3, affine=False), nn.LeakyReLU(0.2),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(108, 10)),
        )  # fmt: skip
    steps = 200 // 50 * 6
    rate = schedule.warmup(schedule.cosine(1e-3, steps), 3)
    hybrid = Hybrid(
        model.parameters(), Adam(lr=rate, betas=(0.8, 0.99)), SGD(lr=0.01, momentum=0.9),
        switch=Plateau(patience=1) | AfterEpochs(2), lr_after="matched",
    )  # fmt: skip
    twin = copy.deepcopy((model, hybrid))
    one = trainer(model=model, optimizer=hybrid, folder=tmp_path / "run", seed=3)
    one.fit(2, verbose=False)
    found = load_run(tmp_path / "run")
    found.fit(2, [Observer()], verbose=False)  # as trainer.fit takes it
    straight = trainer(model=twin[0], optimizer=twin[1], seed=3)
    straight.fit(4, verbose=False)
    assert same(found.model, straight.model)
    assert found.trainer.optimizer.switch_event == straight.optimizer.switch_event is not None


@pytest.mark.parametrize("switch", [None, AfterEpochs(2), AfterEpochs(1) & (lambda p: p.step >= 6)])
def test_10_swats_goes_on_with_its_tolerance(tmp_path: Path, switch: Any) -> None:
    """Loaded in its Adam phase, it had the default one, which is almost never met, and never switched."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, rng=0))
    swats = SWATS(model.parameters(), switch_rtol=0.5, switch_eps=1e-7)
    swats.switch = swats.switch if switch is None else switch
    twin = copy.deepcopy((model, swats))
    straight = trainer(model=twin[0], optimizer=twin[1])
    straight.fit(4, verbose=False)
    one = trainer(model=model, optimizer=swats, folder=tmp_path / "run")
    next(one.steps())
    one.save()
    if isinstance(switch, AllOf):
        with pytest.raises(ValueError, match=r"the switch's condition.*is a function of your own.*optimizer=lambda"):
            load_run(tmp_path / "run").fit(4)
        return
    found = load_run(tmp_path / "run")
    assert found.trainer.optimizer.phase == "adam"
    found.fit(4, verbose=False)
    assert found.trainer.optimizer.switch_event == straight.optimizer.switch_event is not None
    assert same(found.model, straight.model)


@pytest.mark.parametrize("name", RULES)
def test_10_each_argument_of_a_rule_is_in_its_description(name: str) -> None:
    kind, other = RULES[name], {"betas": (0.7, 0.8), "nesterov": True, "amsgrad": True, "steps_per_epoch": 7}
    names = [p for p in inspect.signature(kind).parameters if p not in ("params", "common")]
    more = {"max_norm": 3.0, **({"weight_decay": 0.03} if "weight_decay" not in names else {})}
    rule = kind(None, **{each: other.get(each, 0.011 + i / 997) for i, each in enumerate(names)}, **more)
    again = make_optimizer(json.loads(json.dumps(describe_optimizer(rule))), None)
    assert repr(again) == repr(rule)
    assert {key: str(value) for key, value in vars(again).items()} == {
        key: str(value) for key, value in vars(rule).items()
    }


def test_10_own_rules_conditions_and_arrays_are_asked_for(tmp_path: Path) -> None:
    class Lion(Rule):
        name, vectors = "lion", ("m",)

        def rule(self, g: Any, p: Any, lr: float, m: Any) -> None:
            p[...] = -lr * np.sign(0.9 * m + 0.1 * g)
            m[...] = 0.99 * m + 0.01 * g

    data, model = few().train, net()
    trainer(data, model, optimizer=Lion(model.parameters(), 1e-3), folder=tmp_path / "run").fit(1, verbose=False)
    with pytest.raises(ValueError, match=r"arrays of your own: give them, load_run\(folder, data="):
        load_run(tmp_path / "run", model=Net).fit(1)
    with pytest.raises(ValueError, match="trained on other data"):
        load_run(tmp_path / "run", model=Net, data=few(199).train).fit(1)
    with pytest.raises(ValueError, match=r"the optimizer is Lion, a class of your own.*optimizer=lambda"):
        load_run(tmp_path / "run", model=Net, data=data).fit(1)
    found = load_run(tmp_path / "run", Net, data, optimizer=lambda params: Lion(params, 1e-3))
    found.fit(1, verbose=False)
    model = net()
    straight = trainer(data, model, optimizer=Lion(model.parameters(), 1e-3))
    straight.fit(2, verbose=False)
    assert same(found.model, straight.model)


def test_10_what_is_set_on_a_trainer_midway_is_part_of_the_run(tmp_path: Path) -> None:
    """The size of the batches, the seed, another optimizer, other data: the folder goes on as the program would."""
    one = trainer(few(), folder=tmp_path / "run")
    one.fit(1, verbose=False)
    one.batch_size, one.seed = np.int64(25), 3
    one.optimizer = minidl.optim.SGD(one.model.parameters(), lr=0.05, momentum=0.9)
    one.fit(1, verbose=False)
    found = load_run(tmp_path / "run", model=Net)
    found.fit(1, verbose=False)
    one.run = None  # the other writes the folder now
    one.fit(1, verbose=False)
    assert [record["step"] for record in found.metrics] == [4, 12, 20]
    assert same(one.model, found.model)
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (settings["batch_size"], settings["seed"], settings["opt"]) == (25, 3, "sgd")

    found.trainer.splits = few(100)  # fewer digits of the same set
    found.fit(1, verbose=False)
    again = load_run(tmp_path / "run", model=Net)
    assert len(again.trainer.splits.train) == 100
    again.trainer.splits = trainer((np.ones((50, 28, 28), np.float32), np.arange(50) % 10)).splits
    again.fit(1, verbose=False)
    with pytest.raises(minidl.training.checkpoint.CheckpointError, match="arrays of your own: give them"):
        load_run(tmp_path / "run", model=Net).fit(1, verbose=False)


def test_10_the_command_line_takes_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"from minidl import Tensor, nn\n\n\n{inspect.getsource(Net)}")
    one = trainer(folder=tmp_path / "run")
    one.fit(1, verbose=False)
    from PIL import Image

    Image.fromarray(DATA.test_images[0]).save(tmp_path / "digit.png")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)

    for words in (("minidl.predict", "run", "digit.png"), ("minidl.train", "--resume", "run")):
        asked = command(*words)
        assert asked.returncode == 2
        assert "is Net, a class of your own" in asked.stderr
        assert "--model" in asked.stderr
    told = command("minidl.predict", "run", "digit.png", "--model", "mine.py:Net")
    assert told.stdout.startswith(f"digit.png: {one.predict(DATA.test_images[0]).argmax()} "), told.stderr
    on = command(
        "minidl.train",
        "--resume",
        "run",
        "--model",
        "mine.py:Net",
        "--epochs",
        "3",
        "--out",
        "new",
        "--trace",
        "t.html",
    )
    assert on.returncode == 0, on.stderr
    assert (tmp_path / "t.html").exists()
    one.fit(2, verbose=False)
    assert same(load_run(tmp_path / "new", model=Net).model, one.model)
    found = load_run(tmp_path / "new", model=Net)
    assert found.save(tmp_path / "copy") == tmp_path / "copy"  # a folder, as Trainer.save's
    assert same(load_run(tmp_path / "copy", model=Net).model, one.model)


def test_10_weights_for_pytorch_and_back(tmp_path: Path) -> None:
    torch, files = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")

    def make(nn: Any) -> Any:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(2704, 10))

    with seed(0):
        ours = make(nn)
    trainer(model=ours).fit(1, verbose=False)
    ours.save(tmp_path / "net.safetensors")
    theirs = make(torch.nn).eval()
    theirs.load_state_dict(files.load_file(tmp_path / "net.safetensors"))
    x = DATA.test_images[:20, None] / np.float32(255)
    np.testing.assert_allclose(theirs(torch.tensor(x)).detach().numpy(), ours.eval()(Tensor(x)).numpy(), atol=1e-5)
    files.save_file(theirs.state_dict(), tmp_path / "back.safetensors")
    assert same(make(nn).load(tmp_path / "back.safetensors"), ours)


# ---- 11: what PyTorch has ----


@pytest.mark.pytorch
def test_11_layers_and_losses_beside_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(0, 2, (6, 5))
    pairs = [
        (nn.LeakyReLU(0.1), torch.nn.LeakyReLU(0.1)),
        (nn.LeakyReLU(), torch.nn.LeakyReLU()),
        (nn.GELU(), torch.nn.GELU()),
        (nn.GELU("tanh"), torch.nn.GELU("tanh")),
        (nn.Softmax(dim=1), torch.nn.Softmax(dim=1)),
        (nn.BatchNorm1d(5, affine=False), torch.nn.BatchNorm1d(5, affine=False).double()),
    ]
    for ours, theirs in pairs:
        a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours.to(dtype=np.float64)(a), theirs(b)
        np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-14)
        weights = np.random.default_rng(1).normal(size=x.shape)
        (y * weights).sum().backward()
        (z * torch.tensor(weights)).sum().backward()
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-13)
        assert list(ours.state_dict()) == list(theirs.state_dict())
    labels = np.array([0, 1, 2, 3, 4, 0])
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(torch.tensor(x), torch.tensor(labels))
    assert nn.CrossEntropyLoss(label_smoothing=0.1)(Tensor(x), labels).item() == pytest.approx(loss.item(), rel=1e-12)
    assert nn.MSELoss()(Tensor(x), x * 2).item() == pytest.approx(np.mean(x**2), rel=1e-12)


def test_11_gelu_and_leaky_relu_have_the_right_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    for layer in (nn.LeakyReLU(0.3), nn.GELU(), nn.GELU("tanh"), nn.Softmax()):
        assert gradcheck(layer, [x])
    with_scipy = ops.gelu(x).numpy()
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    np.testing.assert_allclose(ops.gelu(x).numpy(), with_scipy, rtol=1e-14)


@pytest.mark.pytorch
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_11_schedulers_beside_pytorch(rule: str) -> None:
    torch = pytest.importorskip("torch")
    theirs_of = torch.optim.lr_scheduler
    cases: list[tuple[Any, dict[str, Any]]] = [
        ("LinearLR", {}),
        ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 10}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("OneCycleLR", {"max_lr": 0.2, "total_steps": 20, "base_momentum": 0.8, "max_momentum": 0.9}),
        (
            "OneCycleLR",
            {"max_lr": 0.2, "epochs": 4, "steps_per_epoch": 5, "anneal_strategy": "linear", "three_phase": True},
        ),
    ]
    make: Any = {"LinearLR": LinearLR, "ExponentialLR": ExponentialLR, "OneCycleLR": OneCycleLR}
    for name, arguments in cases:
        w, v = torch.ones(3, dtype=torch.float64, requires_grad=True), Tensor(np.ones(3), requires_grad=True)
        theirs = torch.optim.SGD([w], 0.1, momentum=0.9) if rule == "sgd" else torch.optim.Adam([w], 0.1)
        ours: Any = SGD([v], 0.1, momentum=0.9) if rule == "sgd" else Adam([v], 0.1)
        theirs_schedule = getattr(theirs_of, name)(theirs, **arguments)
        ours_schedule = make[name](ours, **arguments)
        for k in range(19):
            assert ours_schedule.get_last_lr() == pytest.approx(theirs_schedule.get_last_lr(), rel=1e-12), (name, k)
            for optimizer, loss in ((theirs, (w**2).sum()), (ours, (v * v).sum())):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            theirs_schedule.step()
            ours_schedule.step()
        np.testing.assert_allclose(v.numpy(), w.detach().numpy(), rtol=1e-10)
    with pytest.raises(TypeError, match="phases with their own learning rates"):
        ExponentialLR(Hybrid(net().parameters(), Adam(), SGD(lr=0.1), switch=AfterEpochs(1)), 0.9)


def test_11_schedules_on_the_command_line() -> None:
    linear = parse_schedule("linear", lr=0.4, total_steps=8)
    assert [linear(k) for k in (0, 4, 8)] == [0.4, 0.2, 0.0]
    exponential = parse_schedule("exponential:gamma=0.5", lr=0.4, total_steps=8, steps_per_epoch=2)
    assert [exponential(k) for k in (0, 1, 2, 5)] == [0.4, 0.4, 0.2, 0.1]


def test_11_names_of_initial_weights() -> None:
    for old, new in (("he", "kaiming"), ("glorot", "xavier")):
        with pytest.raises(ValueError, match=f"{old} is {new} now"):
            nn.Linear(2, 2, init=old)
    drawn = np.random.default_rng(0).normal(0, (2 / 300) ** 0.5, (200, 300))
    np.testing.assert_array_equal(nn.Linear(300, 200, rng=0).weight.data, drawn.astype(np.float32))


def test_11_images_without_a_channel_axis() -> None:
    with pytest.raises(ValueError, match=r"conv2d: x \(2, 28, 28\).*x\[:, None\]"):
        nn.Conv2d(1, 2, 3, rng=0)(Tensor(DATA.test_images[:2] / np.float32(255)))


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 2, 3, rng=0), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.BatchNorm2d(1)])
def test_11_every_layer_of_images_says_so(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"x\[:, None\]"):
        layer(Tensor(DATA.test_images[:2] / np.float32(255)))


# ---- 12: a finished run can be trained on ----


def test_12_a_finished_run_of_the_command_line_is_trained_on(tmp_path: Path) -> None:
    from minidl.train import main

    how = ["--dataset", "mnist5k", "--model", "underfit", "--opt", "adam", "--batch-size", "400"]
    assert main([*how, "--epochs", "2", "--out", str(tmp_path / "a")]) == 0
    assert main([*how, "--epochs", "3", "--out", str(tmp_path / "b")]) == 0
    run = load_run(tmp_path / "a")
    run.fit(1, verbose=False)
    assert same(run.model, load_run(tmp_path / "b").model)
    assert load_run(tmp_path / "a").summary["epochs"] == 3


# ---- 13, 15: conditions, commands ----


def test_13_a_lambda_is_called_by_its_place() -> None:
    model = net()
    hybrid = Hybrid(model.parameters(), Adam(), SGD(lr=0.01), switch=lambda progress: progress.step >= 3)
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    trainer(model=model, optimizer=hybrid).fit(1, verbose=False)
    assert hybrid.verdict().endswith(f": <lambda in line {line} of test_student.py>")


def test_15_python_m_minidl_names_the_commands() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "minidl"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert minidl.__version__ in done.stdout
    for name in ("train", "predict", "tune", "study", "trace"):
        assert f"python -m minidl.{name} " in done.stdout


def test_15_python_m_minidl_train_is_no_run_that_succeeded(capsys: pytest.CaptureFixture[str]) -> None:
    from minidl.__main__ import main

    assert main(["train", "--opt", "adam"]) == 2
    assert main(["--epochs", "3"]) == 2
    told = capsys.readouterr()
    assert not told.out
    assert "minidl: error: python -m minidl has no argument train: use python -m minidl.train\n" in told.err
    assert main(["--help"]) == 0


# ---- 16: threads ----


def test_16_threads() -> None:
    from minidl.fast.threads import threads

    seen = []

    class Counts(Observer):
        def after_step(self, step: Any) -> None:
            seen.append(threads())

    trainer(threads=1).fit(1, [Counts()], verbose=False)
    assert set(seen) == {1}
    seen.clear()
    trainer().fit(1, [Counts()], verbose=False, threads=1)
    assert set(seen) == {1}
    with minidl.use_threads(1):
        assert threads() == 1


# ---- Ctrl-C ----


class PressesCtrlC(Observer):
    def __init__(self, at: int) -> None:
        self.at = at

    def after_step(self, step: Any) -> None:
        if step.number == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("how", ["signal", "raised"])
def test_ctrl_c_saves_and_goes_on_with_the_same_bits(how: str, tmp_path: Path) -> None:
    class Raises(Observer):
        def after_step(self, step: Any) -> None:
            if step.number == 6:
                raise KeyboardInterrupt

    one = trainer(folder=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        one.fit(3, [PressesCtrlC(6) if how == "signal" else Raises()], verbose=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (one.progress.step, one.progress.epoch) == (6, 1)
    found = load_run(tmp_path / "run", model=Net)
    found.fit(2, verbose=False)
    one.run = None  # the other writes the folder now
    one.fit(2, verbose=False)
    straight = trainer()
    straight.fit(3, verbose=False)
    assert same(straight.model, one.model)
    assert same(straight.model, found.model)
    for record, wanted in zip(found.metrics, straight.metrics, strict=True):
        assert {**record, "seconds": 0} == {**wanted, "seconds": 0}


# ---- seeds ----


def test_seed_gives_each_layer_a_stream_of_its_own() -> None:
    with seed(0):
        a, b = nn.Linear(5, 5), nn.Linear(5, 5)
    with seed(0):
        c, given, d = nn.Linear(5, 5), nn.Linear(5, 5, rng=7), nn.Linear(5, 5)
    assert same(a, c)
    assert same(b, d)
    assert same(given, nn.Linear(5, 5, rng=7))
    assert not same(a, b)
    with seed(1):
        assert not same(a, nn.Linear(5, 5))
    assert not same(nn.Linear(5, 5), nn.Linear(5, 5)), "nothing is left of the block"
    with pytest.raises(ValueError, match="whole number"), seed(-1):
        pass
    with contextlib.suppress(RuntimeError), seed(0):
        raise RuntimeError
    assert not same(nn.Linear(5, 5), a)


def test_the_command_line_draws_own_networks_by_its_seed(tmp_path: Path) -> None:
    from minidl.training.models import build_model

    (tmp_path / "mine.py").write_text(f"from minidl import Tensor, nn\n\n\n{inspect.getsource(Net)}")
    first, again, other = (build_model(f"{tmp_path}/mine.py:Net", (28, 28), 10, n) for n in (4, 4, 5))
    assert same(first, again)
    assert not same(first, other)
    assert same(first, net(4)), "as in Python"


def test_weights_drawn_without_a_seed_are_told_once() -> None:
    model = Net()
    with pytest.warns(UserWarning, match=r"of hidden, out were drawn without a seed.*minidl.seed\(0\)") as told:
        trainer(model=model).fit(2, verbose=False)
    assert len(told) == 1
    with seed(0):
        half = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    half.append(nn.Dropout(0.1))
    with pytest.warns(UserWarning, match="of layer 2 were drawn without a seed"):
        trainer(model=half)


def test_loaded_edited_and_tied_weights_are_as_they_were(tmp_path: Path) -> None:
    net().save(tmp_path / "net.safetensors")
    loaded = Net().load(tmp_path / "net.safetensors")
    edited = Net()
    for p in edited.parameters():
        p.data[...] = 0.01
    for model in (loaded, edited):
        before = model.state_dict()
        made = trainer(model=model)  # warnings are errors in these tests
        assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())
        made.fit(1, verbose=False)

    class Tied(nn.Module):
        def __init__(self) -> None:
            self.a, self.b, self.out = nn.Linear(784, 784), nn.Linear(784, 784), nn.Linear(784, 10)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.b(self.a(x.flatten(1)).relu()).relu())

    with seed(0):
        tied = Tied()
    trainer(model=tied).fit(1, verbose=False)
    assert tied.a.weight is tied.b.weight


# ---- slips of a loop or a Trainer ----


def test_gradients_that_were_stepped_on_already() -> None:
    model, x = net(), Tensor(DATA.test_images[:8, None] / np.float32(255))
    labels = DATA.test_labels[:8]
    optimizer = SGD(model.parameters(), lr=0.01)

    def backward() -> None:
        ops.cross_entropy(model(x), labels).backward()

    backward()
    backward()  # to accumulate is legal
    optimizer.step()
    for set_to_none in (True, False):
        optimizer.zero_grad(set_to_none)
        backward()
        optimizer.step()
    for p in model.parameters():
        p.grad = None
    backward()
    optimizer.step()
    backward()
    with pytest.warns(UserWarning, match=r"already used: call optimizer.zero_grad\(\)") as told:
        optimizer.step()
    optimizer.step()  # once is enough
    assert len(told) == 1
    assert told[0].filename == __file__


def test_a_missing_backward() -> None:
    optimizer = Adam(net().parameters())
    with pytest.warns(UserWarning, match=r"no gradient, and moves nothing: call loss.backward\(\)") as told:
        optimizer.step()
    optimizer.step()
    assert len(told) == 1


def test_what_would_only_be_found_epochs_later() -> None:
    model = net()

    def hybrid(switch: Any) -> Hybrid:
        return Hybrid(model.parameters(), Adam(), SGD(lr=0.01), switch=switch)

    with pytest.raises(ValueError, match=r"unknown metric 'val_los'.*val_loss"):
        trainer(model=model, optimizer=hybrid(Plateau("val_los")))
    with pytest.raises(ValueError, match="there are no validation examples"):
        trainer(few().train, model, optimizer=hybrid(Crossing("val_accuracy", 0.9) | AfterEpochs(1)))
    with pytest.raises(ValueError, match="the cosine ends at step 5"):
        trainer(model=model, optimizer=Adam(model.parameters(), schedule.cosine(0.1, 5))).fit(2)
    with pytest.raises(TypeError, match="the class PressesCtrlC itself"):
        trainer().fit(1, [PressesCtrlC])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="first and then must be rules"):
        Hybrid(model.parameters(), Adam, SGD(lr=0.1), switch=AfterEpochs(1))  # type: ignore[arg-type]


def test_an_optimizer_of_another_model() -> None:
    model, other = net(), net()
    with pytest.raises(ValueError, match="another model's parameters: none of its 4"):
        Trainer(model, Adam(other.parameters()), few())
    both = [*model.parameters(), *other.parameters()]
    with pytest.warns(UserWarning, match="4 of the optimizer's 8 parameters are not of this Net"):
        Trainer(model, Adam(both), few())
    Trainer(model, Adam(list(model.out.parameters())), few())  # the last layer alone: may be meant


def test_a_layer_that_is_replaced_after_the_optimizer_was_built() -> None:
    model = net()
    made = Trainer(model, Adam(model.parameters()), few())
    model.out = nn.Linear(*model.out.weight.shape[::-1], rng=0)
    with pytest.warns(UserWarning, match="2 of the optimizer's 4 parameters are not of this Net: .*replaced"):
        made.fit(1, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        made.fit(1, verbose=False)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Trainer(Net, Adam(net().parameters()), few()), r"the class Net itself: write Net\(\)"),
        (lambda: Trainer(net(), Adam, few()), r"is the class Adam itself: write Adam\(net.parameters\(\)\)"),
        (lambda: Trainer(net(), SGD(lr=0.1), few()), "no parameters"),
        (lambda: trainer(batch_size=0), "batch_size must be a whole number, 1 or more, got 0"),
        (lambda: trainer(seed=1.5), "seed must be a whole number"),
        (lambda: trainer("mnist5k"), "not a str"),
        (lambda: trainer((DATA.test_images, DATA.test_labels.astype(float))), "labels must be whole numbers"),
        (lambda: trainer((DATA.test_images.reshape(-1, 784), DATA.test_labels)), "must be .N, H, W."),
        (lambda: trainer().fit(1.5), "epochs must be a whole number"),
        (lambda: trainer().save(), "give a folder"),
    ],
)
def test_arguments_that_are_no_such_thing(wrong: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        wrong()


def test_a_data_set_and_arrays_are_taken_as_they_are() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert repr(trainer(DATA).splits) == repr(split(DATA))
        pair = trainer((DATA.test_images[:100, None], DATA.test_labels[:100]))
        assert [r["val_loss"] for r in pair.fit(1, verbose=False)] == [None]


def test_weights_named_as_the_optimizers_vectors_are_kept_apart_from_them(tmp_path):
    """Whatever an attribute of the network is called, its run is saved, resumed bit for bit, and loaded."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(0)
            self.optimizer, self._optimizer = nn.Linear(4, 2, rng=rng), nn.Linear(2, 2, rng=rng)

        def forward(self, x):
            return self._optimizer(self.optimizer(x.flatten(1)))

    images, labels = np.random.default_rng(1).random((8, 1, 2, 2), np.float32), np.arange(8) % 2

    def made(folder) -> Trainer:
        net = Net()
        return Trainer(net, Adam(net.parameters()), (images, labels), batch_size=4, folder=folder)

    whole, half = made(tmp_path / "whole"), made(tmp_path / "half")
    whole.fit(2, verbose=False)
    half.fit(1, verbose=False)
    load_run(tmp_path / "half", Net, (images, labels)).fit(1, verbose=False)
    files = [load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "half")]
    assert files[0].model.keys() == whole.model.state_dict().keys()
    for name, array in whole.model.state_dict().items():
        assert [file.model[name].tobytes() for file in files] == [array.tobytes()] * 2
        assert Net().load(tmp_path / "half").state_dict()[name].tobytes() == array.tobytes()
    assert files[0].optimizer["vectors"].keys() == files[1].optimizer["vectors"].keys() == {"m", "v"}
    for name, vector in files[0].optimizer["vectors"].items():
        np.testing.assert_array_equal(files[1].optimizer["vectors"][name], vector)


def test_weights_alone_keep_any_name_and_a_missing_folder_is_named(tmp_path):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.optimizer = nn.Linear(4, 2, rng=0)

    one, other = Net(), Net()
    one.optimizer.weight.data[...] = 7
    one.save(tmp_path / "net.safetensors")
    other.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(other.optimizer.weight.numpy(), 7)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        one.save(tmp_path / "nowhere" / "net.safetensors")


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_rate_that_is_far_too_large_is_told_though_the_loss_stays_finite(make: Any) -> None:
    with seed(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
    trainer = Trainer(model, make(model.parameters(), lr=1e6), few())
    with pytest.warns(
        UserWarning, match=r"the training loss was .*in epoch 1, while guessing gives 2.3: the learning rate, 1e\+06"
    ):
        trainer.fit(1, verbose=False)
