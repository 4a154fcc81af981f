"""What other libraries call otherwise, or hand over otherwise: names, arguments, labels, loaders, layouts of images.

Right values come from NumPy and PyTorch.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops
from minidl.optim import SGD
from tests.test_field_habits import X, Y, network

RNG = np.random.default_rng(3)


# ---- a loader is kept for all epochs, as PyTorch's ----


def test_batches_that_are_kept_give_another_epoch_in_each_loop() -> None:
    x, y = np.arange(10.0, dtype=np.float32)[:, None], np.arange(10)
    loader, anew = minidl.batches(x, y, 4, np.random.default_rng(0)), np.random.default_rng(0)
    epochs = [[labels for _, labels in loader] for _ in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(10))
        wanted = [labels for _, labels in minidl.batches(x, y, 4, anew)]
        assert all(np.array_equal(a, b) for a, b in zip(epoch, wanted, strict=True))
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    assert len(loader) == 3
    assert len(minidl.batches(x, y, 4, drop_last=True)) == 2
    assert len(minidl.batches(x, y, 4, start=1)) == 2


def test_a_first_look_at_a_loader_takes_nothing_from_the_epoch() -> None:
    loader = minidl.batches(X, Y, 4)
    assert next(iter(loader))[0].shape == (4, 4)
    assert [len(labels) for _, labels in loader] == [4, 2]
    assert next(loader)[0].shape == (4, 4)
    assert next(loader)[0].shape == (2, 4)
    with pytest.raises(StopIteration):
        next(loader)
    for wrong in (8.0, 0, "8"):
        with pytest.raises(ValueError, match="the batch size must be a whole number, at least 1, got"):
            minidl.batches(X, Y, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start must be the index of a batch, 0 or more, got -1"):
        minidl.batches(X, Y, 4, start=-1)


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
@pytest.mark.parametrize("images", [X, (255 * X).astype(np.uint8), np.repeat(X[:, None], 4, 1)])
def test_a_batch_may_be_changed_in_place_and_the_data_stay(images: Any, rng: Any) -> None:
    data, labels = images.copy(), Y.copy()
    for x, y in minidl.batches(data, labels, 4, rng):  # Cutout, and labels that are drawn anew
        x.data[:, :2] = 0
        y[y == 1] = 0
    assert np.array_equal(data, images)
    assert np.array_equal(labels, Y)


# ---- labels of other kinds ----

LABELS: list[tuple[Any, str, Any]] = [
    (np.array(["cat", "dog", "cat", "emu"]), r"np.unique\(labels, return_inverse=True\)\[1\]", [0, 1, 0, 2]),
    (np.array(["b", "a", "b", "c"], object), r"np.unique\(labels, return_inverse=True\)\[1\]", [1, 0, 1, 2]),
    (np.eye(3)[[2, 0, 1, 1]], r"labels.argmax\(1\)", [2, 0, 1, 1]),
    (np.eye(3, dtype=int)[[2, 0, 1, 1]], r"labels.argmax\(1\)", [2, 0, 1, 1]),
    (np.array([[2], [0], [1], [1]]), r"labels.ravel\(\)", [2, 0, 1, 1]),
    (np.array([2.0, 0, 1, 1]), r"labels.astype\(int\)", [2, 0, 1, 1]),
    (np.array([True, False, True, True]), r"labels.astype\(int\)", [1, 0, 1, 1]),
]


@pytest.mark.parametrize(
    ("labels", "remedy", "wanted"), LABELS, ids=lambda value: getattr(value, "dtype", None) and "-"
)
def test_labels_of_another_kind_are_told_what_makes_them_whole(labels: Any, remedy: str, wanted: Any) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    images = X[:4].reshape(4, 2, 2)
    for use in (
        lambda: minidl.Trainer(net, SGD(net.parameters()), (images, labels)),
        lambda: minidl.evaluate(net, (images, labels)),
        lambda: ops.cross_entropy(net(images), labels),
    ):
        with pytest.raises((ValueError, TypeError), match=remedy):
            use()
    code = remedy.replace("\\", "")
    np.testing.assert_array_equal(eval(code, {"labels": labels, "np": np}), wanted)


@pytest.mark.parametrize("labels", [[1, 2, 3], [-1, 1, 1]])
def test_labels_that_do_not_count_from_zero_are_told(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"is not in \[0, 3\): labels count from 0, and the network needs an output"):
        ops.cross_entropy(np.zeros((3, 3)), labels)


def test_two_pairs_of_arrays_are_told() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    pair = X.reshape(6, 2, 2), Y
    with pytest.raises(ValueError, match=r"^these are pairs of arrays, .* pass one, \(x_train, y_train\)"):
        minidl.Trainer(net, SGD(net.parameters()), (pair, pair))


def test_three_arrays_are_told_how_they_are_loaded() -> None:
    with pytest.raises(ValueError, match=r"batches takes two arrays: for more, index each with chosen rows"):
        minidl.batches(X, X, Y, 8)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_images_that_are_not_finite_are_named_not_the_rate(bad: float) -> None:
    images = X.reshape(6, 2, 2).copy()
    images[[1, 4], 0, 0] = bad
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    words = (
        r"^training diverged at step 1: the loss is nan; 2 of this batch's 6 images hold a NaN or an infinity: remove"
    )
    with pytest.raises(ArithmeticError, match=words), np.errstate(invalid="ignore"):
        minidl.Trainer(net, SGD(net.parameters()), (images, Y)).fit(1, verbose=False)


# ---- Keras's, scikit-learn's and JAX's names ----


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("callbacks", r"observers=\[\.\.\.\]"),
        ("validation_split", "val_fraction"),
        ("validation_data", "Splits"),
        ("class_weight", r"\(w\[y\] .*reduction='none'\)\)\.mean\(\)"),
        ("metrics", "observer"),
        ("shuffle", "draws a new order"),
        ("criterion", "cross-entropy"),
        ("accumulate_grad_batches", "a loop of your own"),
        ("patience", "Observer"),
    ],
)
def test_kerass_arguments_of_fit_are_answered(argument: str, words: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    data = X.reshape(6, 2, 2), Y
    trainer = minidl.Trainer(net, SGD(net.parameters()), data)
    for use, name in (
        (lambda: trainer.fit(1, verbose=False, **{argument: [0.2]}), "fit"),
        (lambda: minidl.Trainer(net, SGD(net.parameters()), data, **{argument: [0.2]}), "Trainer"),
    ):
        with pytest.raises(TypeError, match=f"^{name} has no argument '{argument}': .*{words}"):
            use()
    with pytest.raises(TypeError, match=r"^fit has no argument 'batch_size': the Trainer takes it"):
        trainer.fit(1, batch_size=4)
    with pytest.raises(TypeError, match=r"^Trainer has no argument 'epochs': trainer.fit\(epochs\)"):
        minidl.Trainer(net, SGD(net.parameters()), data, epochs=4)
    for more, words in (
        ({"out": "runs/a"}, "folder="),
        ({"observers": []}, "trainer.fit"),
        ({"lr": 0.1}, "the optimizer takes it"),
    ):
        with pytest.raises(TypeError, match=f"^Trainer has no argument '{next(iter(more))}': .*{words}"):
            minidl.Trainer(net, SGD(net.parameters()), data, **more)
    with pytest.raises(TypeError, match=r"^fit has no argument 'out': .*folder="):
        trainer.fit(1, out="runs/a")
    with pytest.raises(TypeError, match=r"^validate must be True or False, not a tuple"):
        trainer.fit(1, validate=data)
    with pytest.raises(TypeError, match=r"^observers=\[...\] must be minidl.Observers, not a builtin_function"):
        trainer.fit(1, print)
    with pytest.raises(TypeError, match=r"^Linear has no argument 'activation': it is a layer of its own"):
        nn.Linear(4, 8, activation="relu")
    with pytest.raises(TypeError, match=r"^cross_entropy has no argument 'from_logits': the loss takes logits"):
        ops.cross_entropy(X, Y, from_logits=False)
    assert ops.cross_entropy(X, Y, from_logits=True).item() == ops.cross_entropy(X, Y).item()


def test_the_record_of_a_training_by_name() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    history = minidl.Trainer(net, SGD(net.parameters()), (X.reshape(6, 2, 2), Y)).fit(2, verbose=False)
    assert history["train_loss"] == history.of("train_loss") == [each["train_loss"] for each in history]
    assert history[-1]["epoch"] == 2
    with pytest.raises(KeyError, match=r"an epoch's record has no 'loss': epoch, step, train_loss"):
        history["loss"]
    with pytest.raises(AttributeError, match=r"History has no 'history': history.of\('train_loss'\)"):
        _ = history.history


@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        (minidl, "value_and_grad", r"loss.backward\(\)"),
        (minidl, "Value", r"requires_grad=True"),
        (minidl, "layers", "minidl.nn"),
        (minidl, "EarlyStopping", "Observer"),
        (nn, "Input", "in_features"),
        (nn, "BatchNormalization", "BatchNorm2d"),
        (nn, "LSTM", "no recurrent layers"),
        (nn.Linear(2, 2), "W", "weight$"),
        (network(), "get_weights", r"state_dict\(\)"),
        (network(), "predict_proba", "minidl.predict"),
        (Tensor(X), "leaky_relu", r"it is a function, minidl.ops.leaky_relu\(t\)"),
        (minidl.optim, "Rprop", "a rule of your own"),
        (minidl.optim, "AMSGrad", r"Adam\(amsgrad=True\)"),
        (minidl.optim, "Nesterov", r"SGD\(momentum=0.9, nesterov=True\)"),
        (minidl.optim, "cosine", "minidl.optim.schedule.cosine"),
        (Tensor(X), "cleargrad", "t.grad = None"),
        (Tensor(X), "no_such", "compose it from"),
    ],
)
def test_names_of_other_libraries_say_what_to_write(where: Any, name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=rf"has no '{name}': .*{words}"):
        getattr(where, name)


@pytest.mark.pytorch
def test_signals_along_one_axis_are_images_of_one_row() -> None:
    torch = pytest.importorskip("torch")
    x, w, b = RNG.random((2, 3, 9)), RNG.random((4, 3, 5)), RNG.random(4)
    said = minidl.elsewhere.ELSEWHERE
    assert said["Conv1d"] == "nn.Conv2d(c, k, (1, n)) of signals (N, C, L) as x[:, :, None]"
    t, there = Tensor(x), torch.from_numpy(x)
    ours = ops.conv2d(t[:, :, None], w[:, :, None], b)[:, :, 0]
    theirs = torch.nn.functional.conv1d(there, torch.from_numpy(w), torch.from_numpy(b))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)
    pooled = nn.MaxPool2d((1, 3))(t[:, :, None])[:, :, 0]
    np.testing.assert_array_equal(pooled.numpy(), torch.nn.functional.max_pool1d(there, 3).numpy())
    normal = eval(said["LayerNorm"], {"x": t})
    np.testing.assert_allclose(normal.numpy(), torch.nn.functional.layer_norm(there, (9,)).numpy(), rtol=1e-9)


@pytest.mark.parametrize(
    "name", ["zeros", "ones", "empty", "full", "new_zeros", "eye", "zeros_like", "Upsample", "one_hot"]
)
def test_what_is_written_instead_is_of_the_networks_dtype(name: str) -> None:
    code = minidl.elsewhere.ELSEWHERE[name].split(" is twice")[0]
    x = Tensor(RNG.random((2, 3, 4, 4), np.float32))
    known = {
        "x": x,
        "t": x,
        "n": 2,
        "c": 3,
        "h": 4,
        "w": 4,
        "shape": (2, 3, 4, 4),
        "value": 2,
        "labels": np.array([1, 0]),
    }
    made = eval(code, {"np": np, "Tensor": Tensor, **known})
    assert made.dtype == np.float32  # float64 is refused by the next layer
    if name == "Upsample":
        np.testing.assert_array_equal(made.numpy(), x.numpy().repeat(2, 2).repeat(2, 3))


@pytest.mark.pytorch
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("group_norm", lambda F, x: F.group_norm(x, 2)),
        ("instance_norm", lambda F, x: F.instance_norm(x)),
        ("rms_norm", lambda F, x: F.rms_norm(x, (4,), eps=1e-6)),
        ("glu", lambda F, x: F.glu(x)),
        ("selu", lambda F, x: F.selu(x)),
        ("pixel_shuffle", lambda F, x: F.pixel_shuffle(x, 2)),
        ("adaptive_max_pool2d", lambda F, x: F.adaptive_max_pool2d(x, 1)[:, :, 0, 0]),
        ("unfold", lambda F, x: F.unfold(x, 2, stride=2).transpose(1, 2)),
        ("hardswish", lambda F, x: F.hardswish(x)),
        ("hardsigmoid", lambda F, x: F.hardsigmoid(x)),
    ],
)
def test_what_stands_for_pytorchs_layers_is_the_same(name: str, theirs: Any) -> None:
    torch = pytest.importorskip("torch")
    x = RNG.standard_normal((2, 8, 4, 4))
    t, there = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    known = {"ops": ops, "x": t, "n": 2, "c": 8 if name == "unfold" else 2, "groups": 2, "h": 4, "w": 4, "r": 2, "k": 2}
    said = minidl.elsewhere.ELSEWHERE[name].split(" is the ")[0].split(" are patches")[0]
    code, _, meant = said.partition(", with ")
    exec(meant.replace(" and ", "; "), known)
    here, wanted = eval(code, known), theirs(torch.nn.functional, there)
    np.testing.assert_allclose(here.numpy(), wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
    (here * here).sum().backward()
    (wanted * wanted).sum().backward()
    np.testing.assert_allclose(t.grad, there.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.pytorch
def test_names_in_the_advice_can_be_written_so() -> None:
    """In a fresh process: here another test may have imported minidl.optim.average, which was no attribute of optim."""
    pytest.importorskip("torch", reason="PyTorch is not installed: optim.torch imports it")
    code = """
