"""Habits of PyTorch's and NumPy's users that were silently wrong: each gives their value, or says what to do."""

from __future__ import annotations

import builtins
import copy
import gc
import pickle
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, no_grad, ops
from minidl.optim import SGD
from minidl.rng import repeatable

X = np.random.default_rng(0).random((6, 4), dtype=np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5, rng=0), nn.ReLU(), nn.Linear(5, 3, rng=1))


# ---- w -= lr * w.grad ----


def test_a_step_by_hand_moves_the_weights_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    net = network()
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in net.state_dict().items()})
    for _ in range(5):
        ops.cross_entropy(net(X), Y).backward()
        with no_grad():
            for p in net.parameters():
                p -= 0.5 * p.grad
                p.grad = None
        torch.nn.functional.cross_entropy(theirs(torch.from_numpy(X)), torch.from_numpy(Y)).backward()
        with torch.no_grad():
            for p in theirs.parameters():
                p -= 0.5 * p.grad
                p.grad = None
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_weights_change_in_place_where_no_gradient_is_recorded() -> None:
    w = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    same, other = w, Tensor(np.array([3.0, 5.0]), requires_grad=True)
    with no_grad():
        w += other
        w *= 2
        w -= np.array([1.0, 1.0])
        w /= 7
    assert w is same
    np.testing.assert_array_equal(w.numpy(), [1, 13 / 7])
    assert w.requires_grad
    assert w.node is None
    w.requires_grad = False  # frozen, it is no leaf that learns
    w *= 7
    np.testing.assert_allclose(same.numpy(), [7, 13])
    with pytest.raises(RuntimeError, match=r"w \+= ... on a weight that requires grad"):
        w += other  # would need other's gradient


@pytest.mark.parametrize("op", ["+=", "-=", "*=", "/="])
def test_a_weight_that_learns_is_not_changed_while_gradients_are_recorded(op: str) -> None:
    net = network()
    for p in net.parameters():
        with pytest.raises(RuntimeError) as told:
            exec(f"p {op} 2", {"p": p})
        assert f"w {op} ... on a weight that requires grad: do it inside `with no_grad():`" in str(told.value)
        assert f"w.data {op} ..." in str(told.value)


def test_a_sum_of_losses_keeps_its_gradient() -> None:
    w = Tensor(2.0, requires_grad=True)
    loss: Any = Tensor(0.0)
    before = loss
    for _ in range(3):
        loss += w * w
    loss *= 2
    loss /= 4
    loss -= 1
    loss.backward()
    assert loss.item() == 5
    assert w.grad == 6
    assert before.item() == 0


def test_state_in_a_list_is_not_left_behind_silently() -> None:
    """A momentum by hand: PyTorch changes what the list holds, here each m becomes a new one that nobody keeps."""
    torch = pytest.importorskip("torch")
    ours, theirs = [Tensor(np.zeros(3))], [torch.zeros(3)]
    for m, t in zip(ours, theirs, strict=True):
        with pytest.warns(UserWarning, match=r"t \+= ... makes a new Tensor.*: t.data \+= ... changes those") as told:
            m += 2.0
        t += 2.0
        assert told[0].filename == __file__
    assert not ours[0].numpy().any()
    for m in ours:
        m.data += 2.0  # as the warning says
    np.testing.assert_array_equal(ours[0].numpy(), theirs[0])


def test_a_part_of_a_weight_is_not_left_behind_silently() -> None:
    torch = pytest.importorskip("torch")
    w, theirs = Tensor(np.ones((3, 2)), requires_grad=True), torch.ones(3, 2, requires_grad=True)
    with no_grad(), torch.no_grad():
        row, row_there = w[0], theirs[0]
        with pytest.warns(UserWarning, match="a list or a weight that holds t keeps the old values"):
            row += 1.0
        row = w.detach()[0]
        row.data += 1.0  # as the warning says
        row_there.add_(1.0)
    np.testing.assert_array_equal(w.numpy(), theirs.detach())


