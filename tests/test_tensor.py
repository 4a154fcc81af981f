"""The graph: what backward() promises, each promise against numbers worked out by hand or by finite differences."""

import gc
import threading
import weakref
from contextlib import nullcontext
from sys import maxsize
from types import SimpleNamespace

import numpy as np
import pytest

from minidl import GradientError, Tensor, gradcheck, nn, no_grad, ops
from minidl.backend import no_fast, reference_only
from minidl.tensor import Home, record


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


def test_a_tensor_keeps_a_float_array_as_it_is():
    for dtype in (np.float16, np.float32, np.float64):
        array = np.ones((2, 3), dtype)
        assert Tensor(array).data is array


@pytest.mark.parametrize("data", [1, 2.5, [1, 2], [[1.0], [2.0]], np.arange(3), np.uint8([255]), np.array([True])])
def test_numbers_lists_and_integer_arrays_become_float32(data):
    tensor = Tensor(data)
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor.data, np.asarray(data))


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match=r"real numbers.*complex128"):
        Tensor(np.array([1j]))


def test_gradient_of_a_small_expression():
    a, b = leaf(2.0), leaf(-3.0)
    (a * b + a**2 - b / a).sum().backward()
    assert a.grad == pytest.approx(-3 + 2 * 2 - 3 / 4)  # b + 2a + b/a^2
    assert b.grad == pytest.approx(2 - 1 / 2)  # a - 1/a


def test_plain_numbers_and_arrays_on_either_side():
    x = leaf(1.0, 2.0)
    y = 3 - 2 * x + np.array([1.0, 1.0]) * x + 1 / x + x / 2 + 2**x
    y.sum().backward()
    assert np.allclose(x.grad, -2 + 1 - 1 / x.data**2 + 0.5 + np.log(2) * 2**x.data)
    assert (2 * Tensor(np.float64([1.0]))).dtype == np.float64


def test_a_tensor_used_twice_gets_both_gradients():
    x = leaf(3.0)
    y = x * x  # one operation, twice
    (y + y * x).sum().backward()  # x^2 + x^3
    assert x.grad == pytest.approx(2 * 3 + 3 * 9)


def test_each_operation_is_visited_once_and_after_all_its_users():
    visits = []

    def spy(name, x):
        return record(name, x.data * 2, (x, lambda g: visits.append((name, float(g.item()))) or g * 2))

    x = leaf(1.0)
    shared = spy("shared", x)
    left, right = spy("left", shared), spy("right", spy("middle", shared))
    (left + right).sum().backward()
    assert [name for name, _ in visits].count("shared") == 1
    assert visits[-1] == ("shared", 2 + 4)  # it comes last, with the gradients of both paths in it
    assert x.grad == 12


def test_views_share_memory_and_gradients_flow_through_them():
    x = Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    view = x.reshape(4, 3).T
    assert np.shares_memory(view.data, x.data)
    (view[1] * np.array([1.0, 2.0, 3.0, 4.0])).sum().backward()
    expected = np.zeros((4, 3))
    expected[:, 1] = [1, 2, 3, 4]
    assert np.array_equal(x.grad, expected.reshape(3, 4))


def test_broadcasting_sums_the_gradient_over_the_copies():
    row, column, number = leaf(1.0, 2.0, 3.0), Tensor(np.ones((2, 1)), requires_grad=True), leaf(5.0)
    (row * column + number).sum().backward()
    assert np.array_equal(row.grad, [2, 2, 2])
    assert np.array_equal(column.grad, [[6], [6]])
    assert np.array_equal(number.grad, [6])


def test_gradients_accumulate_until_they_are_set_to_none():
    x = leaf(1.0)
    for expected in (3.0, 6.0):
        (x * 3).sum().backward()
        assert x.grad == expected
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad == 3


def test_two_leaves_never_share_one_gradient_array():
    a, b = leaf(1.0), leaf(1.0)
    (a + b).sum().backward()
    a.grad += 1
    assert b.grad == 1