import re
import minidl
from minidl import nn, ops, optim
from minidl.arguments import BEYOND
from minidl.elsewhere import ELSEWHERE
said = " ".join([*ELSEWHERE.values(), *(remedy for _, remedy in BEYOND.values())])
names = sorted(set(re.findall(r"(?<![\\w/.])(?:minidl|nn|ops|optim)(?:\\.[A-Za-z_]\\w*)+", said)))
print(len(names), [eval(name) for name in names] and names)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not found.returncode, found.stderr
    assert "optim.torch.wrap" in found.stdout
    assert int(found.stdout.split()[0]) > 40


@pytest.mark.parametrize(
    ("where", "name"),
    [
        *((nn, name) for name in ("ConvTranspose2d", "GroupNorm", "Dropout2d", "RMSNorm", "Hardswish", "Softmax2d")),
        *((ops, name) for name in ("conv1d", "gumbel_softmax", "addcmul", "full_like", "clip_grad_value_")),
        *((minidl.optim, name) for name in ("swa_utils", "EMA", "CosineAnnealingWarmRestarts")),
        (nn.Linear(2, 2), "reset_parameters"),
        (Tensor(X), "prod"),
    ],
)
def test_what_was_called_only_missing_says_what_to_write(where: Any, name: str) -> None:
    with pytest.raises(AttributeError) as told:
        getattr(where, name)
    assert str(told.value).endswith(f"has no '{name}': {minidl.elsewhere.ELSEWHERE[name]}")