def test_a_tensor_that_a_notebook_has_shown_is_no_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "t += 1.0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = Tensor(np.zeros(2))
        exec(line, {"t": t, "_oh": {3: t}})  # Out[3]
        monkeypatch.setattr(builtins, "_", t, raising=False)  # at Python's prompt
        exec(line, {"t": t})
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="a list or a weight that holds t"):
        exec(line, {"t": t, "_oh": {}})


def test_a_new_tensor_that_nobody_else_holds_is_no_slip() -> None:
    class Block(nn.Module):
        def forward(self, x: Any) -> Any:
            x += x.relu()  # the caller holds it too
            x *= 2
            y = x.tanh()
            y -= x
            return y

    with warnings.catch_warnings(), no_grad():
        warnings.simplefilter("error")
        sums, total, held = [Tensor(0.0)], Tensor(0.0), nn.Module()
        held.total = Tensor(0.0)
        for _ in range(3):
            out = nn.Sequential(Block(), Block())(X)
            out /= 2
            total += out.sum()
            sums[0] += total
            held.total -= total
    assert sums[0].item() == -held.total.item() != 0


def test_a_change_between_forward_and_backward_is_told() -> None:
    net = network()
    loss = ops.cross_entropy(net(X), Y)
    with no_grad():
        for p in net.parameters():
            p *= 0.5
    with pytest.raises(RuntimeError, match="that was changed since"):
        loss.backward()


def test_the_optimizer_goes_on_from_a_change_by_hand() -> None:
    net = network()
    optimizer = SGD(net.parameters(), lr=0.1)
    with no_grad():
        for p in net.parameters():
            p *= 0
    ops.cross_entropy(net(X), Y).backward()
    optimizer.step()
    for p in net.parameters():
        assert p.grad is not None
        np.testing.assert_array_equal(p.numpy(), -np.float32(0.1) * p.grad)


def test_values_are_not_set_by_an_index() -> None:
    x = Tensor(X.copy())
    for index in (0, (0, slice(None)), x > 0.5):
        with pytest.raises(TypeError, match=r"can't be set by index: t.data\[index\] = value .*ops.where\(mask"):
            x[index] = 0.0
    np.testing.assert_array_equal(x.numpy(), X)


# ---- gradients set to zero by hand ----


def test_gradients_set_to_zero_by_hand_are_no_slip() -> None:
    def fill(p: Tensor) -> None:
        p.grad.fill(0)

    def assign(p: Tensor) -> None:
        p.grad[...] = 0

    def times(p: Tensor) -> None:
        p.grad *= 0

    weights = []
    for clear in (fill, assign, times, lambda p: setattr(p, "grad", None)):
        net = network()
        optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                ops.cross_entropy(net(X), Y).backward()
                optimizer.step()
                for p in net.parameters():
                    clear(p)
        weights.append(net[0].weight.numpy())
    for other in weights[:-1]:
        np.testing.assert_array_equal(other, weights[-1])


def test_gradients_that_stay_are_still_told() -> None:
    net = network()
    optimizer = SGD(net.parameters(), lr=0.1)
    ops.cross_entropy(net(X), Y).backward()
    optimizer.step()
    ops.cross_entropy(net(X), Y).backward()
    with pytest.warns(UserWarning, match="gradients that the previous step already used"):
        optimizer.step()


# ---- values, with another meaning ----


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_T_turns_all_axes_round_as_numpys(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=shape)
    t = Tensor(x, requires_grad=True)
    np.testing.assert_array_equal(t.T.numpy(), x.T)
    (t.T * np.arange(x.size).reshape(x.T.shape)).sum().backward()
    np.testing.assert_array_equal(t.grad, np.arange(x.size).reshape(x.T.shape).T)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "argmax"])
def test_a_second_axis_is_not_taken_for_keepdim(name: str) -> None:
    x = Tensor(np.zeros((2, 3, 4)))
    for keepdim in (1, 2, None):
        with pytest.raises(TypeError, match=rf"^{name}: keepdim must be True or False, got {keepdim}; several axes"):
            getattr(x, name)(0, keepdim)
    assert getattr(x, name)(0, True).shape == (1, 3, 4)


def test_the_larger_of_two_arrays_is_named() -> None:
    for other in (Tensor(X), X, 0 * X):
        with pytest.raises(TypeError, match=r"^max: dim must be one or several axes, .*ops.maximum\(a, b\)"):
            ops.max(Tensor(X), other)


