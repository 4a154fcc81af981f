"""Habits from Keras, scikit-learn, JAX, micrograd and classes in NumPy: whatever goes wrong is told.

Right values come from NumPy or are known beforehand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, no_grad, ops
from minidl.optim import SGD, Adam
from minidl.tensor import record
from tests.forms import FORMS, leaf
from tests.test_field_habits import X, Y, network

RNG = np.random.default_rng(3)


@pytest.mark.extra("torch")
def test_pytorch_says_what_its_tensors_are_made_of() -> None:
    import torch

    for given in (Tensor(X), Tensor(1.0)):
        for make in (torch.tensor, torch.as_tensor, len if not given.ndim else torch.asarray):
            with pytest.raises(
                TypeError, match=r"no len\(\): t.item\(\) is its value. torch.tensor .* take t.numpy\(\)"
            ):
                make(given)
        np.testing.assert_array_equal(torch.tensor(given.numpy()).numpy(), given.numpy())


@pytest.mark.parametrize("name", ["nbytes", "strides", "tobytes", "ctypes", "__array_interface__", "__dlpack__"])
def test_what_only_an_array_has_is_found_there(name: str) -> None:
    """safetensors asks for ctypes, Pillow for __array_interface__: once a user was told to compose it from ops."""
    with pytest.raises(AttributeError, match=rf"^Tensor has no '{name}': arrays have it, t.numpy\(\).{name}$"):
        getattr(Tensor(X), name)
    assert getattr(Tensor(X).numpy(), name) is not None


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
    with pytest.raises(RuntimeError, match=r"needs no gradient: .* array on the way, by np.array.*, has lost it"):
        Tensor(np.array(losses)).mean().backward()
    with no_grad():
        loss = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match=r"needs no gradient: .*; no_grad\(\), or .*, has lost it"):
        loss.backward()


@pytest.mark.parametrize("loss", [ops.mse_loss, ops.binary_cross_entropy_with_logits])
@pytest.mark.parametrize(("mine", "theirs", "how"), [((4, 1), 4, "..., None"), (4, (4, 1), "..., 0"), (4, 5, "")])
def test_a_column_and_a_row_are_told_how_they_become_the_same(loss: Any, mine: Any, theirs: Any, how: str) -> None:
    words = rf"must have the same shape: give target\[{how}\]$" if how else "must have the same shape$"
    with pytest.raises(ValueError, match=words):
        loss(leaf(np.ones(mine)), np.ones(theirs))


def test_numbers_become_a_column() -> None:
    with pytest.raises(ValueError, match=r"linear: x \(5,\) .*: x\[:, None\] makes a column of it"):
        nn.Linear(1, 3)(np.ones(5, np.float32))


# ---- a loss of pairs ----


@pytest.mark.parametrize("loss", [lambda p, y: ((p - y) ** 2).mean(), lambda p, y: -(y * p.sigmoid().log()).mean()])
@pytest.mark.parametrize("swap", [False, True])
def test_a_column_of_predictions_and_a_row_of_targets_are_told(loss: Any, swap: bool) -> None:
    column, row = RNG.random((6, 1)), RNG.random(6)
    prediction, target = (leaf(row), column) if swap else (leaf(column), row)
    with pytest.warns(UserWarning, match=r"^(sub|mul): shapes .* give \(6, 6\), all pairs: for element by") as told:
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
    with pytest.warns(
        UserWarning, match=rf"^{name}\(2?\) on a line of its own does nothing: write `with {name}\("
    ) as told:
        shown = repr(make(*given))  # what a notebook shows, and keeps, if it is a cell's last value
    assert shown == str(told[0].message)
    with make(*given):
        pass
    assert make(*given)(lambda: 3)() == 3
    with pytest.raises(TypeError, match=rf"{name} on a function needs parentheses: @{name}\(\)"):
        make(lambda: 3)
    with pytest.raises(TypeError):
        make(1, 2)


def test_two_threads_may_be_in_one_block() -> None:
    """Each enters while the other is inside, and the first to come is the first to go."""
    x, off, seen = leaf(1.0), minidl.no_grad(), []
    inside, out = threading.Event(), threading.Event()

    def second() -> None:
        with off:
            inside.set()
            out.wait(60)
            seen.append((x * 2).requires_grad)
        seen.append((x * 2).requires_grad)

    thread = threading.Thread(target=second)
    with off:
        thread.start()
        inside.wait(60)
    seen.append((x * 2).requires_grad)
    out.set()
    thread.join()
    assert seen == [True, False, True]


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


def test_a_block_over_a_generator_holds_for_its_values_alone() -> None:
    """As PyTorch's no_grad() does: Python's own decorator would have left it before the first value."""
    x = leaf(1.0)

    @minidl.no_grad()
    def values(n: int) -> Any:
        for i in range(n):
            yield x * i
        return "end"

    taken = []
    for y in values(3):
        taken.append((float(y), y.requires_grad, (x * 2).requires_grad))
    assert taken == [(0.0, False, True), (1.0, False, True), (2.0, False, True)]
    last = values(0)
    with pytest.raises(StopIteration) as ended:
        next(last)
    assert ended.value.value == "end"
    with pytest.raises(TypeError, match=r"seed\(0\) on a generator or an async function seeds nothing"):
        minidl.seed(0)(values)


def test_a_block_over_an_async_function_is_refused() -> None:
    """It had ended before the function ran: nothing was seeded, and everything recorded."""

    async def answer() -> float:
        return 1.0

    async def answers() -> Any:
        yield 1.0

    for function in (answer, answers):
        for make in (minidl.no_grad, minidl.no_fast, minidl.reference_only, lambda: minidl.use_threads(2)):
            with pytest.raises(TypeError, match=r"\(2?\) on an async function has ended when it runs: write `with "):
                make()(function)
        with pytest.raises(TypeError, match=r"seed\(0\) on a generator or an async function seeds nothing"):
            minidl.seed(0)(function)


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
    with pytest.warns(UserWarning, match=rf"^{name} on a Module freezes nothing: .*p.requires_grad = False$"):
        setattr(net, name, False)

    class Own(nn.Module):
        trainable = True

    Own().trainable = False


def test_the_rate_is_called_lr() -> None:
    optimizer = Adam(network().parameters())
    for use in (lambda: optimizer.learning_rate, lambda: setattr(optimizer, "learning_rate", 0.1)):
        with pytest.raises(AttributeError, match=r"^it is called lr here: optimizer.lr = 0.01$"):
            use()
    with pytest.raises(TypeError, match=r"parameters must be a list, even if there is only one: SGD\(\[w\], lr=0.1\)"):
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
    with pytest.raises(ValueError, match=r"^parameter 0: its .grad is the number 0: p.grad = None resets it$"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_of_a_scalar_may_be_a_number_of_numpy(dtype: type) -> None:
    scale = Tensor(np.array(2.0, dtype), requires_grad=True)
    optimizer = SGD([scale], lr=0.1)
    (scale * scale).backward()
    scale.grad = np.clip(scale.grad, -1, 1)  # no array: np.float32 or np.float64
    optimizer.step()
    assert scale.item() == pytest.approx(1.9)


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


# ---- operations of one's own ----


@pytest.mark.parametrize("value", [lambda x: x * x, lambda x: (x.data**2).tolist(), lambda x: 4.0])
def test_the_value_of_an_own_operation_is_an_array(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^the value of 'square' is a \w+: give an array, such as x.data \*\* 2$"):
        record("square", value(leaf([2.0])), (leaf([2.0]), lambda g: g))
    x = leaf(2.0)
    assert record("square", x.data**2, (x, lambda g: g * 2 * x.data, x)).data.shape == ()  # NumPy's number


@pytest.mark.parametrize("value", [lambda x: x > 0, lambda x: np.round(x).astype(int), lambda x: (x > 0).all()])
def test_the_value_of_an_own_operation_has_floats(value: Any) -> None:
    """Else a number that it meets would be cut to its dtype: 2.5 to True, and a mean to True."""
    x = leaf([-1.0, 2.0])
    with pytest.raises(TypeError, match=r"^the value of 'step' has dtype \w+: give floats, \(x.data > 0\).as"):
        record("step", value(x.data), (x, lambda g: g))
    y = record("step", (x.data > 0).astype(x.dtype), (x, lambda g: g)) * 2.5
    np.testing.assert_array_equal(y.data, [0, 2.5])


@pytest.mark.parametrize("vjp", [lambda g: None, lambda g: 2.0, lambda g: g * leaf([2.0]), lambda g: leaf([2.0])])
def test_the_vjp_of_an_own_operation_gives_an_array(vjp: Any) -> None:
    x = leaf([2.0])
    with pytest.raises(
        TypeError, match=r"^the vjp of 'square' returned a \w+: return an array, such as g \* 2 \* x.data"
    ):
        record("square", x.data**2, (x, vjp)).sum().backward()


def test_a_check_of_no_gradient_is_told() -> None:
    with pytest.raises(
        ValueError, match="gradcheck: no input needs a gradient: give arrays, or Tensors with requires_"
    ):
        minidl.gradcheck(lambda x: x * x, Tensor(X))


def test_a_choice_between_columns_by_a_row_is_told() -> None:
    p, y = leaf(RNG.random((6, 1))), np.array([0, 1, 0, 1, 1, 0])
    with pytest.warns(UserWarning, match=r"^where: shapes \(6, 1\) and \(6,\) give \(6, 6\)"):
        ops.where(y == 1, p, 1 - p)
    chosen = ops.where(y[:, None] == 1, p, 1 - p)
    np.testing.assert_array_equal(chosen.numpy()[:, 0], np.where(y == 1, p.data[:, 0], 1 - p.data[:, 0]))