def test_whole_channels_drop_out() -> None:
    code = minidl.elsewhere.ELSEWHERE["dropout2d"].split(", with")[0]
    x = Tensor(np.ones((20, 8, 3, 3), np.float32))
    y = eval(code, {"x": x, "drop": nn.Dropout(0.5, rng=0), "np": np, "n": 20, "c": 8}).numpy()
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(y, y[:, :, :1, :1] + 0 * y)


@pytest.mark.parametrize("wrong", [minidl.Observer, lambda record: None])
def test_what_is_no_observer_is_told_how_to_write_one(wrong: Any) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    trainer = minidl.Trainer(net, SGD(net.parameters()), (X.reshape(6, 2, 2), Y))
    with pytest.raises(TypeError, match=r"of your own, class Mine\(minidl.Observer\), not (the class|a function)"):
        trainer.fit(1, [wrong], verbose=False)


# ---- shapes and places ----


def test_images_in_kerass_layout_and_images_before_a_dense_layer() -> None:
    for x, conv in ((np.zeros((2, 8, 8, 3), np.float32), nn.Conv2d(3, 4, 3, rng=0)),):
        with pytest.raises(ValueError, match=r"channels come first, x.permute\(0, 3, 1, 2\), for an array x.transpose"):
            conv(x)
        assert conv(x.transpose(0, 3, 1, 2)).shape == conv(Tensor(x).permute(0, 3, 1, 2)).shape == (2, 4, 6, 6)
    with pytest.raises(
        ValueError, match=r"linear: x \(2, 4, 4\) and weight \(3, 16\) .*: nn.Flatten\(\), or x.flatten\(1\)"
    ):
        nn.Linear(16, 3, rng=0)(np.zeros((2, 4, 4), np.float32))
    with pytest.raises(TypeError, match=r"^ReLU: a layer is created first, and then called .*: nn.ReLU\(\)\(x\)$"):
        nn.ReLU(Tensor(X))