@pytest.mark.parametrize("name", ["max", "min"])
def test_the_largest_along_an_axis_is_no_pair(name: str) -> None:
    largest = getattr(ops, name)
    for x, dim in ((X[:2], 1), (X, 1), (X, -1), (X, np.int64(1)), (X[0], 0)):
        for keepdim in (False, True):
            found = largest(Tensor(x), dim, keepdim)
            np.testing.assert_array_equal(found.numpy(), getattr(x, name)(dim, keepdims=keepdim))
            with pytest.raises(TypeError, match=r"only the values, not PyTorch's pair .*x.argmax\(dim\)"):
                _, _ = found
            for i in (0, 1):
                with pytest.raises(TypeError, match="not PyTorch's pair"):
                    found[i]
    with pytest.raises(AttributeError, match=r"has no 'indices': t.argmax\(dim\)"):
        _ = largest(Tensor(X), 1).indices
    with pytest.raises(AttributeError, match=r"has no 'values': t.max\(dim\) and t.min\(dim\) give only the values"):
        _ = largest(Tensor(X), 1).values


def test_of_other_results_elements_are_taken() -> None:
    t = Tensor(X, requires_grad=True)
    np.testing.assert_array_equal(t.max(1)[1:3].numpy(), X.max(1)[1:3])
    np.testing.assert_array_equal(t.max(1, keepdim=True)[:, 0].numpy(), X.max(1))
    assert [row.item() for row in (t.max(1) * 2)] == [2 * value for value in X.max(1).tolist()]
    assert t.max((0, 1)).item() == t.max().item() == X.max()
    images = Tensor(np.arange(24.0).reshape(2, 3, 2, 2))
    a, b = images.max((2, 3))
    np.testing.assert_array_equal(ops.stack([a, b]).numpy(), images.numpy().max((2, 3)))
    for again in (copy.deepcopy(t.max(1)), pickle.loads(pickle.dumps(t.max(1)))):
        np.testing.assert_array_equal(again.numpy(), X.max(1))


# ---- tables: a column of pandas is reached by its index, not by places ----


class Column:
    """As a pandas.Series whose rows were shuffled: column[i] is the row that has the index i."""

    def __init__(self, values: Any, index: Any) -> None:
        self.values, self.index = np.asarray(values), np.asarray(index)
        self.dtype, self.shape, self.ndim = self.values.dtype, self.values.shape, self.values.ndim

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.values, dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: Any) -> Any:
        return Column(self.values[i], self.index[i]) if isinstance(i, slice) else self.values[np.argsort(self.index)[i]]


def test_rows_of_a_shuffled_table_keep_their_labels() -> None:
    images = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
    labels = Column([0, 1, 2, 3, 4, 5], index=[5, 3, 1, 0, 2, 4])
    assert labels[0] == 3
    for x, y in minidl.batches(images, labels, 4, np.random.default_rng(0)):
        np.testing.assert_array_equal(x.numpy()[:, 0, 0, 0] / 4, y)
    examples = minidl.Examples(images, labels)
    np.testing.assert_array_equal(examples.labels, [0, 1, 2, 3, 4, 5])
    assert minidl.Examples(images.tolist(), [0] * 6).images.shape == (6, 2, 2)
    assert minidl.Examples(Tensor(images), labels).images is images


def test_labels_of_a_table_are_looked_at() -> None:
    torch = pytest.importorskip("torch")
    net = network()
    wanted = ops.cross_entropy(net(X), Y).item()
    for labels in (Column(Y, np.arange(6)[::-1]), torch.from_numpy(Y), Y.tolist(), Y.astype(np.uint8)):
        assert ops.cross_entropy(net(X), labels).item() == wanted
    for off in (-1, 1):
        with pytest.raises(ValueError, match=rf"label {-1 if off < 0 else 3} at position .* is not in \[0, 3\)"):
            ops.cross_entropy(net(X), Column(Y + off, np.arange(6)))


