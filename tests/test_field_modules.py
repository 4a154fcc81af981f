"""Parameters, modules, loading, and changes between forward and backward: what users of other libraries reported."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, nn, no_grad, ops, optim, reference_only
from minidl.module import Parameter
from tests.forms import equal, form, leaf  # noqa: F401 (form runs by itself)
from tests.test_field_habits import X, network

# ---- parameters and modules ----


class Tied(nn.Module):
    def __init__(self) -> None:
        self.a, self.b = nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1)
        self.b.weight = self.a.weight
        self.again = self.a

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.b(self.a(x)))


def test_a_shared_parameter_comes_once() -> None:
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["a.weight", "a.bias", "b.bias"]
    assert [name for name, _ in model.named_modules()] == ["", "a", "b"]
    assert list(model.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias", "again.weight", "again.bias"]
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model(Tensor(np.ones((2, 3), np.float32))).sum().backward()
    optimizer.step()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.a.weight is twin.b.weight
        assert twin.a.weight is not model.a.weight
        model.load_state_dict(twin.state_dict())


def test_a_frozen_parameter_stays_a_parameter() -> None:
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.Linear(2, 1, rng=0))
    model[0].weight.requires_grad = False
    model.shift = Parameter(np.zeros(1, np.float32), requires_grad=False)
    names = ["0.bias", "0.weight", "1.bias", "1.weight", "shift"]
    assert sorted(name for name, _ in model.named_parameters()) == names
    assert sorted(model.state_dict()) == names
    twin = pickle.loads(pickle.dumps(model))
    assert sorted(name for name, _ in copy.deepcopy(twin).named_parameters()) == names
    assert not twin[0].weight.requires_grad
    model(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    assert model[0].weight.grad is None
    assert nn.Parameter is Parameter
    assert Parameter([1.0]).requires_grad
    assert type(Parameter([1.0])) is Tensor


def test_isinstance_tells_parameters_from_other_tensors():
    """`isinstance(p, nn.Parameter)` was a TypeError: Parameter was a function."""
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.BatchNorm1d(2))
    found = [name for _, part in model.named_modules() for name, value in vars(part).items()
             if isinstance(value, nn.Parameter)]  # fmt: skip
    assert found == [name.rpartition(".")[2] for name, _ in model.named_parameters()]
    frozen, weight = Parameter([1.0], requires_grad=False), model[0].weight
    assert isinstance(frozen, nn.Parameter)
    assert isinstance(copy.deepcopy(weight), nn.Parameter)
    for other in (model(Tensor(np.ones((2, 3), np.float32))), weight * 2, weight.data, Tensor([1.0]), None):
        assert not isinstance(other, nn.Parameter)


def test_models_are_copied_also_after_an_optimizer_was_built() -> None:
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.BatchNorm1d(2), nn.Dropout(0.5, rng=0))
    optimizer = optim.Adam(model.parameters())
    x = Tensor(np.random.default_rng(0).random((4, 3), dtype=np.float32))
    model(x).sum().backward()
    optimizer.step()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(twin.state_dict()[name], value)
        assert not np.shares_memory(twin[0].weight.data, optimizer.flat.w)
        optim.Adam(twin.parameters())


def test_what_is_no_module_is_refused() -> None:
    linear = nn.Linear(4, 3)
    for wrong, words in (
        (ops.relu, "layer 1 is not a Module but 'relu'.*nn.ReLU"),
        (nn.ReLU, r"layer 1 is the class ReLU itself: write ReLU\(...\)"),
        ([linear], "list"),
        (3, "int"),
        (None, "NoneType"),
    ):
        with pytest.raises(TypeError, match=words):
            nn.Sequential(linear, wrong)
    with pytest.raises(ValueError, match="'forward'"):
        nn.Sequential(OrderedDict(forward=linear))


def test_an_ordered_dict_names_the_layers() -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(4, 3, rng=0), act=nn.ReLU(), last=nn.Linear(3, 2, rng=0)))
    assert list(model.state_dict()) == ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert model(Tensor(np.ones((1, 4), np.float32))).shape == (1, 2)
    head = model[:2]
    assert head[0] is model.first
    assert len(head) == 2
    assert model[np.int64(-1)] is model.last
    assert model.append(nn.ReLU())[3].__class__ is nn.ReLU
    with pytest.raises(ValueError, match="'1': that name is taken"):
        nn.Sequential(OrderedDict([("1", nn.ReLU())])).append(nn.ReLU())
    with pytest.raises(ValueError, match=r"'a\.b': a dot separates names in a path"):
        nn.Sequential(OrderedDict([("a.b", nn.ReLU())]))


class Narrow(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(4, width, rng=0), nn.ReLU(), nn.Linear(width, 2, rng=1))


def test_a_part_of_a_sequential_whose_making_needs_arguments() -> None:
    net, x = Narrow(3), np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(net[:-1](x).numpy(), np.maximum(net[0](x).numpy(), 0))
    assert net[:-1][0] is net[0]
    assert type(nn.ModuleList([nn.ReLU(), nn.Tanh()])[1:]) is nn.ModuleList


def test_layers_in_a_list() -> None:
    class Net(nn.Module):
        def __init__(self, layers: Any) -> None:
            self.head, self.layers = nn.Linear(2, 2, rng=0), layers

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return self.head(x)

    def layers() -> list[nn.Linear]:
        return [nn.Linear(2, 2, rng=i) for i in range(2)]

    good = Net(nn.ModuleList(layers()))
    assert list(good.state_dict()) == [
        "head.weight", "head.bias", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"
    ]  # fmt: skip
    assert good(Tensor(np.ones((1, 2), np.float32))).shape == (1, 2)
    good.layers.append(nn.ReLU())
    assert len(good.layers) == 3
    for lost in (layers(), dict(enumerate(layers())), tuple(layers()), [Parameter([1.0])]):
        with pytest.raises(TypeError, match=r"layers is a (list|dict|tuple) with a \w+ in it.*nn.ModuleList"):
            list(Net(lost).parameters())
    again = Net(nn.ModuleList(layers()))
    again.order = [again.head]  # found elsewhere
    assert len(list(again.parameters())) == 6


# ---- load_state_dict ----


@pytest.mark.parametrize("wrong", [np.array(["a", "b"]), np.zeros(2, complex), np.array([None, 1]), np.zeros(3)])
def test_a_state_that_does_not_fit_changes_nothing(wrong: Any) -> None:
    model = nn.Linear(2, 2, rng=0)
    before = model.state_dict()
    with pytest.raises((TypeError, ValueError), match="load_state_dict: bias"):
        model.load_state_dict({"weight": np.full((2, 2), 7), "bias": wrong})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_models_own_arrays_may_change_places() -> None:
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
    first, second = (model[i].weight.numpy().copy() for i in range(2))
    views = {name: p.numpy() for name, p in model.named_parameters()}
    model.load_state_dict({**views, "0.weight": views["1.weight"], "1.weight": views["0.weight"]})
    np.testing.assert_array_equal(model[0].weight.data, second)
    np.testing.assert_array_equal(model[1].weight.data, first)


# ---- changes in place between forward and backward ----


def trained(model: nn.Module) -> Any:
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model(Tensor(np.ones((2, 2), np.float32))).sum().backward()
    return optimizer


def test_a_step_between_forward_and_backward_is_told() -> None:
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
    optimizer = trained(model)
    loss = model(Tensor(np.ones((2, 2), np.float32))).sum()
    optimizer.step()
    kept = [p.grad.copy() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=r"'linear' reads a weight of shape \(2, 2\) that was changed.*again"):
        loss.backward()
    for p, g in zip(model.parameters(), kept, strict=True):
        np.testing.assert_array_equal(p.grad, g)


def test_load_state_dict_between_forward_and_backward_is_told() -> None:
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
    loss = model(Tensor(np.ones((2, 2), np.float32))).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="load_state_dict"):
        loss.backward()


def test_operations_say_what_they_read() -> None:
    def changed(f: Any, *shapes: tuple[int, ...]) -> bool:
        """Whether backward() of f complains when all its inputs were changed."""
        inputs = [leaf(np.ones(shape)) for shape in shapes]
        loss = f(*inputs).sum()
        optimizer = optim.SGD(inputs, lr=0.1)
        for each in inputs:
            (each * 1).sum().backward()
        optimizer.step()
        try:
            loss.backward()
        except RuntimeError:
            return True
        return False

    with reference_only():
        for reads in (ops.mul, ops.div, ops.pow, ops.matmul, ops.linear):
            assert changed(reads, (2, 2), (2, 2)), reads
        for reads in (ops.log, ops.max, ops.abs, ops.gelu, lambda x: ops.clamp(x, 0)):
            assert changed(reads, (2, 2)), reads
        assert changed(ops.conv2d, (1, 1, 3, 3), (1, 1, 2, 2))
        assert changed(lambda x, w: ops.batch_norm(x, None, None, w, None, True), (2, 2), (2,))
        for does_not in (ops.add, ops.sub):
            assert not changed(does_not, (2, 2), (2, 2)), does_not
        for does_not in (
            ops.min,
            ops.exp,
            ops.relu,
            ops.sum,
            ops.mean,
            ops.sqrt,
            ops.tanh,
            ops.neg,
            ops.softmax,
            ops.var,
        ):
            assert not changed(does_not, (2, 2)), does_not


VIEWS: dict[str, Any] = {
    "T": lambda w: w.T,
    "reshape": lambda w: w.reshape(4).reshape(2, 2),
    "permute": lambda w: w.permute(1, 0),
    "unsqueeze": lambda w: w.unsqueeze(0).squeeze(0),
    "slice": lambda w: w[:, :2],
    "detach": lambda w: w.detach(),
    "of a view": lambda w: w.detach().T[:2],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("recorded", [True, False])
def test_a_view_shows_what_was_changed(view: str, recorded: bool) -> None:
    w, x = leaf(np.ones((2, 2))), leaf(np.ones((2, 2)))
    with contextlib.nullcontext() if recorded else no_grad():
        shown = VIEWS[view](w)
    loss = (x @ shown).sum() + w.sum()
    optimizer = optim.SGD([w], lr=0.1)
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="that was changed"):
        loss.backward()


def test_a_copy_does_not() -> None:
    w, x = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)))
    for copied in (w.T.reshape(2, 3), w[[0, 1]]):
        loss = (x * copied).sum()
        optimizer = optim.SGD([w], lr=0.1)
        loss.backward(retain_graph=True)
        optimizer.step()
        optimizer.zero_grad()
        loss.backward()
        equal(w.grad, np.ones((2, 3)))
        optimizer.zero_grad()


def test_a_changed_value_that_is_not_read_is_no_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2, rng=0))
    x = Tensor(np.ones((2, 2), np.float32))  # needs no gradient: that of the weight reads x alone
    optimizer = trained(model)
    loss = model(x).sum()
    optimizer.step()
    loss.backward()
    assert model[0].weight.grad is not None


def test_an_optimizer_built_between_forward_and_backward_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
    loss = model(Tensor(np.ones((2, 2), np.float32))).sum()
    optim.SGD(model.parameters(), lr=0.1)
    loss.backward()


class Attention(nn.Module):
    """Keeps its attention, to be looked at, and the mean of its inputs, which is saved."""

    def __init__(self) -> None:
        self.query, self.out = nn.Linear(3, 3, rng=0), nn.Linear(3, 2, rng=1)
        self.mean = Tensor(np.zeros(3, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = x.detach().mean(0)
        self.attention = (self.query(x) @ x.T).softmax(-1)
        return self.out(self.attention @ x)


def test_what_forward_keeps_of_its_results_is_no_weight() -> None:
    model, x = Attention(), np.random.default_rng(0).random((4, 3), np.float32)
    names = ["mean", "query.weight", "query.bias", "out.weight", "out.bias"]
    model(x)  # as a command tries it before it builds the optimizer
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        with no_grad():
            model(x)
    assert model.attention.shape == (4, 4)
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(each.state_dict()) == names
        assert [name for name, _ in each.named_parameters()] == names[1:]
        fresh = Attention()
        fresh.load_state_dict(each.state_dict())
        equal(fresh(x).numpy(), model(x).numpy())
    model.attention = nn.Parameter(np.ones(2))  # which is a weight under any name
    assert "attention" in dict(model.named_parameters())


def test_nor_is_a_result_that_was_first_kept_without_a_gradient() -> None:
    """As in a look at the loss before training: the state dict held the last batch's attention ever after."""
    model, x = Attention(), np.random.default_rng(0).random((4, 3), np.float32)
    with no_grad():
        model(x)
    model(x)
    assert list(model.state_dict()) == ["mean", "query.weight", "query.bias", "out.weight", "out.bias"]
    with no_grad():
        model(x)
    Attention().load_state_dict(model.state_dict())
    model.shift = Tensor(np.ones(3, np.float32))  # a buffer of the user's, after a call
    model(x)
    assert "shift" in model.state_dict()


