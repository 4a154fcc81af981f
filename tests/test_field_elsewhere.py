"""Habits from Keras, scikit-learn, JAX, micrograd and classes in NumPy: whatever goes wrong is told.

Right values come from NumPy or are known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops
from minidl.optim import SGD, Adam
from tests.forms import FORMS, leaf
from tests.test_field_habits import X, Y, network

RNG = np.random.default_rng(3)


# ---- a gradient is not lost in silence ----


def test_an_arrays_dot_of_a_weight_is_told() -> None:
    w = leaf(np.ones((4, 2)))
    table = X.astype(np.float64)
    with pytest.warns(UserWarning, match=r"^array.dot\(t\) of a Tensor .* array @ t keeps the gradient$") as told:
        values = table.dot(w)
    assert told[0].filename == __file__
    np.testing.assert_allclose(values, table.sum(1, keepdims=True) @ np.ones((1, 2)))
    assert (table @ w).requires_grad
    with minidl.no_grad():
        table.dot(w)
    table.dot(w.detach())


def test_values_that_are_asked_for_are_not_told() -> None:
    w, out = leaf(np.ones((4, 2))), np.zeros((4, 2), np.float32)
    assert np.asarray(w, np.float32).dtype == np.float32
    out[...] = w
    np.testing.assert_array_equal(out, 1)
    assert np.array([w, w]).shape == (2, 4, 2)


@pytest.mark.parametrize("take", [Tensor, ops.mean, ops.sum, network(), lambda ts: ops.exp([ts[:1], ts[1:]])])
def test_a_list_of_tensors_keeps_its_gradient_or_is_refused(take: Callable[[Any], Any]) -> None:
    losses = [leaf(1.0) * 2, leaf(2.0) * 3]
    with pytest.raises(TypeError, match=r"a list of Tensors would lose their gradient: ops.stack\(tensors\)"):
        take(losses)
    with minidl.no_grad():
        np.testing.assert_array_equal(Tensor(losses).numpy(), [2, 6])
    np.testing.assert_array_equal(Tensor([t.detach() for t in losses]).numpy(), [2, 6])
    assert ops.stack(losses).mean().requires_grad


def test_backward_of_what_was_an_array_says_why() -> None:
    losses = [leaf(1.0) * 2, leaf(2.0) * 3]
    with pytest.raises(RuntimeError, match=r"needs no gradient: .* what was an array on the way, .* has lost it"):
        Tensor(np.array(losses)).mean().backward()


# ---- a loss of pairs ----


@pytest.mark.parametrize("loss", [lambda p, y: ((p - y) ** 2).mean(), lambda p, y: -(y * p.sigmoid().log()).mean()])
@pytest.mark.parametrize("swap", [False, True])
def test_a_column_of_predictions_and_a_row_of_targets_are_told(loss: Any, swap: bool) -> None:
    column, row = RNG.random((6, 1)), RNG.random(6)
    prediction, target = (leaf(row), column) if swap else (leaf(column), row)
    with pytest.warns(UserWarning, match=r"^(sub|mul): shapes .* give \(6, 6\), each number with each") as told:
        loss(prediction, target)
    assert told[0].filename == __file__
    fitting = target[:, 0] if swap else target[:, None]
    wanted = loss(Tensor(prediction.data), fitting).item()
    assert loss(prediction, fitting).item() == pytest.approx(wanted)


def test_pairs_that_are_meant_are_not_told() -> None:
    x, points = leaf(RNG.random(6)), RNG.random(6)
    for pairs in (
        x[:, None] - x,
        x[:, None] * leaf(points),
        x[:, None] - points[None, :],
        x - 1.0,
        x + points[:, None],
    ):
        assert pairs.requires_grad
    assert (leaf(np.ones((6, 1))) - RNG.random(5)).shape == (6, 5)
    assert (leaf(np.ones((1, 1))) - np.ones(1)).shape == (1, 1)
    assert (Tensor(points)[:, None] - points).shape == (6, 6)
    with minidl.no_grad():
        assert (x[:, None] - points).shape == (6, 6)


# ---- what does nothing says so ----


@pytest.mark.parametrize("name", ["no_grad", "no_fast", "reference_only", "use_threads"])
def test_a_block_in_a_line_of_its_own_is_told(name: str) -> None:
    make: Any = getattr(minidl, name)
    given = (2,) if name == "use_threads" else ()
    with pytest.warns(UserWarning, match=rf"^{name}\(2?\) in a line of its own does nothing: write `with {name}\("):
        make(*given)
    with make(*given):
        pass
    assert make(*given)(lambda: 3)() == 3
    with pytest.raises(TypeError, match=rf"{name} over a function has parentheses: @{name}\(\)"):
        make(lambda: 3)
    with pytest.raises(TypeError):
        make(1, 2)


def test_blocks_nest_and_end_with_errors() -> None:
    x, off = leaf(1.0), minidl.no_grad()
    with off:
        with off:
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(KeyError), minidl.no_grad():
        raise KeyError
    assert (x * 2).requires_grad

    @minidl.no_grad()
    def deep(n: int) -> Tensor:
        return x * 2 if n == 0 else deep(n - 1)

    assert not deep(3).requires_grad
    assert (x * 2).requires_grad


@pytest.mark.parametrize("n", [0, -1, 2.0, "2", True])
def test_threads_are_counted(n: Any) -> None:
    with (
        pytest.raises(ValueError, match="threads must be a whole number, 1 or more, or None, got"),
        minidl.use_threads(n),
    ):
        pass


@pytest.mark.parametrize("name", ["trainable", "requires_grad"])
def test_a_whole_network_is_not_frozen_by_a_word(name: str) -> None:
    net = network()
    with pytest.warns(UserWarning, match=rf"^{name} of a Module freezes nothing: .*p.requires_grad = False$"):
        setattr(net, name, False)

    class Own(nn.Module):
        trainable = True

    Own().trainable = False


def test_the_rate_is_called_lr() -> None:
    optimizer = Adam(network().parameters())
    for use in (lambda: optimizer.learning_rate, lambda: setattr(optimizer, "learning_rate", 0.1)):
        with pytest.raises(AttributeError, match=r"^it is called lr here: optimizer.lr = 0.01$"):
            use()
    with pytest.raises(TypeError, match=r"parameters are a list, also of one: SGD\(\[w\], lr=0.1\)"):
        SGD(leaf([1.0]), lr=0.1)


# ---- gradients set to a number, as in micrograd ----


@pytest.mark.parametrize("zero", [0, 0.0, None])
def test_gradients_set_to_a_number_start_anew(zero: Any) -> None:
    net, wanted = network(), network()
    optimizer, other = SGD(net.parameters(), lr=0.1, momentum=0.9), SGD(wanted.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        for p in net.parameters():
            p.grad = zero
        ops.cross_entropy(net(X), Y).backward()
        optimizer.step()
        other.zero_grad()
        ops.cross_entropy(wanted(X), Y).backward()
        other.step()
    for mine, right in zip(net.parameters(), wanted.parameters(), strict=True):
        np.testing.assert_array_equal(mine.data, right.data)


def test_a_step_on_gradients_that_are_a_number_is_refused() -> None:
    net = network()
    optimizer = SGD(net.parameters(), lr=0.1)
    for p in net.parameters():
        p.grad = 0
    with pytest.raises(ValueError, match=r"^parameter 0: its .grad is the number 0: p.grad = None starts anew$"):
        optimizer.step()


# ---- arrays as they come ----


def given(kind: str, array: np.ndarray, folder: Path) -> np.ndarray:
    """The same numbers, laid out as files, tables and slices hand them over."""
    if kind == "read-only":
        array = array.copy()
        array.flags.writeable = False
    elif kind == "mapped":
        file = folder / f"{array.ndim}.npy"
        np.save(file, array)
        array = np.load(file, mmap_mode="r")
    elif kind == "other byte order":
        array = array.astype(array.dtype.newbyteorder(">"))
    elif kind == "Fortran":
        array = np.asfortranarray(array)
    elif kind == "backwards":
        array = np.flip(np.flip(array).copy())
    elif kind == "unaligned":
        memory = np.zeros(array.nbytes + 1, np.uint8)
        memory[1:] = np.frombuffer(array.tobytes(), np.uint8)
        array = memory[1:].view(array.dtype).reshape(array.shape)
    return array


KINDS = ["read-only", "mapped", "other byte order", "Fortran", "backwards", "unaligned"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_images_in_any_memory_give_the_same_bits(kind: str, learns: bool, form: str, tmp_path: Path) -> None:
    images, labels = RNG.standard_normal((4, 3, 8, 8), np.float32), np.array([0, 1, 2, 1])

    def step(array: np.ndarray, labels: np.ndarray) -> list[Any]:
        with minidl.seed(1):
            net = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3),
                nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3),
            )  # fmt: skip
        x, optimizer = Tensor(array, requires_grad=learns), SGD(net.parameters(), lr=0.1)
        ops.cross_entropy(net(x), labels).backward()
        optimizer.step()
        return [*(p.data for p in net.parameters()), *([x.grad] if learns else [])]

    with FORMS[form]():
        wanted = step(images, labels)
        labels = labels if kind == "mapped" else given(kind, labels, tmp_path)  # mapped ones: the loss without loops
        found = step(given(kind, images, tmp_path), labels)
    for got, right in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("kind", ["read-only", "mapped", "other byte order"])
def test_a_weight_made_of_any_array_learns(kind: str, tmp_path: Path) -> None:
    start = np.arange(6.0).reshape(2, 3)
    array = given(kind, start, tmp_path)
    by_hand, w = Tensor(array, requires_grad=True), Tensor(array, requires_grad=True)
    for weight in (by_hand, w):
        (weight * weight).sum().backward()
    by_hand.data -= 0.1 * by_hand.grad
    SGD([w], lr=0.1).step()
    for weight in (by_hand, w):
        np.testing.assert_allclose(weight.data, 0.8 * start)
    np.testing.assert_array_equal(array, start)


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
    with pytest.raises(ValueError, match=r"is not in \[0, 3\): labels count from 0, and the network has an output for"):
        ops.cross_entropy(np.zeros((3, 3)), labels)


# ---- Keras's, scikit-learn's and JAX's names ----


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("callbacks", r"observers=\[\.\.\.\]"),
        ("validation_split", "val_fraction"),
        ("validation_data", "Splits"),
        ("class_weight", r"reduction='none'\)\)\.sum\(\) / w\[y\]\.sum\(\)"),
        ("metrics", "observer"),
        ("shuffle", "draws another order"),
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
        (Tensor(X), "cleargrad", "t.grad = None"),
        (Tensor(X), "no_such", "put it together"),
    ],
)
def test_names_of_other_libraries_say_what_to_write(where: Any, name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=rf"has no '{name}': .*{words}"):
        getattr(where, name)


@pytest.mark.pytorch
def test_signals_along_one_axis_are_images_of_one_row() -> None:
    torch = pytest.importorskip("torch")
    x, w, b = RNG.random((2, 3, 9)), RNG.random((4, 3, 5)), RNG.random(4)
    said = minidl.refuse.ELSEWHERE
    assert said["Conv1d"] == "nn.Conv2d(c, k, (1, n)) of signals (N, C, L) as x[:, :, None]"
    t, there = Tensor(x), torch.from_numpy(x)
    ours = ops.conv2d(t[:, :, None], w[:, :, None], b)[:, :, 0]
    theirs = torch.nn.functional.conv1d(there, torch.from_numpy(w), torch.from_numpy(b))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)
    pooled = nn.MaxPool2d((1, 3))(t[:, :, None])[:, :, 0]
    np.testing.assert_array_equal(pooled.numpy(), torch.nn.functional.max_pool1d(there, 3).numpy())
    normal = eval(said["LayerNorm"], {"x": t})
    np.testing.assert_allclose(normal.numpy(), torch.nn.functional.layer_norm(there, (9,)).numpy(), rtol=1e-9)


# ---- shapes and places ----


def test_images_in_kerass_layout_and_images_before_a_dense_layer() -> None:
    for x, conv in ((np.zeros((2, 8, 8, 3), np.float32), nn.Conv2d(3, 4, 3, rng=0)),):
        with pytest.raises(ValueError, match=r"channels come first, x.permute\(0, 3, 1, 2\), of an array x.transpose"):
            conv(x)
        assert conv(x.transpose(0, 3, 1, 2)).shape == conv(Tensor(x).permute(0, 3, 1, 2)).shape == (2, 4, 6, 6)
    with pytest.raises(
        ValueError, match=r"linear: x \(2, 4, 4\) and weight \(3, 16\) .*: nn.Flatten\(\), or x.flatten\(1\)"
    ):
        nn.Linear(16, 3, rng=0)(np.zeros((2, 4, 4), np.float32))
    with pytest.raises(TypeError, match=r"^ReLU: a layer is made first, and then called .*: nn.ReLU\(\)\(x\)$"):
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