@pytest.mark.pytorch
def test_a_comparison_with_a_tensor_of_pytorch_is_by_element() -> None:
    """As a DataLoader's labels: == was False as a whole, and < not supported between 'Tensor' and 'Tensor'."""
    torch = pytest.importorskip("torch")
    t, there = Tensor([0.0, 1.0, 2.0]), torch.tensor([0, 2, 2])
    for found in (t == there, there == t, ~(t != there), ~(t < there), t >= there, there <= t):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, [True, False, True])
    assert not isinstance(t == None, np.ndarray)  # noqa: E711


def test_arithmetic_of_a_column_with_a_tensor_keeps_the_gradient() -> None:
    pandas = pytest.importorskip("pandas")
    values, shuffled = np.array([0.5, 2.0, 3.0]), [2, 0, 1]
    column, table = pandas.Series(values, index=shuffled), pandas.DataFrame({"a": values, "b": -values}, index=shuffled)
    for make, derivative in (
        (lambda t: (column * t).sum(), values),
        (lambda t: ((column - t) ** 2).sum(), 2 * (1 - values)),
        (lambda t: (column / t + 1).sum(), -values),
        (lambda t: (table.T + t).sum(), 2 * np.ones(3)),
    ):
        t = Tensor(np.ones(3), requires_grad=True)
        make(t).backward()
        np.testing.assert_allclose(t.grad, derivative)
    t = Tensor([1.0, 2.0, 2.5])
    for found in (column > t, t < column):
        np.testing.assert_array_equal(found, values > t.numpy())
    assert (column == t).mean() == (t == column).mean() == 1 / 3
    with pytest.warns(UserWarning, match="a pandas product with a Tensor that needs a gradient gives only the values"):
        table.T @ Tensor(np.ones(3), requires_grad=True)


def test_a_sparse_matrix() -> None:
    x = pytest.importorskip("scipy.sparse").csr_matrix(X)
    with pytest.warns(UserWarning, match=r"a scipy product with a Tensor .* only the values: .*X.toarray\(\) @ t"):
        x @ Tensor(np.ones((X.shape[1], 2)), requires_grad=True)
    with pytest.raises(TypeError, match=r"write X.toarray\(\)"):
        network()(x)
    with pytest.raises(minidl.data.DataError, match=r"convert it with X.toarray\(\)"):
        minidl.batches(x, Y, 4)


def test_rows_that_are_no_images_stay_rows() -> None:
    x, labels = next(minidl.batches(X, Y, 4))
    assert (x.shape, labels.shape) == ((4, 4), (4,))
    np.testing.assert_array_equal(x.numpy(), X[:4])


def test_a_loader_of_pytorchs_kind() -> None:
    with pytest.raises(
        TypeError, match=r"batches has no argument 'shuffle': rng=np.random.default_rng\(seed\), made on"
    ):
        next(minidl.batches(X, Y, 4, shuffle=True))
    assert next(minidl.batches(X, Y, 4, shuffle=False))[0].shape == (4, 4)
    with pytest.raises(ValueError, match=r"rng must be np.random.default_rng\(seed\), made once .* got 0"):
        next(minidl.batches(X, Y, 4, rng=0))
    for given in ((X, Y), minidl.Examples(X, Y)):
        with pytest.raises(ValueError, match=r"split takes what load_mnist returns, not a .*Splits\(Examples\(x, y\)"):
            minidl.split(given)


# ---- seed(0) on a line of its own ----


def test_a_seed_without_a_block_is_told() -> None:
    words = r"seed\(3\) on a line of its own seeds nothing: write `with minidl.seed\(3\):`"
    with pytest.warns(UserWarning, match=words) as told:
        shown = repr(minidl.seed(3))  # what a notebook shows, and keeps, if it is a cell's last value
    assert shown == str(told[0].message)