def test_indices_in_a_tensor_are_told() -> None:
    t = Tensor(X)
    for index in (Tensor([0, 1]), np.array([0.0, 1.0]), 1.0):
        with pytest.raises(IndexError, match=r"^getitem: .*: make them an array, t.numpy\(\).astype\(int\)$"):
            t[index]
    with pytest.raises(IndexError, match=r"^getitem: index 9 is out of bounds .*, of shape \(6, 4\)$"):
        t[9]
    assert round(Tensor(2.345), 1) == 2.3
    assert round(Tensor(2.6)) == 3


def test_the_module_called_as_pytorchs_function_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"minidl.tensor is a module: Tensor\(values\) makes a Tensor"):
        minidl.tensor([1.0, 2.0], requires_grad=True)


# ---- what is drawn ----


def said(name: str) -> tuple[str, str]:
    """The code that stands for PyTorch's `name`, and the line before it, which makes rng once."""
    code, _, before = minidl.elsewhere.ELSEWHERE[name].partition(", with ")
    return code, before.removesuffix(", made once")


@pytest.mark.parametrize(
    ("name", "mean", "deviation"),
    [("rand", 0.5, 12**-0.5), ("rand_like", 0.5, 12**-0.5), ("randn", 0, 1), ("normal", 2, 0.5)],
)
def test_random_numbers_are_of_pytorchs_distribution_and_new_each_time(
    name: str, mean: float, deviation: float
) -> None:
    code, before = said(name)
    known = {"np": np, "Tensor": Tensor, "seed": 0, "shape": (100, 100), "mean": mean, "std": deviation}
    exec(before, known)
    first, second = eval(code, known), eval(code, known)
    assert first.dtype == np.float32
    assert first.data.mean() == pytest.approx(mean, abs=0.04)
    assert first.data.std() == pytest.approx(deviation, rel=0.03)
    assert not np.array_equal(first.data, second.data)  # one generator for each call would give the same numbers


