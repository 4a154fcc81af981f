"""The flat vector that parameters become views of, and clipping, which acts on all of it."""

import copy
import warnings

import numpy as np
import pytest

from minidl import Tensor, nn, ops, seed
from minidl.optim import (
    SGD,
    Adam,
    FlatParameters,
)
from minidl.optim.rule import clip
from minidl.optim.subnormal import flush
from tests.test_optim import RULES, START, feed, parameters, values

# ---- the flat vector ----


def test_parameters_become_views_and_keep_values_and_gradients():
    params = parameters()
    feed(params, range(8))
    flat = FlatParameters(params)
    np.testing.assert_array_equal(flat.w, START)
    np.testing.assert_array_equal(flat.g, range(8))
    params[1].data[0] = 7.0
    assert flat.w[6] == 7.0
    assert all(np.shares_memory(p.data, flat.w) and np.shares_memory(p.grad, flat.g) for p in params)


def test_backward_writes_straight_into_g():
    params = parameters()
    optimizer = SGD(params)
    for set_to_none in (True, False):
        optimizer.zero_grad(set_to_none)
        assert params[0].grad is None
        ops.mul(params[1], [2.0, 3.0]).sum().backward()
        assert params[1].grad is params[1].home.grad
        np.testing.assert_array_equal(optimizer.flat.g[6:], [2.0, 3.0])


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_leaves_a_gradient_that_is_not_there(set_to_none):
    params = parameters()
    optimizer = SGD(params)
    params[0].grad = np.ones((2, 3))
    optimizer.zero_grad(set_to_none)
    assert params[1].grad is None
    if set_to_none:
        assert params[0].grad is None
    else:
        np.testing.assert_array_equal(params[0].grad, np.zeros((2, 3)))


@pytest.mark.parametrize("forget", [lambda net, optimizer: optimizer.zero_grad(), lambda net, _: [
    setattr(p, "grad", None) for p in net.parameters()
]])  # fmt: skip
def test_a_gradient_that_is_kept_stays_as_it_was(forget):
    """Two tasks' gradients, each kept as it is, as gradient surgery does (Yu et al. 2020, PCGrad): all numbers are
    those of a network without an optimizer, and the vector is the same one as long as nothing is kept."""
    with seed(0):
        net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2, bias=False))
    bare, rng = copy.deepcopy(net), np.random.default_rng(0)
    optimizer = SGD(net.parameters(), 0.1)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    for keep in (False, True):
        vector = optimizer.flat.g
        kept, wanted = [], []
        for power in (2, 3, 4):
            forget(net, optimizer)
            (net(x) ** power).mean().backward()
            for p in bare.parameters():
                p.grad = None
            (bare(x) ** power).mean().backward()
            kept.append([p.grad if keep else p.grad.copy() for p in net.parameters()])
            wanted.append([p.grad for p in bare.parameters()])
        for found, expected in zip(kept, wanted, strict=True):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)
        assert (optimizer.flat.g is vector) is not keep
    weights = [p.numpy().copy() for p in net.parameters()]
    for p, g in zip(net.parameters(), kept[0], strict=True):
        p.grad = g
    optimizer.step()
    for p, w, g in zip(net.parameters(), weights, kept[0], strict=True):
        np.testing.assert_allclose(p.numpy(), w - np.float32(0.1) * g, rtol=1e-6)


@pytest.mark.parametrize("view", [np.ravel, np.transpose, lambda g: g[1], lambda g: g])
def test_a_view_of_a_gradient_that_is_kept_stays_too(view):
    """As for the angle between two steps' gradients. The loss is the sum of x w^T: its gradient, x in each row."""
    layer = nn.Linear(3, 2, rng=0)
    optimizer = SGD(layer.parameters(), 0.1)
    kept, x = [], np.float32([[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]]])
    for each in x:
        optimizer.zero_grad()
        layer(each).sum().backward()
        kept.append(view(layer.weight.grad))
        optimizer.step()
    for g, each in zip(kept, x, strict=True):
        np.testing.assert_array_equal(g, view(np.repeat(each, 2, 0)))