def test_a_seed_is_a_block_or_a_decorator() -> None:
    @minidl.seed(5)
    def made() -> Any:
        return [nn.Linear(2, 2).weight.numpy() for _ in range(2)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        block = minidl.seed(5)
        for _ in range(2):
            with block:
                one = nn.Linear(2, 2).weight.numpy()
                with minidl.seed(5):
                    inner = nn.Linear(2, 2).weight.numpy()
                two = nn.Linear(2, 2).weight.numpy()
            for a, b in zip(made(), (one, two), strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(inner, one)
        del block
        gc.collect()
    with pytest.raises(ValueError, match="a seed is a whole number, 0 or more, got -1"):
        minidl.seed(-1)


@pytest.mark.parametrize("decorated", [False, True])
def test_two_threads_may_be_in_one_seed(decorated: bool) -> None:
    """The second enters while the first is inside, and the first leaves before it."""
    block, entered, leave, found = minidl.seed(5), threading.Event(), threading.Event(), []

    def enter(inside: Any) -> Any:
        if decorated:
            return block(inside)()
        with block:
            return inside()

    def draw() -> Any:
        return nn.Linear(2, 2).weight.numpy()

    def second() -> Any:
        entered.set()
        leave.wait(60)
        return draw()

    def first() -> Any:
        thread.start()
        entered.wait(60)
        return draw()

    thread = threading.Thread(target=lambda: found.append(enter(second)))
    wanted = enter(first)
    assert not repeatable(None)  # no seed holds here now
    leave.set()
    thread.join()
    np.testing.assert_array_equal(found, [wanted])


# ---- bytes ----


def test_labels_of_bytes_reach_a_module_as_they_are() -> None:
    """As an IDX file has them: for a loss that is a module, or a network that is given its class."""

    class Conditional(nn.Module):
        def __init__(self) -> None:
            self.table, self.last = nn.Parameter(np.ones((3, 2), np.float32)), nn.Linear(6, 3, rng=0)

        def forward(self, x: Tensor, labels: Any) -> Tensor:
            return self.last(ops.cat([x, self.table[labels]], 1))

    labels, logits = Y.astype(np.uint8), network()(X)
    assert nn.CrossEntropyLoss()(logits, labels).item() == ops.cross_entropy(logits, Y).item()
    net = Conditional()
    np.testing.assert_array_equal(net(X, labels).data, net(X, Y).data)
    one = (X[0] > 0.5).astype(np.uint8)  # an example of bytes
    np.testing.assert_array_equal(network()(one).data, network()(one.astype(np.float32)).data)


def test_bytes_that_nothing_scales_are_told() -> None:
    """PyTorch refuses them; here they were taken for numbers up to 255."""
    pixels = (X * 255).astype(np.uint8)
    net = network()
    with pytest.warns(
        UserWarning, match=r"given bytes up to 2\d\d, and nothing scales them: write net\(x / np.float32\(255\)\)"
    ):
        logits = net(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(logits.data, net(pixels.astype(np.float32)).data)
        net(pixels / np.float32(255))
        net((X > 0.5).astype(np.uint8))  # black and white


class Elsewhere:
    """An array of another library: NumPy's dtype or, as in PyTorch, a name; no methods of an array's."""

    def __init__(self, values: np.ndarray, dtype: Any) -> None:
        self.values, self.dtype, self.ndim = values, dtype, values.ndim

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


@pytest.mark.parametrize("prefix", ["", "torch."])
def test_arrays_of_other_libraries_are_inputs_as_numpys_are(prefix: str) -> None:
    """A data set in an HDF5 file, a batch of PyTorch's DataLoader: bytes of the one failed, of the other were taken for
    numbers up to 255."""
    net, seen = network(), []

    class Seeing(nn.Module):
        def forward(self, x: Any) -> Any:
            seen.append(x)
            return net(x)

    pixels = (X * 255).astype(np.uint8)

    def elsewhere(values: np.ndarray) -> Elsewhere:
        name = values.dtype.name
        return Elsewhere(values, f"{prefix}{name}" if prefix else values.dtype)

    with pytest.warns(UserWarning, match=r"a network is given bytes up to 2\d\d, and nothing scales them"):
        logits = Seeing()(elsewhere(pixels))
    np.testing.assert_array_equal(logits.data, net(pixels.astype(np.float32)).data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Seeing()(elsewhere((X > 0.5).astype(np.uint8)))
        np.testing.assert_array_equal(Seeing()(elsewhere(X)).data, net(X).data)
    assert all(isinstance(x, Tensor) for x in seen)
    labels = elsewhere(Y.astype(np.uint8))
    assert nn.CrossEntropyLoss()(net(X), labels).item() == ops.cross_entropy(net(X), Y).item()
