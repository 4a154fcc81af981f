"""Layers done in one piece (fast/fuse.py), weights' gradients put in their place (linear.into), and watched layers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, nn, ops, reference_only
from minidl.backend import CPU, GPU_KERNELS, no_fast
from minidl.fast import fuse
from minidl.fast.fuse import Fused, one_by_one
from minidl.module import watchers
from minidl.nn import Conv2d, Linear, MaxPool2d, ReLU
from minidl.optim import SGD

KINDS = [(Linear, ReLU), (Conv2d, ReLU), (Conv2d, ReLU, MaxPool2d), (Conv2d, MaxPool2d, ReLU)]


def network() -> nn.Sequential:
    return nn.Sequential(
        Conv2d(1, 4, 3, padding=1, rng=0), ReLU(), MaxPool2d(2), Conv2d(4, 6, 3, rng=1), MaxPool2d(2), ReLU(),
        Conv2d(6, 2, 2, stride=2, bias=False, rng=2), ReLU(), nn.Flatten(), Linear(8, 5, rng=3), ReLU(),
        Linear(5, 3, rng=4),
    )  # fmt: skip


def images(n: int = 3) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal((n, 1, 20, 20)).astype(np.float32))


@pytest.fixture(autouse=True)
def _numpy() -> Iterator[None]:
    """The table of the forms in NumPy."""
    with no_fast():
        yield


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Fused:
    """Forms of every sequence: their operations one by one, noted as they are called."""
    forms = {kinds: one_by_one(kinds) for kinds in KINDS}
    fused = Fused(forms)
    monkeypatch.setitem(CPU.kernels, "Sequential.forward", fused)
    return fused


def shown(fused: Fused, model: nn.Sequential) -> list[str]:
    return ["-".join(type(layer).__name__ for layer in piece.layers) for piece in fused.segments(model)]


def test_the_longest_sequence_that_has_a_form_is_one_piece(pieces):
    assert shown(pieces, network()) == [
        "Conv2d-ReLU-MaxPool2d", "Conv2d-MaxPool2d-ReLU", "Conv2d-ReLU", "Flatten", "Linear-ReLU", "Linear",
    ]  # fmt: skip


def test_each_device_has_the_forms_it_is_said_to_have():
    assert list(CPU.kernels["Sequential.forward"].forms) == [(Conv2d, ReLU, MaxPool2d)]
    assert set(GPU_KERNELS["Sequential.forward"].forms) == {*KINDS, (nn.BatchNorm2d, ReLU)}


def test_a_form_gets_its_layers_arguments_in_order(pieces):
    model, x = network(), images()
    y = model(x)
    with reference_only():
        expected = model(x)
    np.testing.assert_allclose(y.data, expected.data, atol=1e-6)


def test_a_form_that_declines_leaves_it_to_the_layers(monkeypatch):
    asked: list[Any] = []
    declines = {kinds: lambda x, *args: asked.append(x) or NotImplemented for kinds in KINDS}
    with reference_only():
        expected = network()(images()).data
    monkeypatch.setitem(CPU.kernels, "Sequential.forward", Fused(declines))
    np.testing.assert_allclose(network()(images()).data, expected, atol=1e-6)
    assert len(asked) == 4


def test_the_pieces_are_found_once_until_a_layer_changes(pieces):
    model = network()
    first = pieces.segments(model)
    assert pieces.segments(model) is first
    model.train()
    model[0].stride = (1, 1)  # a form reads it at each call
    assert pieces.segments(model) is first
    setattr(model, "1", nn.Tanh())
    assert shown(pieces, model)[:3] == ["Conv2d", "Tanh", "MaxPool2d"]
    setattr(model, "1", ReLU())
    assert shown(pieces, model)[0] == "Conv2d-ReLU-MaxPool2d"
    model[1].forward = lambda x: x  # type: ignore[method-assign]
    assert shown(pieces, model)[:3] == ["Conv2d", "ReLU", "MaxPool2d"]
    del model[1].forward
    assert shown(pieces, model)[0] == "Conv2d-ReLU-MaxPool2d"
    setattr(model, "12", ReLU())
    assert shown(pieces, model)[-1] == "Linear-ReLU"


def test_a_subclass_is_taken_for_its_class_only_with_its_forward(pieces):
    class Same(ReLU):
        pass

    class Other(ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return x

    assert shown(pieces, nn.Sequential(Linear(2, 2), Same())) == ["Linear-Same"]

    class Called(ReLU):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) * 2

    assert shown(pieces, nn.Sequential(Linear(2, 2), Other())) == ["Linear", "Other"]
    assert shown(pieces, nn.Sequential(Linear(2, 2), Called())) == ["Linear", "Called"]


def test_reference_only_and_a_sequential_with_a_forward_of_its_own_go_layer_by_layer(pieces, monkeypatch):
    monkeypatch.setattr(fuse.Segment, "__call__", lambda *args: pytest.fail("a piece was called"))
    with reference_only():
        network()(images())

    class Own(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for layer in self:
                x = layer(x)
            return x

    Own(*network())(images())


def test_pieces_are_forgotten_with_their_model(pieces):
    model = network()
    model(images())
    assert len(pieces._found) == 1
    del model
    assert len(pieces._found) == 0


def test_on_a_device_every_form_is_used_and_gives_the_layers_numbers(device, monkeypatch):
    def value_and_gradients(where: str) -> list[Any]:
        model, x = network().to(where), Tensor(images().data.copy(), requires_grad=True, device=where)
        y = model(x)
        (y * y).sum().backward()
        return [y.numpy(), *(p.grad if where == "cpu" else p.grad.get() for p in model.parameters())]

    used: set[Any] = set()
    if device.backend.kernels:
        forms = GPU_KERNELS["Sequential.forward"].forms

        def noted(kinds: Any) -> Any:
            def form(*args: Any) -> Any:
                y = forms[kinds](*args)
                used.add(kinds if y is not NotImplemented else "declined")
                return y

            return form

        monkeypatch.setitem(device.backend.kernels, "Sequential.forward", Fused({k: noted(k) for k in forms}))
    with reference_only():
        expected = value_and_gradients("cpu")
    for found, wanted in zip(value_and_gradients("counting"), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert used == (set(KINDS) if device.backend.kernels else set())


# ---- watched layers ----


def test_a_watcher_sees_each_layer_in_order_and_what_it_returns_goes_on():
    model, seen = network(), []

    def see(name: str, layer: nn.Module, y: Tensor) -> Tensor:
        seen.append((name, layer, y.shape))
        return Tensor(y.data * 0) if name == "9" else y

    plain = model(images())
    with model.watched(see):
        y = model(images())
    assert [(name, layer) for name, layer, _ in seen] == list(model.named_children())
    assert seen[-1][2] == y.shape == plain.shape
    np.testing.assert_array_equal(y.data, np.broadcast_to(model[11].bias.data, y.shape))
    assert not any("forward" in vars(layer) for layer in model)
    np.testing.assert_array_equal(model(images()).data, plain.data)
    assert len(seen) == 12


def test_watchers_nest_and_another_thread_or_model_is_not_seen():
    model, other, seen = network(), network(), []

    def see(tag: str) -> Any:
        return lambda name, layer, y: seen.append(tag) or y

    with model.watched(see("outer")), model[9].watched(see("inner")):
        other(images())
        thread = threading.Thread(target=lambda: model(images()))
        thread.start()
        thread.join()
        assert seen == []
        model(images())
    assert seen == ["outer"] * 9 + ["outer", "inner"] + ["outer"] * 2
    assert watchers.get() == ()


def test_watched_blocks_may_end_in_any_order():
    """As those of two observers do, each of which begins one before a step and ends it afterwards."""
    model, seen = network(), []
    first = model.watched(lambda name, layer, y: seen.append("first") or y)
    second = model.watched(lambda name, layer, y: seen.append("second") or y)
    first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    model(images())
    second.__exit__(None, None, None)
    model(images())
    assert seen == ["second"] * 12
    assert watchers.get() == ()


def test_a_watched_model_is_itself_again_after_an_error():
    model = network()
    with pytest.raises(ZeroDivisionError), model.watched(lambda name, layer, y: 1 // 0):
        model(images())
    assert watchers.get() == ()


# ---- a weight's gradient in its place ----


def test_a_weight_used_twice_gets_both_gradients_in_its_place():
    rng = np.random.default_rng(0)
    x, w = Tensor(rng.standard_normal((4, 3))), Tensor(rng.standard_normal((3, 3)), requires_grad=True)
    with reference_only():
        ops.linear(ops.linear(x, w), w).sum().backward()
    expected, w.grad = w.grad, None
    optimizer = SGD([w], lr=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        ops.linear(ops.linear(x, w), w).sum().backward()
        np.testing.assert_allclose(w.grad, expected, rtol=1e-12)
        assert np.shares_memory(w.grad, optimizer.flat.g)
        assert w.home.free
    ops.linear(ops.linear(x, w), w).sum().backward()  # accumulated
    np.testing.assert_allclose(w.grad, 2 * expected, rtol=1e-12)


def test_the_place_is_written_straight_and_only_where_it_is_free():
    x, w = Tensor(np.ones((4, 3))), Tensor(np.ones((3, 3)), requires_grad=True)
    optimizer = SGD([w], lr=0.0)
    (_, vjp), *_ = ops.linear(x, w).node.edges
    first = vjp(np.ones((4, 3)))  # by hand, as a drawing does: nobody gives it back
    assert first is w.home.grad
    second = vjp(np.ones((4, 3)))
    assert not np.shares_memory(second, optimizer.flat.g)
    ops.linear(x, w).sum().backward()  # right all the same, and then it is free again
    np.testing.assert_array_equal(w.grad, np.full((3, 3), 4.0))
    assert np.shares_memory(w.grad, optimizer.flat.g)
    assert w.home.free
    assert vjp(np.ones((4, 3))) is not w.home.grad  # a gradient that is there is not overwritten


def test_a_backward_that_failed_in_between_does_no_harm():
    x, w = Tensor(np.ones((4, 3))), Tensor(np.ones((3, 3)), requires_grad=True)
    SGD([w], lr=0.0)

    def broken(t: Tensor) -> Tensor:
        from minidl.tensor import record

        return record("broken", t.data, (t, lambda g: 1 // 0))

    with pytest.raises(ZeroDivisionError):
        (ops.linear(broken(w * 1), w) + ops.linear(x[:3], w)).sum().backward()
    w.grad = None
    ops.linear(x, w).sum().backward()
    np.testing.assert_array_equal(w.grad, np.full((3, 3), 4.0))