def test_a_gradient_home_is_filled_in_place():
    x = leaf(1.0, 2.0)
    memory = np.full(2, np.nan)
    x.home = Home(SimpleNamespace(memory=None, views=maxsize), memory[:])
    (x * x).sum().backward()
    assert x.grad is x.home.grad
    assert np.array_equal(memory, [2, 4])
    (x * 1).sum().backward()
    assert np.array_equal(memory, [3, 5])


def test_what_an_operation_makes_has_all_that_a_tensor_has():
    x = leaf(1.0)
    for made in (x, x * 2, Tensor([1.0]) * 2):
        assert {name: hasattr(made, name) for name in Tensor.__slots__} == dict.fromkeys(Tensor.__slots__, True)
        assert made.home is None


def test_a_chain_of_ten_thousand_operations():
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + x
    y.sum().backward()
    assert x.grad == 10_001


def test_an_unused_chain_is_freed_without_recursion():
    y = x = leaf(1.0)
    for _ in range(200_000):
        y = y + 1
    del y
    assert x.grad is None


def test_backward_frees_the_graph_and_a_second_one_says_what_to_do():
    x = leaf(2.0)
    middle = x * x
    loss = middle.sum()
    alive = weakref.ref(middle)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"freed.*retain_graph=True"):
        loss.backward()
    with pytest.raises(RuntimeError, match=r"'mul' was freed"):
        (middle * 2).sum().backward()
    del middle
    assert alive() is None, "the loss keeps its intermediate values alive"


def test_no_reference_cycles_keep_a_graph_alive():
    gc.disable()
    try:
        middle = leaf(2.0) * 3
        alive = weakref.ref(middle)
        loss = middle.exp().sum()
        del middle, loss
        assert alive() is None
    finally:
        gc.enable()


def test_retain_graph_allows_a_second_backward():
    x = leaf(3.0)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad == 12


def test_retain_grad_keeps_the_gradient_of_what_an_operation_made():
    """The loss is (2x)^2 + 3(2x), so d(loss)/d(2x) = 2(2x) + 3."""
    x = leaf([1.0, -2.0])
    middle, other = x * 2, x + 1
    loss = (middle**2 + 3 * middle + 0 * other).sum()
    for t in (middle, loss, x, middle):
        t.retain_grad()
    loss.backward(retain_graph=True)
    np.testing.assert_array_equal(middle.grad, 2 * middle.data + 3)
    np.testing.assert_array_equal(x.grad, 2 * middle.grad)
    assert loss.grad == 1
    assert other.grad is None
    loss.backward()
    np.testing.assert_array_equal(middle.grad, 2 * (2 * middle.data + 3))
    with no_grad():
        evaluated = x * 2
    for lost in (Tensor([1.0]), evaluated, middle.detach()):
        with pytest.raises(RuntimeError, match=r"no input requires one, or no_grad\(\).*or detach\(\) has lost it"):
            lost.retain_grad()


def test_retain_grad_also_holds_for_what_an_addition_in_place_makes_of_it():
    """As in a residual block, y += x, where PyTorch fills in y.grad."""
    x = leaf([1.0, -2.0])
    y = x * 2
    y.retain_grad()
    y += 1
    y *= x
    (y**2).sum().backward()
    np.testing.assert_array_equal(y.grad, 2 * y.data)
    z = x * 2
    z += 1
    z.sum().backward()
    assert z.grad is None


def test_what_was_frozen_since_gets_no_gradient():
    x, w, b = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf(5.0)
    for frozen in (x, w, b):
        loss = ops.linear(x, w, b).sum()
        frozen.requires_grad = False
        loss.backward()
        grads = [None if t.grad is None else t.grad.tolist() for t in (x, w, b)]
        assert grads == [None if t is frozen else right for t, right in ((x, [[3, 4]]), (w, [[1, 2]]), (b, [1]))]
        frozen.requires_grad, x.grad, w.grad, b.grad = True, None, None, None


