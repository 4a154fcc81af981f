"""Scripts of courses and textbooks, as their readers type them: what went wrong there without a word, or without help.

Right values come from NumPy or are known beforehand.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops
from minidl.elsewhere import ELSEWHERE
from minidl.optim import SGD
from tests.forms import FORMS, leaf
from tests.test_field_habits import X, Y, network

RNG = np.random.default_rng(5)

# ---- a recurrent network by hand: its states in an array of NumPy ----


def states(wx: Tensor, wh: Tensor, buffer: Any) -> Any:
    h = Tensor(np.zeros((2, 4)))
    for i in range(3):
        h = ops.tanh(np.full((2, 2), 0.1 * i) @ wx + h @ wh)
        buffer[i] = h
    return buffer


def test_a_result_that_is_put_into_an_array_is_told() -> None:
    wx, wh, out = leaf(np.full((2, 4), 0.3)), leaf(np.full((4, 4), 0.2)), leaf(np.ones((4, 1)))
    with pytest.warns(UserWarning, match=r"^array\[i\] = t of a Tensor .* ops.stack\(\[t, \.\.\.\]\) .*") as told:
        values = states(wx, wh, np.zeros((3, 2, 4)))
    assert told[0].filename == __file__
    (values @ out).sum().backward()
    assert wx.grad is None  # what the warning is of
    (ops.stack(states(wx, wh, [None] * 3)) @ out).sum().backward()
    assert np.abs(wx.grad).max() > 0.1
    np.testing.assert_allclose(out.grad, 2 * values.sum((0, 1))[:, None])


def test_a_result_in_a_stretch_of_an_array_is_told() -> None:
    t, a = leaf(np.ones(4)) * 2, np.zeros((6, 4))
    with pytest.warns(UserWarning, match=r"^array\[i\] = t "):
        a[1:2] = t
    with pytest.warns(UserWarning, match=r"^array\[i\] = t "):
        a[np.arange(6) > 3] = t
    np.testing.assert_array_equal(a.sum(1), [0, 8, 0, 0, 8, 8])


def test_values_that_are_meant_for_an_array_are_not_told() -> None:
    w, a, losses = leaf(np.ones(4)), np.zeros((2, 4)), np.zeros(2)
    t = w * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a[0], a[1] = w, t.detach()  # a copy of a weight; no gradient wanted
        losses[0] = t.sum()  # a curve
        assert np.asarray(t, np.float32).dtype == np.float32
        with minidl.no_grad():
            a[1] = t
    np.testing.assert_array_equal(a.sum(1), [4, 8])


def test_a_step_by_hand_is_not_told() -> None:
    """p.data[...] = values is what sets a weight, also where the values are computed of the weight itself."""
    w = leaf(np.ones(4))
    (w * 3).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w.data[...] = w - 0.1 * w.grad
        w.data[1:3] = (
            w[1:3] * 2
        )  # fmt: skip
    np.testing.assert_allclose(w.numpy(), [0.7, 1.4, 1.4, 0.7])


# ---- numbers without a float dtype beside float64: in micrograd's and CS231n's loops ----


def test_lists_and_whole_numbers_take_the_dtype_of_the_tensor() -> None:
    t, many = leaf(np.ones(2)), np.array([16777217, 3])  # the first of them is no float32
    np.testing.assert_array_equal((t * [0.1, 0.2]).numpy(), [0.1, 0.2])
    np.testing.assert_array_equal(([0.1, 0.2] - t).numpy(), [0.1 - 1, 0.2 - 1])
    np.testing.assert_array_equal((t * many).numpy(), many)
    np.testing.assert_array_equal((many * t).numpy(), many)
    np.testing.assert_array_equal(ops.maximum(t, [1.1, 0.1]).numpy(), [1.1, 1])
    np.testing.assert_array_equal(ops.cat([[0.1], t]).numpy(), [0.1, 1, 1])
    assert ops.mse_loss(t, [0.1, 0.2]).item() == pytest.approx((0.9**2 + 0.8**2) / 2, rel=1e-15)
    assert (Tensor(np.ones(2, np.float32)) * many).dtype == np.float32


def test_whole_numbers_are_multiplied_by_weights_of_any_dtype() -> None:
    rows, one = np.eye(4, dtype=int)[[1, 3]], np.ones((1, 1, 3, 3), int)
    for dtype in (np.float32, np.float64):
        w = Tensor(RNG.normal(size=(4, 3)).astype(dtype), requires_grad=True)
        for y in (rows @ w, ops.linear(rows, w.T), w.T @ rows.T, ops.matmul(rows.tolist(), w)):
            assert y.dtype == dtype
            np.testing.assert_array_equal(y.numpy() if y.shape == (2, 3) else y.numpy().T, w.numpy()[[1, 3]])
        assert ops.conv2d(one, Tensor(np.ones((1, 1, 2, 2), dtype))).dtype == dtype


# ---- values set by hand ----


def test_a_gradient_is_not_cut_to_whole_numbers() -> None:
    w = leaf(np.ones(3))
    w.data = np.array([1, 2, 3])
    with pytest.raises(TypeError, match=r"'mul' was replaced by int64, .*: t.data\[\.\.\.\] = values"):
        (w * 2.5).sum().backward()
    w = leaf(np.ones(3))
    w.data[...] = np.array([1, 2, 3])
    (w * 2.5).sum().backward()
    np.testing.assert_array_equal(w.grad, 2.5)


def test_data_that_is_a_tensor_is_told() -> None:
    w = leaf(np.ones(3))
    w.data = w * 2
    with pytest.raises(
        TypeError, match=r"^the .data of an input of 'mul' is a Tensor: t.data\[\.\.\.\] = u.data, not t.data = u$"
    ):
        w * w


def test_a_gradient_that_is_a_list_is_refused() -> None:
    w = leaf(np.ones(3))
    optimizer = SGD([w], lr=0.1)
    w.grad = [1, 1, 1]
    with pytest.raises(ValueError, match=r"parameter 0: its .grad is a list, not an array, \[1, 1, 1\]: p.grad = None"):
        optimizer.step()


# ---- Keras's, fastai's and scikit-learn's ways ----


def test_methods_that_no_trainer_calls_are_told() -> None:
    with pytest.warns(UserWarning, match=r"never calls Stop.on_epoch_end: an observer has .*after_epoch\(self, record"):
        type("Stop", (minidl.Observer,), {"on_epoch_end": lambda self, epoch, logs: None})
    with pytest.warns(UserWarning, match=r"never calls Hook.before_fit"):
        type("Hook", (minidl.Observer,), {"before_fit": lambda self: None, "after_step": lambda self, step: None})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("Own", (minidl.Observer,), {"after_epoch": lambda self, record: True, "once": 1, "_after_all": 2})
        own = {"after_epoch": lambda self, record: self.on_best(), "on_best": lambda self: None, "on_screen": True}
        base = type("Helps", (minidl.Observer,), own)
        type("HelpsMore", (base,), {"on_best": lambda self: True})


def test_a_pair_of_arrays_for_validation_is_answered() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    data = X.reshape(6, 2, 2), Y
    with pytest.raises(TypeError, match=r"^Trainer has no argument 'validation_data': a Trainer takes Splits"):
        minidl.Trainer(net, SGD(net.parameters()), data, validation_data=data)
    with pytest.raises(TypeError, match=r"^Conv2d has no argument 'dilation'"):
        nn.Conv2d(1, 1, 3, dilation=(1, 2))
    nn.Conv2d(1, 1, 3, dilation=(1, 1))


def test_two_inputs_of_a_trainer_are_answered() -> None:
    net = network()
    with pytest.raises(
        minidl.data.DataError, match=r"different shapes: .*; a network with several inputs needs a loop"
    ):
        minidl.Trainer(net, SGD(net.parameters()), ((X, X[:, :2]), Y))


def test_signals_before_a_batch_norm_are_told() -> None:
    signals = RNG.normal(size=(5, 3, 7)).astype(np.float32)
    with pytest.raises(
        ValueError, match=r"must have 2 axes: signals \(N, C, L\) take nn.BatchNorm2d as x\[:, :, None\]"
    ):
        nn.BatchNorm1d(3)(signals)
    y = nn.BatchNorm2d(3)(signals[:, :, None])[:, :, 0].numpy()
    np.testing.assert_allclose(y.mean((0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std((0, 2)), 1, atol=1e-4)


@pytest.mark.parametrize("name", ["loss_curve_", "partial_fit", "best_loss_"])
def test_names_of_an_estimator_are_not_taken_for_changes_in_place(name: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
    trainer = minidl.Trainer(net, SGD(net.parameters()), (X.reshape(6, 2, 2), Y))
    said = f": {ELSEWHERE[name]}" if name in ELSEWHERE else ""
    with pytest.raises(AttributeError) as error:
        getattr(trainer, name)
    assert str(error.value) == f"Trainer has no '{name}'{said}"


def test_numpys_name_of_abs_says_what_keeps_the_gradient() -> None:
    with pytest.warns(UserWarning, match=r"^np.absolute of a Tensor .*: ops.abs\(t\) keeps the gradient"):
        np.abs(leaf(np.ones(3)))


# ---- layers in a list, whose parameters were gathered by hand ----


class Stack(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(3, 3, rng=0), nn.Linear(3, 2, rng=1)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[1](self.layers[0](x).relu())


def test_a_network_is_not_saved_without_the_layers_of_a_list(tmp_path: Any) -> None:
    net = Stack()
    SGD([p for layer in net.layers for p in layer.parameters()], lr=0.1)
    for use in (net.state_dict, lambda: net.save(tmp_path / "net.safetensors"), lambda: net.load_state_dict({}),
                lambda: net.to(dtype=np.float64)):  # fmt: skip
        with pytest.raises(TypeError, match=r"^layers is a list with a Linear in it: .*nn.ModuleList"):
            use()
    assert not list(tmp_path.iterdir())
    net.layers = nn.ModuleList(net.layers)
    assert len(net.state_dict()) == 4


def test_one_image_of_several_channels_is_told() -> None:
    conv, image = nn.Conv2d(3, 2, 3, rng=0), np.zeros((3, 5, 5), np.float32)
    with pytest.raises(ValueError, match=r"\(out, C, kh, kw\): one image \(C, H, W\) is x\[None\]$"):
        conv(image)
    assert conv(image[None]).shape == (1, 2, 3, 3)
    with pytest.raises(ValueError, match=r": images without a channel axis get one with x\[:, None\]$"):
        conv(np.zeros((4, 5, 5), np.float32))


# ---- a discriminator that ends with a sigmoid, as beside PyTorch's BCELoss; NumPy's transpose ----


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("last", "word"), [(nn.Sigmoid(), "sigmoid"), (nn.Softmax(1), "softmax")])
def test_a_sigmoid_before_a_loss_that_takes_one_is_told(last: nn.Module, word: str, form: str) -> None:
    net, real = nn.Sequential(nn.Linear(4, 5, rng=0), nn.ReLU(), nn.Linear(5, 2, rng=1), last), np.ones((6, 2))
    words = rf"ends with a {word}, and the loss, cross-entropy, applies the sigmoid .*: remove the {word}"
    with FORMS[form]():
        with pytest.warns(UserWarning, match=words):
            nn.BCEWithLogitsLoss()(net(X), real)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            nn.BCEWithLogitsLoss()(net[:-1](X), real)


def test_axes_in_another_order_are_permuted() -> None:
    t = Tensor(np.zeros((2, 3, 4)))
    for use in (lambda: t.transpose(2, 0, 1), lambda: ops.transpose(t, 2, 0, 1)):
        with pytest.raises(TypeError, match=r"^transpose swaps two axes: permute\(2, 0, 1\) reorders them all"):
            use()
    assert t.permute(2, 0, 1).shape == t.numpy().transpose(2, 0, 1).shape == (4, 2, 3)


# ---- Keras's load_data(), augmentation, and a network of two outputs, in a Trainer ----


def test_a_data_set_and_its_splits_are_taken_apart() -> None:
    data = minidl.load_mnist("mnist5k")
    (x_train, y_train), (x_test, y_test) = data
    assert x_train is data.train_images
    assert y_train is data.train_labels
    assert x_test is data.test_images
    assert y_test is data.test_labels
    (x, y), val, test = splits = minidl.split(data)
    assert x is splits.train.images
    assert y is splits.train.labels
    assert val is splits.val
    assert test is splits.test


@pytest.mark.parametrize("in_place", [True, False])
def test_an_observer_may_augment_a_batch(in_place: bool) -> None:
    class Flip(minidl.Observer):
        def before_step(self, step: Any) -> None:
            if in_place:
                step.x.data[...] = step.x.data[..., ::-1].copy()
            else:
                step.x = Tensor(step.x.data[..., ::-1].copy())

    def trained(images: Any, observers: Any) -> Any:
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0))
        minidl.Trainer(net, SGD(net.parameters(), lr=0.1), (images, Y)).fit(2, observers, verbose=False)
        return net[1].weight.numpy()

    images = X.reshape(6, 2, 2).astype(np.float32)
    np.testing.assert_array_equal(trained(images, [Flip()]), trained(images[..., ::-1].copy(), []))
    assert (trained(images, [Flip()]) != trained(images, [])).any()


def test_a_network_of_two_outputs_in_a_trainer_is_told() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            self.last = nn.Linear(4, 3, rng=0)

        def forward(self, x: Tensor) -> Any:
            return self.last(x.flatten(1)), x

    net = Two()
    with pytest.raises(TypeError, match=r"unpack a network's several outputs: logits, other = net\(x\)$"):
        minidl.Trainer(net, SGD(net.parameters()), (X.reshape(6, 2, 2), Y)).fit(1, verbose=False)