def test_choices_are_drawn_with_their_probabilities() -> None:
    code, before = said("multinomial")
    p, n = np.array([0.1, 0.2, 0.7]), 5000
    draw, logits = code.split(" draws")[0], Tensor(np.log(np.tile(p, (n, 1))))
    known = {"np": np, "ops": ops, "seed": 0, "logits": logits, "n": n}
    exec(f"{before}; {draw}", known)
    np.testing.assert_allclose(np.bincount(known["a"]) / n, p, atol=0.025)
    log_p = eval(code.split("log-probability ")[1], known)
    np.testing.assert_allclose(log_p.numpy(), np.log(p)[known["a"]], rtol=1e-12)
    code, before = said("bernoulli")
    known |= {"p": Tensor(np.tile(p, (n, 1)))}
    np.testing.assert_allclose(eval(code, known).mean(0), p, atol=0.025)


def test_what_shows_a_gradient_in_between_keeps_the_dtype() -> None:
    t = nn.Linear(4, 5)(X)
    t.retain_grad()
    (nn.Linear(5, 3)(t) * 2).sum().backward()
    assert t.grad is not None
    assert (t.grad.shape, t.grad.dtype) == (t.shape, t.dtype)


@pytest.mark.pytorch
@pytest.mark.parametrize("made", [nn.CrossEntropyLoss, lambda weight: ops.cross_entropy(Tensor(X), Y, weight=weight)])
def test_weights_of_classes_are_weighted_as_pytorchs(made: Any) -> None:
    """The mean of what is weighted is by the sum of the weights, not by the number of examples."""
    torch = pytest.importorskip("torch")
    w = np.array([0.2, 1, 3, 5], np.float32)
    with pytest.raises(TypeError, match="has no argument 'weight': ") as told:
        made(weight=w)
    ours = eval(str(told.value).split("'weight': ")[1], {"ops": ops, "z": Tensor(X), "y": Y, "w": w})
    theirs = torch.nn.functional.cross_entropy(torch.from_numpy(X), torch.from_numpy(Y), torch.from_numpy(w))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.pytorch