@pytest.mark.parametrize("name", ["linear", "conv2d"])
def test_what_is_thawed_between_two_passes_gets_the_gradient_of_the_second(name):
    shapes = {"linear": ((4, 3), (2, 3)), "conv2d": ((2, 3, 5, 5), (4, 3, 2, 2))}[name]
    x, w = (Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True) for shape in shapes)
    for frozen, other in ((x, w), (w, x)):
        y = getattr(ops, name)(x, w)
        frozen.requires_grad = False
        y.backward(np.ones(y.shape), retain_graph=True)
        frozen.requires_grad, other.grad = True, None
        y.backward(g := np.full(y.shape, 3.0), retain_graph=True)
        y.backward(g)  # the same array again
        grads = x.grad, w.grad
        x.grad = w.grad = None
        (getattr(ops, name)(x, w) * 6).sum().backward()
        for found, right in zip(grads, (x.grad, w.grad), strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-12)
        x.grad = w.grad = None


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("name", ["linear", "conv2d", "batch_norm"])
def test_an_array_that_is_filled_anew_is_another_gradient(name, loops):
    draw = np.random.default_rng(0).normal
    shapes = {"linear": ((4, 3), (2, 3)), "conv2d": ((2, 3, 5, 5), (4, 3, 2, 2)), "batch_norm": ((6, 3), (3,))}[name]
    x, w = (Tensor(draw(size=shape), requires_grad=True) for shape in shapes)

    def output():
        return ops.batch_norm(x, weight=w, training=True) if name == "batch_norm" else getattr(ops, name)(x, w)

    for resting in (None, x, w):
        with reference_only():
            (right := output()).backward(second := draw(size=right.shape))
        wanted, x.grad, w.grad = (x.grad, w.grad), None, None
        with nullcontext() if loops else no_fast():
            y, g = output(), draw(size=right.shape)
            if resting is not None:
                resting.requires_grad = False
            y.backward(g, retain_graph=True)
            x.requires_grad = w.requires_grad = True
            x.grad = w.grad = None
            g[...] = second  # as for the rows of a Jacobian, one after the other
            y.backward(g)
        for t, want in zip((x, w), wanted, strict=True):
            np.testing.assert_allclose(t.grad, want, rtol=1e-10, atol=1e-12)
            t.grad = None


@pytest.mark.parametrize("loops", [True, False])
def test_what_a_kernel_takes_besides_is_no_argument_of_the_operation(loops):
    x, w, b = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf(5.0)
    with nullcontext() if loops else no_fast(), pytest.raises(TypeError, match="positional arguments"):
        ops.linear(x, w, b, True)


def test_backward_of_an_array_needs_its_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"scalar.*\(2,\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        (x * 2).backward(np.ones(3))
    (x * 2).backward([1.0, 10.0])
    assert np.array_equal(x.grad, [2, 20])


def test_backward_without_any_leaf_that_requires_a_gradient():
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        Tensor([1.0]).backward()


def test_no_grad_records_nothing_and_ends_where_it_ends():
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2).requires_grad
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @no_grad()
    def f() -> Tensor:
        return x * 2

    assert not f().requires_grad

    @no_grad()
    def recursive(n: int) -> Tensor:
        return x * 2 if n == 0 else recursive(n - 1)

    assert not recursive(2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_leaves_other_threads_alone():
    x, seen = leaf(1.0), []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


def test_no_grad_ends_after_an_exception():
    x = leaf(1.0)
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_a_wrong_vjp_of_ones_own_operation_is_named():
    x = leaf(1.0, 2.0)
    y = record("mine", x.data * 2, (x, lambda g: g[:1]))
    with pytest.raises(ValueError, match=r"'mine' returned shape \(1,\) for an input of shape \(2,\)"):
        y.backward([1.0, 1.0])
    z = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match=r"'turned' returned shape \(3, 2\)"):
        record("turned", z.data, (z, lambda g: g.T)).backward(np.ones((2, 3)))


def test_mixed_precision_gradients_have_their_leafs_dtype():
    x, y = Tensor(np.float32([2.0]), requires_grad=True), leaf(3.0)
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64