def test_a_weight_that_was_computed_is_still_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2, rng=0))
    model.scale = nn.Parameter(np.ones(2, np.float32)) * 0.1
    with pytest.raises(ValueError, match="computed from others"):
        optim.SGD(model.parameters(), lr=0.1)


def test_what_is_remembered_for_the_check_keeps_nothing_alive() -> None:
    import weakref

    x = leaf(np.ones(3))
    alive = weakref.ref(x)
    loss = (x * x).sum()
    loss.backward()
    del x
    gc.collect()
    assert alive() is None


def test_backward_twice() -> None:
    x = leaf([2.0])
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    equal(x.grad, [8.0])
    with pytest.raises(RuntimeError, match=r"'sum' was freed .*: compute it again, .* pass retain_graph=True"):
        loss.backward()


def test_a_state_that_is_kept_from_step_to_step_is_detached() -> None:
    w, h = leaf([0.5]), Tensor(np.ones(1))
    h = ops.tanh(h * w)
    h.sum().backward()
    with pytest.raises(RuntimeError, match=r"'tanh' was freed by backward.* detach\(\) a state that is kept"):
        ops.tanh(h * w).sum().backward()
    ops.tanh(h.detach() * w).sum().backward()


def test_a_look_at_the_layers_that_returns_nothing_changes_nothing() -> None:
    """As a forward hook of PyTorch's; what it returns otherwise goes on."""
    net, seen = network(), []
    wanted = net(X).numpy()
    with net.watched(lambda name, layer, y: seen.append((name, y.shape))):
        np.testing.assert_array_equal(net(X).numpy(), wanted)
    assert seen == [("0", (len(X), 5)), ("1", (len(X), 5)), ("2", (len(X), 3))]
    with net.watched(lambda name, layer, y: y * 0 if name == "2" else None):
        np.testing.assert_array_equal(net(X).numpy(), 0 * wanted)