def test_the_largest_k_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    code = minidl.elsewhere.ELSEWHERE["topk"].split(" are")[0]
    found = eval(code, {"np": np, "t": Tensor(X), "k": 2})
    np.testing.assert_array_equal(found, torch.from_numpy(X).topk(2).indices.numpy())


@pytest.mark.pytorch
def test_a_dilation_of_a_window_stays_one_while_it_learns() -> None:
    """Without the mask the weights in between, zeros at first, would learn."""
    torch = pytest.importorskip("torch")
    x, w, b = RNG.random((2, 3, 7, 7)), RNG.random((4, 3, 3, 3)), RNG.random(4)
    with pytest.raises(TypeError, match="has no argument 'dilation'") as told:
        nn.Conv2d(3, 4, 3, dilation=2)
    code = str(told.value).split("'dilation': ")[1].split(" is the same")[0]
    weight, mask = Tensor(np.zeros((4, 3, 5, 5)), requires_grad=True), np.zeros((5, 5))
    weight.data[:, :, ::2, ::2], mask[::2, ::2] = w, 1
    theirs = torch.tensor(w, requires_grad=True)
    for _ in range(2):
        y = eval(code, {"ops": ops, "x": x, "weight": weight, "mask": mask, "bias": b})
        wanted = torch.nn.functional.conv2d(torch.from_numpy(x), theirs, torch.from_numpy(b), dilation=2)
        np.testing.assert_allclose(y.numpy(), wanted.detach().numpy(), rtol=1e-12)
        weight.grad = theirs.grad = None
        (y * y).sum().backward()
        (wanted * wanted).sum().backward()
        weight.data -= 1e-3 * weight.grad
        theirs.data -= 1e-3 * theirs.grad


@pytest.mark.pytorch
def test_padding_stands_for_ceil_mode_where_it_is_never_the_largest() -> None:
    torch = pytest.importorskip("torch")
    x = -1 - RNG.random((2, 3, 6, 6))
    with pytest.raises(TypeError, match="with -inf for a maximum"):
        nn.MaxPool2d(3, 2, ceil_mode=True)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    wanted = torch.nn.functional.max_pool2d(torch.from_numpy(x), 3, 2, ceil_mode=True)
    np.testing.assert_array_equal(ops.max_pool2d(padded, 3, 2).numpy(), wanted.numpy())