def test_item_float_and_bool_ask_for_one_element():
    assert Tensor([2.5]).item() == 2.5
    assert bool(leaf(1.0) - 1) is False
    with pytest.raises(ValueError, match=r"\(2,\)"):
        bool(leaf(1.0, 2.0))


def test_printing_shows_values_and_origin():
    assert repr(leaf(1.0)) == "Tensor([1.], float64, requires_grad=True)"
    assert "op=mul" in repr(leaf(1.0) * 2)


# ---- gradcheck must find what is wrong ----


def test_gradcheck_accepts_what_is_right():
    assert gradcheck(lambda x, y: (x * y).exp(), [np.array([0.3, -0.2]), np.array([[1.0], [2.0]])])


def test_gradcheck_takes_a_number():
    assert gradcheck(lambda x: x * x * x, 3.0)
    with pytest.raises(GradientError, match=r"index \(\): backward\(\) gives 3, the finite difference 6"):
        gradcheck(lambda x: record("square", x.data**2, (x, lambda g: g * x.data)), 3)


def test_gradcheck_says_what_it_cannot_check():
    with pytest.raises(TypeError, match="fn must return one Tensor, this returned a ndarray"):
        gradcheck(lambda x: x.numpy() ** 2, [np.ones(2)])
    with pytest.raises(TypeError, match="this returned a tuple"):
        gradcheck(lambda x: (x, x * x), [np.ones(2)])
    drop = nn.Dropout(0.5, rng=0)
    with pytest.raises(ValueError, match=r"another output for the same inputs: net.eval\(\) turns dropout off"):
        gradcheck(drop, [np.ones(30)])
    assert gradcheck(lambda x: ops.dropout(x, 0.5, np.random.default_rng(0)), [np.ones(30)])
    assert gradcheck(drop.eval(), [np.ones(30)])


def test_gradcheck_names_input_index_and_both_numbers():
    def wrong(x, y):
        return record("wrong", x.data * y.data, (x, lambda g: g * y.data), (y, lambda g: g * x.data * [1, 1, 2]))

    with pytest.raises(GradientError, match=r"input 1, index \(2,\): backward\(\) gives .* finite difference"):
        gradcheck(wrong, [np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])])


def test_gradcheck_finds_a_missing_gradient_and_a_nan():
    with pytest.raises(GradientError, match="input 0"):
        gradcheck(lambda x: record("cut", x.data * 2, (x, lambda g: g * 0)), [np.ones(2)])
    with pytest.raises(GradientError, match="nan"):
        gradcheck(lambda x: record("nan", x.data * 2, (x, lambda g: g * np.nan)), [np.ones(2)])


@pytest.mark.parametrize("vjp", [np.ones_like, np.abs, np.square])
def test_gradcheck_finds_a_vjp_that_is_right_only_where_g_is_1(vjp):
    """A loss is a scalar, and its own gradient 1."""
    with pytest.raises(GradientError, match="input 0"):
        gradcheck(lambda x: record("same", x.data[...], (x, vjp)), [np.array(3.0)])


def test_gradcheck_finds_a_vjp_that_writes_to_g():
    """In triple(x) + w the gradient of w would be 3."""
    with pytest.raises(GradientError, match="writes to its g"):
        gradcheck(lambda x: record("triple", x.data * 3, (x, lambda g: np.multiply(g, 3, out=g))), [np.ones(2)])


def test_gradcheck_leaves_its_inputs_alone():
    x = Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    fixed = Tensor(np.array([3.0, 4.0]))
    gradcheck(lambda a, b: a * b, [x, fixed])
    assert x.grad is None
    assert np.array_equal(x.data, [1, 2])


def test_ops_module_lists_every_name_of_the_design():
    names = (
        "add sub mul div neg pow matmul sum mean max exp log relu sigmoid tanh softmax log_softmax reshape transpose "
        "flatten linear conv2d max_pool2d avg_pool2d batch_norm dropout cross_entropy mse_loss"
    )
    assert set(names.split()) <= set(ops.__all__)
    assert all(callable(getattr(ops, name)) for name in ops.__all__)
