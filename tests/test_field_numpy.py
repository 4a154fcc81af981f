"""Tensors meet NumPy, and PyTorch's names: what users of other libraries reported, each with its right value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minidl import Tensor, nn, no_grad, ops
from minidl.backend import register
from minidl.data.batches import batches
from minidl.elsewhere import ELSEWHERE
from minidl.tensor import record
from tests.counting import Counting
from tests.forms import equal, form, leaf  # noqa: F401 (form runs by itself)

# ---- Tensors meet NumPy ----

T = np.arange(6.0).reshape(2, 3)


def test_numpys_functions_take_a_tensor() -> None:
    t = Tensor(T)
    for got, wanted in (
        (np.asarray(t), T), (np.array(t, np.float32), T), (np.exp(t), np.exp(T)), (np.mean(t, axis=0), T.mean(0)),
        (np.sum(t, 1), T.sum(1)), (np.argmax(t), 5), (np.std(t), T.std()), (np.max(t, axis=1), T.max(1)),
        (np.concatenate([t, t]), np.concatenate([T, T])), (np.stack([t, T]), np.stack([T, T])),
        (np.sqrt(t), np.sqrt(T)), (np.where(t > 2, t, 0), np.where(T > 2, T, 0)), (np.maximum(t, 1), np.maximum(T, 1)),
        (np.add.reduce(t), T.sum(0)),
        (np.asarray([t.sum(), t.mean()]), [15, 2.5]), (np.mean([t.sum(), t.mean()]), 8.75),
    ):  # fmt: skip
        assert isinstance(got, (np.ndarray, np.generic))
        np.testing.assert_array_equal(got, wanted)
    assert np.allclose(t, T)
    assert np.asarray(t).dtype == np.float64
    assert np.shares_memory(np.asarray(t), t.data)
    assert np.zeros_like(leaf(T)).shape == (2, 3)


def test_on_a_device_numpys_functions_say_what_to_write() -> None:
    device = Counting("counting-numpy")
    register(device.backend)
    t = Tensor(T).to("counting-numpy")
    for read in (np.asarray, np.exp, np.mean, np.argmax):
        with pytest.raises(TypeError, match=r"on the GPU: write .numpy\(\)"):
            read(t)
    for got in (t > 2, t == t, t <= device.from_host(T)):
        assert type(got) is device.array_type
        assert device.to_host(got).dtype == bool
    with pytest.raises(TypeError, match="equal: an array on the host and a Tensor on the GPU"):
        t == T  # noqa: B015
    assert f"{t.sum():.1f}" == "15.0"


def test_operators_with_arrays_on_the_left_keep_the_gradient() -> None:
    x = leaf(T)
    for y in (T * x, T + x, T - x, T / (x + 1), (T + 1) ** x, T.T @ x, np.float64(2) * x, np.float32(2) - x):
        assert isinstance(y, Tensor)
        assert y.requires_grad
    total = np.zeros((2, 3))
    total += Tensor(T)
    np.testing.assert_array_equal(total, T)


def test_a_gradient_is_not_lost_without_a_word() -> None:
    x = leaf(T)
    with pytest.warns(UserWarning, match=r"np.exp of a Tensor that needs a gradient.*minidl.ops.exp.*detach\(\)"):
        np.testing.assert_array_equal(np.exp(x), np.exp(T))
    with pytest.warns(UserWarning, match=r"np.mean"):
        np.testing.assert_array_equal(np.mean(x, axis=0), T.mean(0))
    total = np.ones((2, 3))
    with pytest.warns(UserWarning, match=r"np.subtract of .* only the values: a = a \+ t instead of a \+= t keeps"):
        total -= x
    np.testing.assert_array_equal(total, 1 - T)
    assert np.argmax(x) == 5
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(np.exp(x.detach()), np.exp(T))
    with no_grad():
        np.testing.assert_array_equal(np.exp(x), np.exp(T))


def test_pictures_of_tensors() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    figure, (left, right) = plt.subplots(1, 2)
    image = left.imshow(Tensor(T))
    np.testing.assert_array_equal(image.get_array(), T)
    counts, *_ = right.hist(Tensor(T[0]), bins=3)
    np.testing.assert_array_equal(counts, [1, 1, 1])
    (line,) = right.plot([leaf(1.0) * 2, leaf(2.0)])
    np.testing.assert_array_equal(line.get_ydata(), [2, 2])
    plt.close(figure)


def test_formats() -> None:
    loss = leaf([1.0, 2.0]).mean()
    assert f"{loss:.3f}" == "1.500"
    assert f"{loss}" == str(loss)
    assert f"{loss:>8.2e}" == "1.50e+00"
    assert int(Tensor(3.7)) == 3
    with pytest.raises(ValueError, match=r"one element.*\(2, 3\)"):
        f"{Tensor(T):.3f}"


def test_comparisons_go_element_by_element() -> None:
    t, labels = Tensor(T), np.array([[0, 9, 2], [3, 9, 9]])
    for got, wanted in (
        (t == labels, labels == T), (labels == t, labels == T), (t != labels, labels != T), (t > 2, T > 2),
        (t > -1, T > -1), (t >= T, T >= T), (t <= [0, 1, 2], T <= [0, 1, 2]), (t < Tensor(T[:1]), T[:1] > T),
        (np.float64(2) > t, T < 2),
    ):  # fmt: skip
        assert type(got) is np.ndarray
        assert got.dtype == bool
        np.testing.assert_array_equal(got, wanted)
    assert np.mean(t == labels) == 0.5
    assert leaf(1.0) < 2
    assert (t == None) is False  # noqa: E711
    assert (t == "text") is False
    assert len({t, Tensor(T), t}) == 2
    with pytest.raises(ValueError, match=r"equal: shapes \(2, 3\) and \(2,\)"):
        t == np.zeros(2)  # noqa: B015
    with pytest.raises(TypeError):
        t < "text"  # type: ignore[operator] # noqa: B015


def test_numpy_integers_are_sizes_and_dims() -> None:
    two, x = np.int64(2), Tensor(np.arange(16.0).reshape(1, 1, 4, 4))
    assert x.reshape(np.prod(x.shape)).shape == (16,)
    assert x.sum(np.int64(3)).shape == (1, 1, 4)
    assert x.sum((np.int32(2), np.int8(3))).shape == (1, 1)
    assert x.transpose(two, np.int64(3)).shape == x.permute(*np.arange(4)).shape == (1, 1, 4, 4)
    assert x.flatten(two).shape == (1, 1, 16)
    for size in (two, (2,), [2, two], (two, two)):
        assert ops.max_pool2d(x, size).shape == ops.avg_pool2d(x, size).shape == (1, 1, 2, 2)
        assert nn.MaxPool2d(size).kernel_size == (2, 2)
        assert nn.Conv2d(1, 1, size, stride=two).to(dtype=np.float64)(x).shape == (1, 1, 2, 2)
    assert nn.Linear(np.int64(3), two).weight.shape == (2, 3)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_subclasses_of_arrays() -> None:
    matrix = np.asmatrix([[1.0, 2], [3, 4]])
    x = Tensor(matrix)
    equal(x * x, [[1.0, 4], [9, 16]])
    assert type(x.data) is np.ndarray
    with pytest.raises(TypeError, match="filled"):
        Tensor(np.ma.masked_array([1.0, 2], [True, False]))


# ---- names ----


def test_operations_take_pytorchs_names() -> None:
    x = Tensor(np.random.default_rng(0).random((2, 3, 4, 4)))
    w = Tensor(np.ones((2, 3, 2, 2)))
    assert ops.max_pool2d(x, kernel_size=2, stride=2).shape == (2, 3, 2, 2)
    assert ops.avg_pool2d(x, kernel_size=2, padding=1).shape == (2, 3, 3, 3)
    assert ops.conv2d(x, weight=w, bias=Tensor(np.ones(2)), padding=1).shape == (2, 2, 5, 5)
    assert ops.sum(x, dim=1, keepdim=True).shape == x.mean(dim=1, keepdim=True).shape == (2, 1, 4, 4)
    assert x.flatten(start_dim=1, end_dim=2).shape == ops.flatten(x, 1, end_dim=-2).shape == (2, 12, 4)
    assert nn.Flatten(start_dim=2, end_dim=-1)(x).shape == (2, 3, 16)
    assert ops.linear(x, weight=Tensor(np.ones((5, 4)))).shape == (2, 3, 4, 5)
    assert ops.mse_loss(x, x.data, reduction="none").shape == x.shape
    assert ops.relu(x=x).shape == x.shape
    with pytest.raises(ValueError, match=r"flatten: start_dim 2 comes after end_dim 1"):
        ops.flatten(x, 2, 1)
    for bad in (lambda: ops.flatten(x, 4), lambda: ops.flatten(x, 0, 4), lambda: x.transpose(0, 5), lambda: x.sum(1.0)):
        with pytest.raises(ValueError, match="out of range for 4 axes"):
            bad()  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="each axis once"):
        x.sum((1, -3))


REFUSED: dict[str, Any] = {
    "dilation": lambda: nn.Conv2d(1, 2, 3, dilation=2),
    "groups": lambda: nn.Conv2d(2, 2, 3, groups=2),
    "padding_mode": lambda: nn.Conv2d(1, 2, 3, padding_mode="reflect"),
    "padding": lambda: nn.Conv2d(1, 2, 3, padding="same"),
    "positional": lambda: nn.Conv2d(1, 2, 3, 1, 1, False),
    "ceil_mode": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "return_indices": lambda: nn.MaxPool2d(2, return_indices=True),
    "count_include_pad": lambda: nn.AvgPool2d(2, count_include_pad=False),
    "divisor_override": lambda: ops.avg_pool2d(np.ones((1, 1, 2, 2)), 2, divisor_override=3),
    "track_running_stats": lambda: nn.BatchNorm2d(2, track_running_stats=False),
    "momentum": lambda: nn.BatchNorm2d(2, momentum=None),
    "eps": lambda: nn.BatchNorm2d(2, eps=0),
    "inplace": lambda: nn.ReLU(inplace=True),
    "ignore_index": lambda: ops.cross_entropy(np.ones((1, 2)), [0], ignore_index=0),
    "weight": lambda: ops.cross_entropy(np.ones((1, 2)), [0], weight=np.ones(2)),
    "reduction": lambda: ops.cross_entropy(np.ones((1, 2)), [0], reduction="batchmean"),
    "label_smoothing": lambda: ops.cross_entropy(np.ones((1, 2)), [0], label_smoothing=1.5),
    "kernel_size": lambda: ops.max_pool2d(np.ones((1, 1, 4, 4)), (2, 2, 2)),
    "stride": lambda: ops.max_pool2d(np.ones((1, 1, 4, 4)), 2, 1.5),
    "whatever": lambda: nn.Linear(2, 2, whatever=1),
    "'axis': here it is called dim": lambda: ops.sum(T, axis=0),
    "'keepdims': here it is called keepdim": lambda: Tensor(T).mean(-1, keepdims=True),
    "var has no argument 'unbiased'": lambda: Tensor(T).var(unbiased=False),
    "argmax has no argument 'axis'": lambda: Tensor(T).argmax(axis=1),
    "softmax has no argument 'axis'": lambda: ops.softmax(T, axis=1),
    "cat has no argument 'axis'": lambda: ops.cat([T, T], axis=1),
    "no argument 'num_workers': leave it out": lambda: batches(T, np.zeros(len(T), int), 2, num_workers=4),
    r"Sequential.forward\(\) takes 2 positional": lambda: nn.Sequential(nn.Linear(3, 2))(T, T),
    "do not fit shape .*numpy.float32": lambda: Tensor(T).view(np.float32),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_beyond_is_refused_by_name(name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        REFUSED[name]()


@pytest.mark.pytorch
def test_every_other_name_of_pytorch_is_refused_with_what_to_do() -> None:
    torch = pytest.importorskip("torch")
    functional = [name for name, f in vars(torch.nn.functional).items() if callable(f) and name.islower()]
    layers = [name for name, kind in vars(torch.nn).items() if isinstance(kind, type)]
    for ours, names in ((Tensor(T), dir(torch.Tensor)), (ops, functional), (ops, dir(torch)), (nn, layers)):
        for name in names:
            if not name.startswith("_") and not hasattr(ours, name):
                with pytest.raises(AttributeError, match=f"(Tensor|minidl.ops|minidl.nn) has no '{name}': .."):
                    getattr(ours, name)


def test_what_to_write_instead() -> None:
    for name, value in {
        "t.size": 6, "t.ndim": 2, "t.numpy().tolist()": T.tolist(), "t.flatten()": T.ravel(),
        "(-t).argmax(dim)": T.argmin(0),
        "(t != 0).any()": True, "ops.cat([t, t], dim)": np.concatenate([T, T]), "t.T": T.T,
        "t.clamp(min, max)": T.clip(0, 1),
    }.items():  # fmt: skip
        assert name in ELSEWHERE.values(), name
        there = {"t": Tensor(T), "ops": ops, "dim": 0, "a": Tensor(T), "b": Tensor(2.0), "min": 0, "max": 1}
        np.testing.assert_allclose(np.asarray(eval(name, there)), value)
    with pytest.raises(AttributeError, match=r"Sequential has no 'zero_grad': optimizer.zero_grad\(\)"):
        nn.Sequential().zero_grad()
    with pytest.raises(AttributeError, match=r"Linear has no 'wieght'$"):
        getattr(nn.Linear(1, 1), "wieght")  # noqa: B009
    with pytest.raises(AttributeError, match=r"no 'exp_': nothing is changed in place"):
        Tensor(T).exp_()
    with pytest.raises(AttributeError, match=r"no 'add_': w \+= u for a weight w, with no_grad\(\); else t = t \+ u"):
        Tensor(T).add_(1)


def test_what_changes_nothing_passes() -> None:
    nn.Conv2d(1, 2, 3, dilation=1, groups=1, padding_mode="zeros", device=None)
    nn.BatchNorm1d(2, affine=True, track_running_stats=True)
    nn.MaxPool2d(2, dilation=(1, 1), ceil_mode=False)
    nn.ReLU(inplace=False)
    assert ops.avg_pool2d(np.ones((1, 1, 2, 2)), 2, count_include_pad=True, ceil_mode=False).item() == 1


def test_a_last_batch_of_one() -> None:
    images, labels = np.zeros((9, 2, 2), np.uint8), np.zeros(9, int)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"more than one value per channel, x is \(1, 3\).*drop_last=True.*eval\(\)"):
        [model(x) for x, _ in batches(images, labels, 4)]
    sizes = [len(model(x)) for x, _ in batches(images, labels, 4, drop_last=True)]
    assert sizes == [4, 4]
    assert [len(y) for _, y in batches(images, labels, 3, drop_last=True, start=1)] == [3, 3]


def test_an_operation_of_ones_own_says_what_it_reads() -> None:
    def square(x: Tensor) -> Tensor:
        return record("square", x.data**2, (x, lambda g: g * 2 * x.data, x))

    x = leaf([3.0])
    loss = square(x).sum()
    module = nn.Module()
    module.x = x
    module.load_state_dict({"x": np.ones(1)})
    with pytest.raises(RuntimeError, match="'square'"):
        loss.backward()


def test_a_function_of_numpy_linalg_is_told_by_its_whole_name() -> None:
    with pytest.warns(UserWarning, match=r"^np\.linalg\.norm of a Tensor"):
        np.linalg.norm(Tensor(np.ones(3), requires_grad=True))
