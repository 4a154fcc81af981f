"""The study's baselines that average or look tensor by tensor, each against a plain loop and PyTorch."""

import math

import numpy as np
import pytest

from minidl.optim import SWATS, Adam
from minidl.optim.average import AveragedAdam
from minidl.optim.schedule_free import ScheduleFree
from minidl.optim.swats_tensors import TensorSWATS
from minidl.tensor import Tensor

SHAPES = ((3, 4), (5,))
SIZE = 17


def steps(optimizer, params, count, seed=1, curvature=None):
    """Yield after each step on gradients that are drawn, or those of a noisy parabola."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        optimizer.zero_grad()
        for p in params:
            drawn = rng.normal(0, 1, p.shape)
            p.grad = drawn if curvature is None else curvature * p.data + 1e-9 * drawn
        optimizer.step()
        yield np.concatenate([p.data.ravel() for p in params])


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return [Tensor(rng.normal(0, 1, shape), requires_grad=True) for shape in SHAPES]


def gradients(count, seed=1):
    rng = np.random.default_rng(seed)
    return [np.concatenate([rng.normal(0, 1, shape).ravel() for shape in SHAPES]) for _ in range(count)]


def test_schedule_free_is_algorithm_1(params):
    """Defazio et al. 2024, written out in plain floats: y is trained, x is what is evaluated."""
    z = np.concatenate([p.data.ravel() for p in params]).tolist()
    x, v, squares = list(z), [0.0] * SIZE, 0.0
    optimizer = ScheduleFree(params, lr=0.1, betas=(0.9, 0.99))
    for t, (g, y) in enumerate(zip(gradients(20), steps(optimizer, params, 20), strict=True), 1):
        rate = 0.1 * math.sqrt(1 - 0.99**t)
        squares += rate**2
        for i in range(SIZE):
            v[i] = 0.99 * v[i] + 0.01 * g[i] ** 2
            z[i] -= rate * g[i] / (math.sqrt(v[i]) + 1e-8)
            x[i] += rate**2 / squares * (z[i] - x[i])
        np.testing.assert_allclose(y, [0.1 * a + 0.9 * b for a, b in zip(z, x, strict=True)], rtol=1e-12)
        with optimizer.averaged():
            np.testing.assert_allclose(np.concatenate([p.data.ravel() for p in params]), x, rtol=1e-12)
        np.testing.assert_array_equal(np.concatenate([p.data.ravel() for p in params]), y)


def test_schedule_free_starts_from_weights_loaded_after_it_was_built(params):
    optimizer = ScheduleFree(params, lr=0.1)
    for p in params:
        p.data[...] = 5.0
    with optimizer.averaged():
        assert all((p.data == 5.0).all() for p in params)
    for p in params:
        p.grad = np.zeros(p.shape)
    optimizer.step()
    with optimizer.averaged():
        assert all((p.data == 5.0).all() for p in params)


def test_an_averaged_adam_moves_as_adam_and_averages_as_pytorch(params):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    plain = [Tensor(p.data.copy(), requires_grad=True) for p in params]
    averaged, adam = AveragedAdam(params, lr=0.1, decay=0.8), Adam(plain, lr=0.1)
    shadow = torch.nn.Module()
    shadow.w = torch.nn.Parameter(torch.zeros(SIZE, dtype=torch.float64))
    ema = torch.optim.swa_utils.AveragedModel(shadow, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8))
    ema.n_averaged += 1  # PyTorch begins with the first weights; begin with zeros, and divide, as Adam's moments do
    for t, (w, own) in enumerate(zip(steps(averaged, params, 15), steps(adam, plain, 15), strict=True), 1):
        np.testing.assert_array_equal(w, own)
        shadow.w.data = torch.from_numpy(w)
        ema.update_parameters(shadow)
        with averaged.averaged():
            now = np.concatenate([p.data.ravel() for p in params])
        np.testing.assert_allclose(now, ema.module.w.data.numpy() / (1 - 0.8**t), rtol=1e-12)


@pytest.mark.parametrize("make", [ScheduleFree, AveragedAdam, TensorSWATS])
def test_saved_and_gone_on_with(make, params):
    twin = [Tensor(p.data.copy(), requires_grad=True) for p in params]
    whole, first = make(params, lr=0.05), make(twin, lr=0.05)
    expected = list(steps(whole, params, 12))[-1]
    list(steps(first, twin, 12))
    np.testing.assert_array_equal(np.concatenate([p.data.ravel() for p in twin]), expected)
    saved = first.state_dict()
    third = [Tensor(p.data.copy(), requires_grad=True) for p in twin]
    second = make(third, lr=0.05)
    second.load_state_dict(saved)
    a, b = (list(steps(o, ps, 5, seed=9))[-1] for o, ps in ((first, twin), (second, third)))
    np.testing.assert_array_equal(a, b)
    if make is TensorSWATS:
        assert second.lam == first.lam


def test_an_average_wants_its_own_state(params):
    with pytest.raises(ValueError, match=r"the state has the vectors \[\], this optimizer needs \['average'\]"):
        AveragedAdam(params).load_state_dict(Adam(params).state_dict())


def allclose_switch(grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-9):
    """The step and the rate of the switch as the public packages decide, tensor by tensor, in plain floats."""
    sizes = [math.prod(s) for s in SHAPES]
    stretches = [range(0, sizes[0]), range(sizes[0], SIZE)]
    m, a, lam = [0.0] * SIZE, [0.0] * SIZE, [0.0, 0.0]
    for k, g in enumerate(grads, 1):
        p = []
        for i in range(SIZE):
            m[i] = b1 * m[i] + (1 - b1) * g[i]
            a[i] = b2 * a[i] + (1 - b2) * g[i] ** 2
            p.append(-lr * math.sqrt(1 - b2**k) / (1 - b1**k) * m[i] / (math.sqrt(a[i]) + eps))
        for j, stretch in enumerate(stretches):
            gamma = sum(p[i] ** 2 for i in stretch) / -sum(p[i] * g[i] for i in stretch)
            lam[j] = b2 * lam[j] + (1 - b2) * gamma
            corrected = lam[j] / (1 - b2**k)
            if k > 1 and corrected > 0 and abs(corrected - gamma) <= 1e-8 + 1e-6 * abs(gamma):
                return k, (1 - b1) * corrected
    return None


def test_the_first_tensor_that_settles_switches_all():
    """A constant gradient on the second tensor: its gamma is lr / |g| from the first step on."""
    rng = np.random.default_rng(3)
    params = [Tensor(rng.normal(0, 1, shape), requires_grad=True) for shape in SHAPES]
    optimizer, grads = TensorSWATS(params, lr=0.01), []
    for _ in range(4):
        params[0].grad, params[1].grad = rng.normal(0, 1, SHAPES[0]), np.full(SHAPES[1], 0.5)
        grads.append(np.concatenate([p.grad.ravel() for p in params]))
        optimizer.step()
    step, rate = allclose_switch(grads)
    assert optimizer.switch_event is not None
    assert (optimizer.switch_event.step, step) == (2, 2)
    assert optimizer.switch_event.lr == pytest.approx(rate, rel=1e-9)
    assert optimizer.phase == "sgd"
    whole = SWATS([Tensor(rng.normal(0, 1, shape), requires_grad=True) for shape in SHAPES], lr=0.01)
    for g in grads:
        for p, part in zip(whole.flat.params, (g[:12].reshape(3, 4), g[12:]), strict=True):
            p.grad = part.copy()
        whole.step()
    assert whole.switch_event is None  # over the whole vector, nothing has settled


def test_it_does_not_switch_where_no_tensor_settles(params):
    optimizer = TensorSWATS(params, lr=0.01)
    list(steps(optimizer, params, 30))
    assert optimizer.switch_event is None
    assert allclose_switch(gradients(30)) is None


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_rate_is_the_tensors_whatever_the_whole_vector_says(decay):
    """The first tensor's step goes uphill, so the whole vector's Lambda is negative; the decay stays as it was."""
    params = [Tensor(np.full(shape, 0.5), requires_grad=True) for shape in SHAPES]
    optimizer = TensorSWATS(params, lr=0.01, weight_decay=decay)
    for first in (9.0, -1.0):
        params[0].grad, params[1].grad = np.full(SHAPES[0], first), np.full(SHAPES[1], 0.5)
        optimizer.step()
    assert optimizer.projection.lambdas[-1] < 0
    assert optimizer.switch_event.step == 2
    assert optimizer.lr == pytest.approx(0.1 * 0.01 / 0.5, rel=1e-6)  # gamma of a constant gradient is lr / |g|
    before = params[1].data.copy()
    params[0].grad, params[1].grad = np.zeros(SHAPES[0]), np.zeros(SHAPES[1])
    optimizer.step()
    np.testing.assert_allclose(params[1].data, before * (1 - 0.01 * decay), rtol=1e-6)
