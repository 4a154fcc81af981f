"""SWATS beside Algorithm 1 by hand: the same steps, the same switch, the same rate.

And the traps of published versions: each makes a test here fail if it is built in.
"""

import json
import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest

from minidl import Tensor
from minidl.optim import SGD, SWATS, Adam, AfterSteps, Hybrid, Projected
from minidl.optim.projection import Projection, dot64
from minidl.optim.schedule import exponential
from tests import textbook

# A bowl whose projected rate converges: the steep weight soon rests, and then the two that are far away with an all but
# constant gradient rule the projection.
H = [10.0, 1e-6, 2e-6]
START = [1.0, 1e6, -4e5]


def bowl(w):
    return [h * x for h, x in zip(H, w, strict=True)]


NOISE = np.random.default_rng(3).normal(size=(2000, 3)).tolist()


def noisy(w, k):
    return [x - 1 + n for x, n in zip(w, NOISE[k], strict=True)]


def parameters(dtype=np.float64, start=START):
    """Two tensors, so that a projection tensor by tensor differs from the whole one."""
    return [Tensor(np.array(start[:1], dtype), True), Tensor(np.array(start[1:], dtype), True)]


def values(params):
    return np.concatenate([p.numpy() for p in params])


def step(optimizer, params, g):
    g = np.array(g, params[0].dtype)
    params[0].grad, params[1].grad = g[:1], g[1:]
    optimizer.step()


def both(steps, gradient, start=START, **arguments) -> Iterator[tuple[SWATS, textbook.Swats]]:
    """SWATS and the textbook side by side, each with the gradient at its own weights; their weights must agree."""
    params = parameters(start=start)
    ours = SWATS(params, **arguments)
    b1, b2 = arguments.pop("betas", (0.9, 0.999))
    arguments["wd"] = arguments.pop("weight_decay", 0.0)
    theirs = textbook.Swats(start, b1=b1, b2=b2, **arguments)
    for k in range(steps):
        step(ours, params, gradient(values(params).tolist(), k))
        theirs.step(gradient(theirs.w, k))
        np.testing.assert_allclose(values(params), theirs.w, rtol=1e-11, atol=1e-11)
        assert (ours.phase, ours.t) == (theirs.phase, theirs.k)
        yield ours, theirs


def last(pairs):
    """Go through all steps; the pair at the end."""
    return deque(pairs, maxlen=1)[0]


def test_exact_switch_at_the_textbooks_step_and_rate():
    """The paper's criterion, 1e-9 absolute, is met; 500 SGD steps follow."""
    ours, theirs = last(both(2900, lambda w, k: bowl(w), betas=(0.9, 0.99)))
    assert 1000 < theirs.switched_at < 2500
    event = ours.switch_event
    assert (event.step, event.epoch, event.condition) == (theirs.switched_at, 0, "swats")
    assert event.lr == ours.lr == pytest.approx(0.1 * theirs.Lambda, rel=1e-9)
    np.testing.assert_allclose(ours.projection.gammas, theirs.gammas, rtol=1e-9)
    assert "switched to sgd after step 2,350 (0 epochs finished), rate 0.0001" in ours.verdict()


@pytest.mark.parametrize(("arguments", "switched_at"), [
    ({}, None), ({"switch_rtol": 1e-3}, 273), ({"switch_rtol": 0.05}, 5), ({"switch_eps": 1e-4}, 2),
    ({"switch_eps": 1e-3, "eps": 1e-6}, 2), ({"eps": 0.5}, None), ({"eps": 1e-2, "switch_eps": 1e-5}, 8),
    ({"betas": (0.5, 0.9), "switch_rtol": 0.01}, 17), ({"weight_decay": 0.3, "switch_rtol": 0.003}, 140),
    ({"lr": 0.1, "switch_rtol": 1e-3}, None),
])  # fmt: skip
def test_noisy_gradients_with_all_arguments(arguments, switched_at):
    """In particular eps and switch_eps: one knob for both would move the switch or the steps."""
    ours, theirs = last(both(1500, noisy, start=[3.0, -2.0, 1.0], **arguments))
    assert (ours.switch_event and ours.switch_event.step) == theirs.switched_at == switched_at


def test_the_switch_waits_for_the_end_of_the_step():
    """At the step of the switch every weight, in either tensor, takes Adam's step; at the next, SGD's."""
    previous = np.array([3.0, -2.0, 1.0])
    for ours, theirs in both(200, noisy, start=[3.0, -2.0, 1.0], switch_rtol=0.01):
        w = np.array(theirs.w)
        if theirs.switched_at == theirs.k:
            adam_length = np.abs(w - previous)
            assert ours.phase == "sgd"
            assert (adam_length <= 1.1e-3).all()
            np.testing.assert_allclose(ours.p, w - previous, rtol=1e-9)
            break
        previous = w
    else:
        pytest.fail("no switch: the test says nothing")