def test_a_kept_gradient_stays_while_its_weight_rests():
    a, b = (nn.Parameter(np.ones(2, np.float32)) for _ in range(2))
    optimizer = SGD([a, b], 0.1)
    (a * 3).sum().backward()
    kept = a.grad
    optimizer.zero_grad()
    (b * 4).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(kept, [3, 3])
    np.testing.assert_array_equal(a.numpy(), [1, 1])
    np.testing.assert_allclose(b.numpy(), [0.6, 0.6], rtol=1e-6)


def test_replaced_data_is_an_error_that_teaches():
    params = parameters()
    optimizer = SGD(params)
    params[1].data = np.zeros(2)
    with pytest.raises(RuntimeError, match=r"parameter 1, shape \(2,\).*\.data\[\.\.\.\] = values"):
        optimizer.step()


def test_step_leaves_the_gradient_alone():
    for name, (make, *_) in RULES.items():
        params = parameters()
        feed(params, START)
        make(params).step()
        np.testing.assert_array_equal(np.concatenate([p.grad.ravel() for p in params]), START, err_msg=name)


def test_same_list_shares_the_vector_and_another_list_takes_over():
    params = parameters()
    first, second = SGD(params), Adam(params)
    assert first.flat is second.flat
    third = SGD(params[:1])
    assert third.flat is not first.flat
    with pytest.raises(RuntimeError, match=r"parameter 0.*taken over"):
        second.step()
    with pytest.warns(UserWarning, match="found no gradient"):
        third.step()