@pytest.mark.pytorch
@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 5, 3, 4), (5,)])
def test_logits_of_many_places_are_told_how_they_become_rows(shape: tuple[int, ...]) -> None:
    """PyTorch has classes on axis 1: of images a class for each pixel, of texts one for each letter."""
    torch = pytest.importorskip("torch")
    z, y = Tensor(RNG.random(shape)), RNG.integers(0, 5, (shape[:1] + shape[2:]) if len(shape) > 1 else ())
    with pytest.raises(ValueError, match=r"must be \(N, classes\): logits") as told:
        ops.cross_entropy(z, y)
    said, _, after = str(told.value).split("classes): ")[1].partition(", after ")
    if len(shape) == 1:
        rows, labels = eval(said.split(" is ")[0], {"logits": z}), y[None]
    else:
        known = {"logits": eval(after.split(" where")[0], {"logits": z}), "labels": y, "classes": 5}
        rows, labels = eval(said, known)
    wanted = torch.nn.functional.cross_entropy(torch.from_numpy(z.numpy()), torch.as_tensor(y))
    assert ops.cross_entropy(rows, labels).item() == pytest.approx(wanted.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["Flatten", "Softmax", "Dropout", "LeakyReLU", "GELU", "Tanh", "Sigmoid"])
def test_an_input_is_no_argument_of_a_layer(name: str) -> None:
    """nn.Flatten(x) was a layer, with x for its start_dim."""
    for x in (Tensor(X), X):
        with pytest.raises(TypeError, match=rf"{name}: a layer is created first, .* on its input: nn.{name}\(\)"):
            getattr(nn, name)(x)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss"])
def test_a_loss_is_created_and_then_called(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}: a layer is created first, .*: nn.{name}\(\)\(logits, labels\)$"):
        getattr(nn, name)(Tensor(X), Y)


@pytest.mark.parametrize("name", ["dim", "mT", "values", "repeat", "split", "embedding", "layers", "pad", "round"])
def test_a_forgotten_attribute_is_not_taken_for_a_tensors(name: str) -> None:
    """`self.dim = dim` left out of __init__: "t.ndim" would send its reader elsewhere."""

    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * getattr(self, name)

    for thing, kind in ((Net(), "Net"), (SGD(nn.Linear(2, 2, rng=0).parameters(), lr=0.1), "SGD")):
        with pytest.raises(AttributeError) as told:
            getattr(thing, name)
        assert str(told.value) == f"{kind} has no '{name}'"
    with pytest.raises(AttributeError, match=r"has no 'float': .*model.to\(dtype=...\)"):
        Net().float()


# ---- a data set and its parts ----


@pytest.mark.parametrize(("name", "says"), [
    ("train", r"Dataset has no 'train': split\(data\) has .train, .val and .test; its arrays are train_images"),
    ("labels", r"Dataset has no 'labels': split\(data\)"),
    ("class_name", "Dataset has no 'class_name': did you mean class_names"),
])  # fmt: skip
def test_a_data_set_says_where_its_parts_are(name: str, says: str) -> None:
    with pytest.raises(AttributeError, match=says):
        getattr(minidl.load_mnist("mnist5k"), name)


@pytest.mark.parametrize("name", ["validation", "train_images", "x"])
def test_parts_say_what_they_are_called(name: str) -> None:
    data = minidl.split(minidl.load_mnist("mnist5k"))
    with pytest.raises(AttributeError, match=f"Splits has no '{name}': its parts are .train, .val and .test, each"):
        getattr(data, name)
    with pytest.raises(AttributeError, match=f"Examples has no '{name}': it has .images and .labels.*x, y = examples"):
        getattr(data.train, name)
    assert pickle.loads(pickle.dumps(data)).train.labels.tolist() == copy.deepcopy(data).train.labels.tolist()
