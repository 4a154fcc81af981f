"""Values in situations that users of other libraries reported, right as in PyTorch, NumPy or by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minidl import Tensor, gradcheck, nn, ops
from tests.forms import equal, form, leaf  # noqa: F401 (form runs by itself)

NAN, INF = np.nan, np.inf

# ---- powers, and gradients that are chosen and not multiplied ----


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
class TestPow:
    def test_a_polynomial_at_zero(self) -> None:
        x = leaf([0, 1, 2])
        sum(0.5 * x**k for k in range(4)).sum().backward()  # type: ignore[union-attr]
        equal(x.grad, [0.5, 3, 8.5])

    def test_exponents_that_are_tensors(self) -> None:
        b, e = leaf([0, 0, 2]), leaf([2, 0, 3])
        (b**e).sum().backward()
        equal(b.grad, [0, 0, 12])
        equal(e.grad, [0, 0, 8 * np.log(2)])

    def test_of_two_dtypes_the_result_has_the_wider_whatever_the_exponent(self) -> None:
        for exponent in (0, 0.5, 1, 2, 3, 4):
            x = leaf([1.5, 2], np.float32)
            y = x ** Tensor(np.array(exponent, np.float64))
            y.sum().backward()
            assert (y.dtype, x.grad.dtype) == (np.float64, np.float32)
            equal(y, np.array([1.5, 2]) ** exponent)

    def test_a_number_as_exponent_gives_what_an_array_of_it_gives(self) -> None:
        for exponent in (-2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, INF, NAN):
            x, same = leaf([-2, -0.0, 0, 0.3, 5, INF, NAN]), leaf([-2, -0.0, 0, 0.3, 5, INF, NAN])
            y, wanted = x**exponent, same ** np.full(7, exponent, float)
            y.sum().backward()
            wanted.sum().backward()
            equal(y, wanted.data, rtol=1e-14)
            equal(x.grad, same.grad, rtol=1e-14)

    def test_an_infinite_base_and_an_infinite_gradient(self) -> None:
        x = leaf([INF, 0])
        (x**0).backward(np.array([1, INF]))
        equal(x.grad, [0, 0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_abs_and_clamp_choose_their_gradients() -> None:
    for f in (ops.abs, lambda t: ops.clamp(t, -1, 1)):
        x = leaf([-2, NAN, 0.5, 3])
        f(x).backward(np.array([1, INF, INF, 1]))
        equal(x.grad, [-1, 0, INF, 1] if f is ops.abs else [0, 0, INF, 0])
    x = leaf([-1, 0, 1, 3])
    y = ops.clamp(x, 1, -1)  # as in PyTorch the upper limit holds, and nothing lies between the two
    y.sum().backward()
    equal(y, [-1, -1, -1, -1])
    equal(x.grad, [0, 0, 0, 0])


def test_a_quotients_gradient_overflows_no_sooner_than_it_must() -> None:
    a, b = leaf([1e200]), leaf([1e150])
    (a / b).backward(np.array([1e260]))  # 1e260 * 1e200 / 1e150 / 1e150: its first product is beyond 1e308
    equal(b.grad, [-1e160])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_relu_chooses_its_gradient() -> None:
    for f, wanted in ((lambda y: y**0.5, [0, 0.25]), (lambda y: y.log(), [0, 0.25])):
        x = leaf([-1, 4])
        f(ops.relu(x)).sum().backward()
        equal(x.grad, wanted)
    x = leaf([-1, NAN, 2])
    y = ops.relu(x)
    y.backward(np.array([INF, 3, INF]))
    equal(y, [0, NAN, 2])
    equal(x.grad, [0, 3, INF])


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pooling_chooses_its_gradient(stride: int) -> None:
    x = leaf(np.arange(16).reshape(1, 1, 4, 4))
    y = ops.max_pool2d(x, 2, stride)
    g = np.full(y.shape, INF)
    g[0, 0, 0, 0] = NAN
    y.backward(g)
    assert np.isnan(x.grad[0, 0, 1, 1])
    assert np.isinf(x.grad).sum() == y.size - 1
    assert (x.grad == 0).sum() == 16 - y.size


def test_a_nan_comes_through_a_pooling() -> None:
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 1, 1] = NAN
    equal(ops.max_pool2d(x, 2), [[[[NAN, 0], [0, 0]]]])
    equal(ops.avg_pool2d(x, 2), [[[[NAN, 0], [0, 0]]]])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("relu", [False, True])
def test_of_several_nans_the_last_gets_the_gradient(stride: int, relu: bool) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    x[np.random.default_rng(1).random(x.shape) < 0.4] = NAN
    theirs, t = torch.tensor(x, requires_grad=True), leaf(x)
    y = torch.nn.functional.max_pool2d(theirs.relu() if relu else theirs, 2, stride)
    y.sum().backward()
    layers = [nn.ReLU(), nn.MaxPool2d(2, stride)] if relu else [nn.MaxPool2d(2, stride)]
    mine = nn.Sequential(*layers)(t)
    mine.sum().backward()
    equal(mine, y.detach().numpy())
    equal(t.grad, theirs.grad.numpy())


def test_the_border_of_a_pooling_never_wins() -> None:
    x = leaf(np.full((1, 1, 3, 3), -INF))
    y = ops.max_pool2d(x, 2, 2, 1)
    assert (y.data == -INF).all()
    y.sum().backward()
    assert x.grad.sum() == 4, "each window sends its gradient to a pixel, none to the border"
    equal(x.grad, [[[[1, 1, 0], [1, 1, 0], [0, 0, 0]]]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("learns", [False, True])
def test_an_infinite_pixel_is_felt_where_it_takes_part(learns: bool) -> None:
    x, w = Tensor(np.ones((1, 1, 4, 4)), requires_grad=learns), leaf(np.ones((1, 1, 2, 2)))
    x.data[0, 0, 3, 3] = INF
    y = ops.conv2d(x, w)
    y.backward(np.ones(y.shape))
    equal(w.grad, [[[[9, 9], [9, INF]]]])
    equal(y, np.pad([[INF]], ((2, 0), (2, 0)), constant_values=4)[None, None])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("value", [INF, NAN])
@pytest.mark.parametrize("where", ["x", "weight", "g"])
@pytest.mark.parametrize("pooled", [False, True])
def test_convolution_with_a_border_as_in_pytorch(learns: bool, value: float, where: str, pooled: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=size) for name, size in (("x", (2, 2, 6, 6)), ("weight", (3, 2, 3, 3)))}
    g = rng.normal(size=(2, 3, 3, 3) if pooled else (2, 3, 6, 6))
    (arrays | {"g": g})[where][-1, -1, 0, 0] = value
    layer = nn.Conv2d(2, 3, 3, padding=1, bias=False).to(dtype=np.float64)
    layer.weight.data[...] = arrays["weight"]
    x = Tensor(arrays["x"], requires_grad=learns)
    y = nn.Sequential(layer, *([nn.ReLU(), nn.MaxPool2d(2)] if pooled else []))(x)
    y.backward(g)
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays.values()]
    z = torch.nn.functional.conv2d(*theirs, padding=1)
    z = torch.nn.functional.max_pool2d(z.relu(), 2) if pooled else z
    z.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(layer.weight.grad, theirs[1].grad.numpy(), rtol=1e-10)
    if learns:
        np.testing.assert_allclose(x.grad, theirs[0].grad.numpy(), rtol=1e-10)


@pytest.mark.parametrize("value", [-INF, INF, NAN])
def test_batch_norm_in_evaluation_sends_gradients_past_what_is_infinite(value: float) -> None:
    x, w, b = leaf([[value, 1], [2, 3]]), leaf([2, 3]), leaf([0, 0])
    statistics = Tensor(np.zeros(2)), Tensor(np.ones(2))
    ops.batch_norm(x, *statistics, w, b, eps=1e-12).sum().backward()
    equal(x.grad, [[2, 3], [2, 3]], 1e-9)
    equal(b.grad, [2, 2])
    equal(w.grad, [value, 4], 1e-9)


# ---- values at the edges ----


def test_permute_takes_negative_dims() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert gradcheck(lambda t: ops.permute(t, -1, 0, 1) * np.arange(24.0).reshape(4, 2, 3), [x])
    equal(Tensor(x).permute(-1, 0, 1), x.transpose(-1, 0, 1))
    with pytest.raises(ValueError, match="permute"):
        ops.permute(x, 0, 1)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (0, 5), (2, 0, 5), (2, 1, 3, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_takes_any_leading_axes(shape: tuple[int, ...], bias: bool) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=shape), rng.normal(size=(4, 5)), rng.normal(size=4)
    arrays = [x, w, b][: 2 + bias]
    equal(ops.linear(*arrays), x @ w.T + b * bias, 1e-10)
    assert gradcheck(ops.linear, arrays)


def test_empty_batches() -> None:
    x = Tensor(np.zeros((0, 1, 8, 8), np.float32), requires_grad=True)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(18, 3)
    )
    y = model(x)
    assert y.shape == (0, 3)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not any(p.grad.any() for p in model.parameters())
    for op in (ops.sum, ops.exp, ops.sqrt, ops.abs):
        assert op(x).size in (0, 1)
    with pytest.warns(RuntimeWarning):
        assert np.isnan(ops.mean(x).item())
    with pytest.warns(RuntimeWarning):
        assert np.isnan(ops.mse_loss(x, x).item())


def test_numbers_without_axes() -> None:
    x = leaf(3.0)
    for y in (x.sum(0), x.mean(-1), x.max(0), x.min(), x.transpose(0, -1), x.permute(), x.squeeze()):
        equal(y, 3.0)
    equal(x.flatten(), [3.0])
    equal(x.softmax(0), 1.0)
    equal(x.log_softmax(0), 0.0)


@pytest.mark.parametrize("take", [lambda t: t.max(), lambda t: t.min(0), lambda t: t.sum(), lambda t: t.norm()])
def test_a_number_that_is_used_twice(take: Any) -> None:
    x = leaf(3.0)
    y = take(x * 1)
    (y * y).backward()
    equal(x.grad, 6.0)


def test_the_gradient_of_a_batch_of_one_may_be_written() -> None:
    for y in (leaf(np.ones((1, 4))).sum(0), leaf(np.ones((1, 4))).mean(0, keepdim=True)):
        ((_, vjp),) = y.node.edges
        assert vjp(np.ones(y.shape)).flags.writeable  # loops are compiled once more for an array that is read-only


def test_the_tails_of_activations() -> None:
    x = np.float32([-80, -40, -20, 0, 20, 40, 80])
    wide = x.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-wide))
    equal(ops.sigmoid(x), sigmoid, 2e-7)
    t = leaf(x, np.float32)
    ops.sigmoid(t).sum().backward()
    equal(t.grad[:3], (sigmoid * (1 - sigmoid))[:3], 1e-6)
    equal(ops.softmax(np.float32([-80.0, 0, -40])), np.exp([-80.0, 0, -40]) / np.exp([-80.0, 0, -40]).sum(), 2e-7)
    with np.errstate(all="raise", under="ignore"):
        big = np.float64([-1e308, 1e308])
        equal(ops.sigmoid(big), [0, 1])
        equal(ops.tanh(big), [-1, 1])
        equal(ops.softmax(big[1:]), [1])
        equal(ops.cross_entropy(np.array([[1e300, -INF, 0]]), [0]), 0.0)


def test_half_precision_is_added_in_single() -> None:
    x = np.full((400, 400), 2, np.float16)
    assert ops.mean(x).item() == 2
    equal(ops.sum(x, 0), np.full(400, 800, np.float16))
    assert ops.mse_loss(x, np.zeros_like(x)).item() == 4
    ones = Tensor(np.ones((70_000, 2), np.float16))
    with np.errstate(over="ignore"):
        assert np.isinf(ops.sum(ones, 0).data).all(), "70,000 is beyond float16"
    assert (ops.batch_norm(ones, training=True).data == 0).all()
    labels = np.zeros(70_000, int)
    assert ops.cross_entropy(ones, labels).item() == pytest.approx(np.log(2), rel=1e-3)


# ---- sums in float32 ----


def close(got: Any, exact: Any, bound: float = 2e-7) -> None:
    got = got.data if isinstance(got, Tensor) else got
    assert np.abs(got - exact).max() <= bound * np.abs(exact).max(), np.abs(got / exact - 1).max()


@pytest.fixture(scope="module")
def tall() -> Any:
    return np.random.default_rng(0).random((1_000_000, 4), dtype=np.float32)


def test_sums_of_a_million_rows(tall: Any) -> None:
    exact = tall.sum(0, dtype=np.float64)
    close(ops.sum(tall, 0), exact)
    close(ops.mean(tall, 0), exact / len(tall))
    close(ops.sum(tall.T, 1), exact)
    close(ops.sum(tall), exact.sum())
    close(ops.var(tall, 0), tall.var(0, ddof=1, dtype=np.float64), 4e-7)
    b = leaf(np.zeros(4), np.float32)
    (Tensor(tall) + b).backward(tall)
    close(b.grad, exact)


def test_the_gradient_of_a_bias_over_a_million_rows(tall: Any) -> None:
    b = leaf(np.zeros(4), np.float32)
    ops.linear(Tensor(tall[:, :1]), Tensor(np.ones((4, 1), np.float32)), b).backward(tall)
    close(b.grad, tall.sum(0, dtype=np.float64))


def test_the_gradient_of_a_bias_over_a_million_pixels(tall: Any) -> None:
    images = np.ascontiguousarray(tall.reshape(100, 100, 100, 4).transpose(0, 3, 1, 2))
    b = leaf(np.zeros(4), np.float32)
    ops.conv2d(Tensor(images[:, :1]), Tensor(np.ones((4, 1, 1, 1), np.float32)), b).backward(images)
    close(b.grad, tall.sum(0, dtype=np.float64))


@pytest.mark.parametrize("shape", [(100_000, 3), (500, 3, 30, 30)])
def test_batch_norm_of_a_constant(shape: tuple[int, ...]) -> None:
    x = Tensor(np.full(shape, 7.3, np.float32))
    mean, var = Tensor(np.zeros(3, np.float32)), Tensor(np.ones(3, np.float32))
    assert np.abs(ops.batch_norm(x, mean, var, training=True, momentum=1.0).data).max() <= 8e-6
    equal(mean, np.full(3, 7.3, np.float32))
    assert (var.data == 0).all()


def test_batch_norms_variance_far_from_zero() -> None:
    x = (np.random.default_rng(0).normal(1000, 0.1, (50_000, 2))).astype(np.float32)
    wide = x.astype(np.float64)
    mean, var = Tensor(np.zeros(2, np.float32)), Tensor(np.ones(2, np.float32))
    y = ops.batch_norm(x, mean, var, training=True, momentum=1.0).data
    close(mean, wide.mean(0))
    close(var, wide.var(0, ddof=1), 2e-6)
    assert np.abs(y - (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)).max() < 5e-4  # one float32 step of the mean


# ---- dtypes ----


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(4)])
def test_a_layer_of_another_dtype_is_refused(layer: nn.Module) -> None:
    x = Tensor(np.ones((2, 4) if isinstance(layer, nn.Linear) else (2, 4, 1, 1)))
    with pytest.raises(TypeError, match=r"float64 on the cpu and float32 on the cpu: convert .*model.to\(dtype"):
        layer(x)
    with pytest.raises(TypeError, match=r"matmul: float64.*float32"):
        ops.matmul(np.ones((2, 2)), np.ones((2, 2), np.float32))
    assert (Tensor(np.ones(2)) * np.ones(2, np.float32)).dtype == np.float64, "element by element they mix, as in NumPy"


def test_a_numpy_number_takes_the_dtype_of_the_tensor() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        x = Tensor(np.ones(2, dtype))
        for number in (2, 0.5, np.float64(0.5), np.float32(0.5), np.int64(2)):
            assert (x * number).dtype == (number * x).dtype == (x / number).dtype == dtype