def test_optimizer_survives_a_move_that_moves_nothing():
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    optimizer = SGD(model.parameters(), lr=1.0)
    model.to("cpu")
    before = model[0].bias.numpy().copy()
    model(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(model[0].bias.numpy(), before - 1)
    assert model[0].bias.grad is optimizer.flat._homes[1].grad


def test_copy_of_a_model_is_free():
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    SGD(model.parameters())
    other = copy.deepcopy(model)
    assert other[0].weight.home is None
    assert not np.shares_memory(other[0].weight.data, model[0].weight.data)


@pytest.mark.parametrize("shown", [lambda w: w, lambda w: w.T, lambda w: w[:2]])
def test_weights_that_are_tied_by_their_memory_are_told(shown):
    """In PyTorch, decoder.weight.data = encoder.weight.data.T keeps them tied."""
    first, other = Tensor(np.ones((3, 4)), requires_grad=True), Tensor(np.ones(5), requires_grad=True)
    second = Tensor(shown(first.data), requires_grad=True)
    with pytest.warns(
        UserWarning, match=r"two parameters, of shapes .*, share memory, and the optimizer separates them"
    ):
        SGD([first, other, second])
    wide = np.ones((3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SGD([first, second])  # other stretches of the first optimizer's vector
        SGD([Tensor(part, requires_grad=True) for part in (wide[:, :2], wide[:, 2:])])


def test_a_parameter_that_comes_twice_is_taken_once():
    a, b = parameters()
    optimizer = SGD([a, b, a], lr=1.0)
    assert optimizer.flat.params == [a, b]
    feed([a, b], [1.0] * 8)
    before = values([a, b])
    optimizer.step()
    np.testing.assert_array_equal(values([a, b]), before - 1)
    assert SGD([a, b]).flat is optimizer.flat
    assert SGD([("first", a), ("second", b)]).flat is optimizer.flat, "named_parameters() will do"


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (lambda: [], ValueError, "at least one parameter"),
        (lambda: 0.1, TypeError, "parameters come first, got 0.1"),
        (lambda: [np.zeros(3)], TypeError, "parameter 0 is a ndarray"),
        (lambda: [Tensor([1.0])], ValueError, "requires_grad=True"),
        (lambda: [parameters()[0] * 2], ValueError, "computed from others"),
        (
            lambda: [parameters()[0], parameters(np.float32)[1]],
            ValueError,
            r"float64 on cpu, parameter 1, shape \(.*\), is float32 .*np.ones\(n, np.float32\) float32",
        ),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        SGD(params())


def test_gradient_of_wrong_shape():
    params = parameters()
    optimizer = SGD(params)
    params[0].grad = np.zeros(3)  # would broadcast
    with pytest.raises(ValueError, match=r"parameter 0.*\(3,\).*\(2, 3\)"):
        optimizer.step()


def test_unbound_rule_says_what_to_do():
    for call in (Adam().step, Adam().zero_grad, SGD().state_dict):
        with pytest.raises(RuntimeError, match=r"has no parameters: write .*Hybrid\(model.parameters\(\)"):
            call()


# ---- clipping ----


def test_clip_by_hand():
    g = np.array([3.0, 4.0])
    clip(g, 1.0)
    np.testing.assert_allclose(g, [3 / 5.000001, 4 / 5.000001], rtol=1e-15)
    small = np.array([3.0, 4.0])
    clip(small, 6.0)
    np.testing.assert_array_equal(small, [3.0, 4.0])


@pytest.mark.pytorch
@pytest.mark.parametrize("max_norm", [0.1, 3.0, 100.0])
def test_clip_is_pytorchs(max_norm):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    p = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor(START, dtype=torch.float64)
    torch.nn.utils.clip_grad_norm_([p], max_norm)
    params = parameters()
    optimizer = SGD(params, lr=1.0, max_norm=max_norm)
    feed(params, START)
    before = values(params)
    optimizer.step()
    np.testing.assert_allclose(before - values(params), p.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_vectors_begin_with_a_line_of_the_cache(dtype):
    for _ in range(5):
        optimizer = Adam([Tensor(np.ones((37, 1001), dtype), requires_grad=True)])
        for vector in (optimizer.flat.w, optimizer.flat.g, optimizer.m, optimizer.v, optimizer.keep_step()):
            assert vector.ctypes.data % 64 == 0
            assert (vector.shape, vector.dtype) == ((37037,), dtype)
            assert vector.flags.writeable
        assert not optimizer.m.any()


# ---- subnormal numbers ----


@pytest.mark.parametrize("make", [Adam, lambda params: SGD(params, lr=0.1, momentum=0.9)])
def test_momentum_does_not_get_stuck_below_the_smallest_normal_number(make):
    weight = Tensor(np.ones(3, np.float32), requires_grad=True)
    optimizer = make([weight])
    vector = "m" if isinstance(optimizer, Adam) else "v"
    stuck = np.float32(1.0)  # what the formula alone does: 0.9 times itself, for ever above zero
    for step in range(2000):
        weight.grad = np.array([float(step == 0), 0, 1], np.float32)
        optimizer.step()
        stuck *= np.float32(0.9)
    assert 0 < stuck < np.finfo(np.float32).tiny
    momentum = getattr(optimizer, vector)
    assert momentum[0] == momentum[1] == 0
    assert momentum[2] == pytest.approx(1 if vector == "m" else 10, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flush_keeps_every_normal_number(dtype):
    tiny = np.finfo(dtype).tiny
    v = np.array([0, tiny, -tiny, tiny / 2, -tiny / 2, np.finfo(dtype).smallest_subnormal, 1, -1, np.inf], dtype)
    flush(v)
    np.testing.assert_array_equal(v, np.array([0, tiny, -tiny, 0, 0, 0, 1, -1, np.inf], dtype))


@pytest.mark.pytorch
@pytest.mark.parametrize(("eps", "flushes"), [(1e-8, True), (1e-10, True), (1e-12, False), (1e-30, False)])
def test_flush_waits_where_eps_is_tiny(eps, flushes):
    """With eps 1e-30 a subnormal v decides the step: PyTorch's weights, after any number of steps."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    weight, theirs = Tensor(np.zeros(2, np.float32), requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer, adam = Adam([weight], eps=eps), torch.optim.Adam([theirs], eps=eps)
    assert optimizer.flushes == flushes
    for _ in range(70):
        weight.grad, theirs.grad = np.array([3e-19, 1.0], np.float32), torch.tensor([3e-19, 1.0])
        optimizer.step()
        adam.step()
        np.testing.assert_allclose(weight.numpy(), theirs.detach().numpy(), rtol=1e-3)