def test_momentum_lives_after_the_switch():
    """With a constant gradient v must grow to g/(1-b1), ten times its first value. Scaled through an alias it would
    stay near g."""
    params = parameters(start=[0.0, 0.0, 0.0])
    ours = SWATS(params)
    for _ in range(2):
        step(ours, params, [1.0, 1.0, 1.0])
    assert ours.switch_event is not None, "a constant gradient has a constant gamma"
    for _ in range(200):
        step(ours, params, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(ours.v, 10.0, rtol=1e-8)
    np.testing.assert_allclose(ours.p, -10 * ours.lr, rtol=1e-8)


def test_hybrid_makes_the_same_of_parts():
    """Hybrid(Adam, SGD, Projected, "projected") is SWATS but for where eps stands in Adam's division."""
    params = parameters()
    hybrid = Hybrid(
        params, Adam(betas=(0.9, 0.99), eps=1e-9), SGD(momentum=0.9), switch=Projected(), lr_after="projected"
    )
    for _ in range(2900):
        step(hybrid, params, bowl(values(params)))
    ours, _ = last(both(2900, lambda w, k: bowl(w), betas=(0.9, 0.99)))
    assert hybrid.switch_event.lr == pytest.approx(ours.switch_event.lr, rel=1e-6)
    assert abs(hybrid.switch_event.step - ours.switch_event.step) <= 5
    np.testing.assert_allclose(hybrid.flat.w, ours.flat.w, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_projected_rate_has_the_factor_1_minus_momentum(nesterov):
    params = parameters()
    then = SGD(momentum=0.8, nesterov=nesterov)
    hybrid = Hybrid(params, Adam(), then, switch=lambda p: p.step == 3, lr_after="projected")
    for _ in range(3):
        step(hybrid, params, bowl(values(params)))
    assert hybrid.phase == "sgd"
    assert hybrid.lr == pytest.approx(0.2 * hybrid.progress.lam, rel=1e-15)


def test_weight_decay_is_no_part_of_the_projection():
    """The first Adam step is lr in each weight, whatever the gradient and the decay: gamma = lr n / |g|_1."""
    gammas = []
    for decay in (0.0, 10.0):
        params = parameters(start=[3.0, -2.0, 1.0])
        ours = SWATS(params, weight_decay=decay)
        step(ours, params, [1.0, 2.0, 5.0])
        gammas.append(ours.projection.gammas[0])
        expected = np.array([3.0, -2.0, 1.0]) * (1 - 1e-3 * decay) - 1e-3
        np.testing.assert_allclose(values(params), expected, rtol=1e-7)
    np.testing.assert_allclose(gammas, 1e-3 * 3 / 8, rtol=1e-7)


# ---- gamma: negative, missing, huge; and its precision ----


def test_a_negative_rate_never_takes_over():
    """After one large gradient, small ones of the other sign make p.g > 0 and Lambda < 0, within any tolerance."""
    params = parameters(start=[0.0, 0.0, 0.0])
    ours = SWATS(params, switch_rtol=10.0)
    lambdas = []
    for k in range(8):
        step(ours, params, [100.0 if k == 0 else -1e-3] * 3)
        lambdas.append(ours.progress.lam)
        assert ours.progress.lam > 0 or ours.switch_event is None
    assert min(lambdas) < 0, "the test must get there"
    assert ours.switch_event is None


def test_zero_projection_leaves_lam_alone_but_counts():
    projection = Projection(0.9)
    zero, one = np.zeros(2), np.ones(2)
    projection.measure(one, -one)  # gamma = 2/2
    projection.add()
    projection.measure(one, zero)
    projection.add()
    assert projection.gammas[0] == 1.0
    assert math.isnan(projection.gammas[1])
    assert projection.lam == pytest.approx(0.1)
    assert projection.lambdas[1] == pytest.approx(0.1 / (1 - 0.9**2))


def test_overflowing_gamma_does_not_poison_lam():
    projection = Projection(0.9)
    projection.measure(np.ones(2), -np.ones(2))
    projection.add()
    projection.measure(np.full(2, 1e10), np.full(2, -1e-310))
    projection.add()
    assert math.isnan(projection.gammas[1])
    assert projection.lam == pytest.approx(0.1)


def test_float32_vectors_project_in_float64():
    rng = np.random.default_rng(0)
    p, g = rng.normal(size=(2, 200_001)).astype(np.float32)
    exact = math.fsum(float(a) * float(b) for a, b in zip(p, g, strict=True))
    assert dot64(p, g) == pytest.approx(exact, rel=1e-11)
    assert dot64(p, p) == pytest.approx(math.fsum(float(a) ** 2 for a in p), rel=1e-14)
    assert abs(float(p @ g) - exact) > 1e-7 * abs(exact), "in float32 the sum is off: the test can tell"
    projection = Projection()
    projection.measure(p, g)
    projection.add()
    assert projection.gammas[0] == pytest.approx(dot64(p, p) / -exact, rel=1e-11)
    assert type(projection.gammas[0]) is float


def test_float32_parameters_switch_within_1e_9():
    """The textbook's gamma from the float32 steps themselves, to 1e-9 of its size at every step."""
    params = parameters(np.float32)
    ours = SWATS(params, betas=(0.9, 0.99))
    for _ in range(100):
        g = np.array(bowl(values(params)), np.float32)
        step(ours, params, g)
        p = ours.p.tolist()
        gamma = math.fsum(x * x for x in p) / -math.fsum(x * float(y) for x, y in zip(p, g, strict=True))
        assert ours.progress.gamma == pytest.approx(gamma, rel=1e-12)


# ---- telling and saving ----


def test_never_switching_is_said():
    ours, _ = last(both(50, noisy, start=[3.0, -2.0, 1.0]))
    gammas, lambdas = np.array(ours.projection.gammas), np.array(ours.projection.lambdas)
    distance = np.abs(lambdas - gammas)[1:] / np.abs(lambdas)[1:]
    assert len(gammas) == 50
    said = ours.verdict()
    assert said.startswith("never switched: swats was not met in 50 steps")
    assert f"at step {distance.argmin() + 2}, relative distance {distance.min():.2g}" in said


@pytest.mark.parametrize("at", [5, 40, 41, 60])
def test_loaded_swats_goes_on_bit_for_bit(at):
    """Before the switch, right after it, later; also a state of one phase into an optimizer that is in the other."""

    def make(params):
        ours = SWATS(params, switch_rtol=10.0)
        ours.switch = Projected(rtol=10.0) & (lambda p: p.step >= 40)
        return ours

    start = [3.0, -2.0, 1.0]
    params = parameters(np.float32, start)
    ours = make(params)
    for k in range(80):
        if k == at:
            state, w = ours.state_dict(), values(params)
        step(ours, params, noisy(values(params), k))
    assert ours.switch_event.step == 40
    state["scalars"] = json.loads(json.dumps(state["scalars"], allow_nan=False))
    for earlier_steps in (0, 50):
        again = parameters(np.float32, start)
        resumed = make(again)
        for k in range(earlier_steps):
            step(resumed, again, noisy(values(again), k))
        resumed.flat.w[...] = w
        resumed.load_state_dict(state)
        for k in range(at, 80):
            step(resumed, again, noisy(values(again), k))
        np.testing.assert_array_equal(values(again), values(params))
        assert resumed.switch_event == ours.switch_event
        assert resumed.projection.gammas == ours.projection.gammas


@pytest.mark.parametrize("rate", [exponential(0.1, 0.9, 1), lambda step: 0.1 * (step < 2)], ids=["decays", "ends at 0"])
def test_back_before_the_switch_it_is_as_built(rate):
    """The switch has replaced the schedule by a number, and, where it had ended at 0, the decay by 0."""
    params = parameters(start=[3.0, -2.0, 1.0])
    ours = SWATS(params, rate, weight_decay=0.1)
    ours.switch = AfterSteps(4)
    seen, state = [], {}
    for k in range(8):
        if k == 1:
            state, w = ours.state_dict(), values(params)
        step(ours, params, noisy(values(params), k))
        seen.append((ours.phase, ours.lr, ours.weight_decay, *values(params)))
    assert ours.phase == "sgd"
    ours.flat.w[...] = w
    ours.load_state_dict(state)
    for k in range(1, 8):
        step(ours, params, noisy(values(params), k))
        assert (ours.phase, ours.lr, ours.weight_decay, *values(params)) == seen[k]


def test_a_state_that_is_refused_changes_nothing():
    scheduled, built = SWATS(parameters(), exponential(0.1, 0.9, 1)), SWATS(params := parameters(), switch_rtol=1e9)
    for k in range(3):
        step(built, params, noisy(values(params), k))
    assert built.phase == "sgd"
    before = built.v.copy()
    with pytest.raises(ValueError, match="saved with a schedule"):
        built.load_state_dict(scheduled.state_dict())
    np.testing.assert_array_equal(built.v, before)
    step(built, params, noisy(values(params), 3))
