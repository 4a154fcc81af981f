"""Hyper-parameters, learning rates and schedules."""

import json
import math

import numpy as np
import pytest

from minidl import optim
from minidl.optim import (
    SGD,
    SWATS,
    Adagrad,
    Adam,
    AdamW,
    Blend,
    ExponentialLR,
    LinearLR,
    OneCycleLR,
    Plateau,
    RMSprop,
)
from minidl.optim.schedule import (
    ScheduleError,
    constant,
    cosine,
    exponential,
    halving,
    linear,
    onecycle,
    parse_schedule,
    step,
    warmup,
)  # fmt: skip
from tests.test_optim import feed, parameters, values

# ---- hyper-parameters and rates ----


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda: SGD(lr=-0.1), "-0.1"),
        (lambda: SGD(lr=math.nan), "nan"),
        (lambda: Adam(lr=math.inf), "inf"),
        (lambda: SGD(momentum=1.0), "1.0"),
        (lambda: SGD(momentum=-0.5), "-0.5"),
        (lambda: SGD(weight_decay=-1.0), "-1.0"),
        (lambda: SGD(nesterov=True), "got 0"),
        (lambda: SGD(max_norm=0), "got 0"),
        (lambda: Adam(betas=(0.9, 1.0)), "1.0"),
        (lambda: Adam(betas=(-0.1, 0.9)), "-0.1"),
        (lambda: Adam(eps=0.0), "0.0"),
        (lambda: RMSprop(alpha=1.5), "1.5"),
        (lambda: Adagrad(lr_decay=-2), "-2"),
        (lambda: Blend(steps_per_epoch=0), "got 0"),
        (lambda: Blend(steps_per_epoch=5, period=0), "got 0"),
        (lambda: SWATS(switch_eps=0), "got 0"),
        (lambda: SWATS(switch_rtol=-1e-3), "-0.001"),
    ],
)
def test_bad_hyper_parameter_names_the_number(make, number):
    with pytest.raises(ValueError, match=number):
        make()


def test_rate_is_the_next_steps_and_assigning_makes_it_constant():
    params = parameters()
    optimizer = SGD(params, lr=step(1.0, every=2, factor=0.5))
    seen = []
    for _ in range(5):
        seen.append(optimizer.lr)
        before = values(params)
        feed(params, [1.0] * 8)
        optimizer.step()
        np.testing.assert_allclose(before - values(params), seen[-1])
    assert seen == [1, 1, 0.5, 0.5, 0.25]
    optimizer.lr = 0.125
    feed(params, [1.0] * 8)
    optimizer.step()
    assert optimizer.lr == 0.125
    with pytest.raises(ValueError, match="-1"):
        optimizer.lr = -1


def test_a_scheduler_goes_on_from_the_rate_it_began_with():
    """Also one that is built after the optimizer was loaded, whose rate has fallen by then: base gamma^k, by hand."""
    for kind, arguments, rates in (
        (ExponentialLR, {"gamma": 0.5}, [0.4, 0.2, 0.1, 0.05, 0.025]),
        (LinearLR, {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 4}, [0.4, 0.3, 0.2, 0.1, 0.0]),
        (OneCycleLR, {"max_lr": 1.0, "total_steps": 5, "cycle_momentum": False}, None),
    ):
        optimizer = SGD(parameters(), lr=0.4)
        scheduler, found = kind(optimizer, **arguments), []
        for k in range(5):
            if k == 2:
                saved = optimizer.state_dict(), json.loads(json.dumps(scheduler.state_dict()))
            found.append(optimizer.lr)
            scheduler.step()
        assert rates is None or found == pytest.approx(rates)
        resumed = SGD(parameters(), lr=0.4)
        resumed.load_state_dict(saved[0])
        again = kind(resumed, **arguments)
        again.load_state_dict(saved[1])
        for rate in found[2:]:
            assert resumed.lr == rate
            again.step()
    old = ExponentialLR(SGD(parameters(), lr=0.4), 0.5)
    old.load_state_dict({"last_epoch": 2})  # of an earlier commit
    assert old.get_last_lr() == [0.1]


@pytest.mark.parametrize("name", ["base_momentum", "max_momentum"])
@pytest.mark.parametrize("value", [-0.1, 1, math.nan])
def test_a_momentum_that_is_no_momentum_is_not_cycled(name, value):
    """It was set on the optimizer, and the weights grew without limit, or became NaN."""
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\), got {value}"):
        OneCycleLR(SGD(parameters(), lr=0.1, momentum=0.9), 0.1, total_steps=5, **{name: value})


def test_two_schedulers_multiply_and_a_rate_of_ones_own_is_gone_on_from():
    """The numbers are PyTorch's, for LinearLR(total_iters=4) and ExponentialLR(0.9) on one SGD, 0.02 set at step 6."""

    def begin():
        optimizer = SGD(parameters(), lr=0.1)
        return optimizer, [LinearLR(optimizer, total_iters=4), ExponentialLR(optimizer, 0.9)]

    def go_on(optimizer, schedulers, steps):
        for k in steps:
            if k == 6:
                optimizer.lr = 0.02
            for each in schedulers:
                each.step()
            yield optimizer.lr

    optimizer, schedulers = begin()
    first = list(go_on(optimizer, schedulers, range(2)))
    saved = optimizer.state_dict(), json.loads(json.dumps([each.state_dict() for each in schedulers]))
    rest = list(go_on(optimizer, schedulers, range(2, 8)))
    assert first + rest == pytest.approx(
        [0.045, 0.054, 0.06075, 0.06561, 0.059049, 0.0531441, 0.018, 0.0162], rel=1e-12
    )
    for backwards in (False, True):  # in whatever order they are loaded
        resumed, again = begin()
        resumed.load_state_dict(saved[0])
        pairs = list(zip(again, saved[1], strict=True))
        for each, state in reversed(pairs) if backwards else pairs:
            each.load_state_dict(state)
        assert list(go_on(resumed, again, range(2, 8))) == rest


def test_bad_rate_of_a_schedule():
    optimizer = SGD(parameters(), lr=lambda k: math.nan)
    with pytest.raises(ValueError, match="nan at step 0"):
        optimizer.step()
    for rate in (None, np.ones(2), "0.1x"):
        with pytest.raises(ValueError, match="the learning rate that the schedule returned must be one number, got"):
            SGD(parameters(), lr=lambda k, rate=rate: rate).step()
    assert SGD(parameters(), lr=lambda k: np.float64(0.25)).lr == 0.25
    with pytest.raises(TypeError, match=r"as in warmup\(constant\(0.1\), 5\), got 0.1"):
        warmup(0.1, 5)


@pytest.mark.parametrize("make", [lambda o: LinearLR(o, 60), lambda o: ExponentialLR(o, 0.9)])
def test_a_scheduler_of_something_else_than_an_optimizer(make):
    """As when it is meant as lr: Adam(params, lr=LinearLR(0.01, 60))."""
    with pytest.raises(TypeError, match=r"takes the optimizer .*, not a float. .* give as lr: schedule.linear\("):
        make(0.01)


def test_schedules():
    assert [constant(0.3)(k) for k in (0, 99)] == [0.3, 0.3]
    assert [step(1.0, 10, 0.1)(k) for k in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01], rel=1e-15)
    assert [halving(8.0, 5, 3)(k) for k in (0, 4, 5, 7, 8, 10, 11)] == [8, 8, 4, 4, 2, 2, 1]
    assert [cosine(2.0, 8)(k) for k in (0, 4, 8)] == pytest.approx([2, 1, 0])
    assert cosine(2.0, 6, final=0.5)(2) == pytest.approx(0.5 + 1.5 * 0.75)  # (1 + cos 60 degrees) / 2
    assert [linear(2.0, 8)(k) for k in (0, 4, 8, 9)] == [2, 1, 0, 0]
    assert [linear(4.0, 4, 0.25, 0.75)(k) for k in (0, 1, 2, 4, 9)] == [1, 1.5, 2, 3, 3]
    assert [exponential(8.0, 0.5, 10)(k) for k in (0, 9, 10, 29, 30)] == [8, 8, 4, 2, 1]
    assert [warmup(constant(1.0), 4)(k) for k in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [warmup(constant(1.0), 0)(k) for k in range(2)] == [1, 1]


def test_one_cycle_by_hand():
    """Up in steps 0 to 29, of 100, and down in 29 to 99; a cosine's middle is the mean of its ends."""
    rate = onecycle(0.01, 101, pct_start=0.3)  # the peak lies at 0.3 * 101 - 1 = 29.3
    assert rate(0) == pytest.approx(0.01 / 25)
    assert max(map(rate, range(101))) == pytest.approx(0.01, rel=1e-3)
    assert rate(100) == rate(101) == pytest.approx(0.01 / 25 / 1e4)  # 101: for a step that will not be taken
    with pytest.raises(ValueError, match="ends at step 101, this is step 102"):
        rate(102)
    even = onecycle(1.0, 20, pct_start=0.55)  # at 10; the last step is 19
    assert [even(k) for k in (0, 5, 10)] == pytest.approx([0.04, 0.52, 1])
    straight = onecycle(1.0, 20, 0.55, "linear", div_factor=10, final_div_factor=100)
    assert [straight(k) for k in (0, 1, 10, 13, 19)] == pytest.approx([0.1, 0.19, 1, 1 - 0.999 / 3, 0.001])
    smiths = onecycle(1.0, 20, 0.3, "linear", div_factor=10, final_div_factor=100, three_phase=True)
    assert [smiths(k) for k in (0, 5, 10, 19)] == pytest.approx([0.1, 1, 0.1, 0.001])
    assert onecycle(1.0, 4, pct_start=0.25)(0) == 1  # no way up: PyTorch divides by zero here


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: onecycle(-1.0, 10), "max_lr must be .* got -1.0"),
        (lambda: onecycle(1.0, 0), "total_steps must be .* got 0"),
        (lambda: onecycle(1.0, 10, pct_start=1.5), "got 1.5"),
        (lambda: onecycle(1.0, 10, anneal_strategy="cosine"), "did you mean 'cos'"),
        (lambda: onecycle(1.0, 10, div_factor=0), "div_factor must be .* got 0"),
        (lambda: onecycle(1.0, 10, final_div_factor=-1), "final_div_factor must be .* got -1"),
        (lambda: linear(1.0, 0), "total_iters must be .* got 0"),
        (lambda: linear(1.0, 5, end_factor=-0.5), "end_factor must be .* got -0.5"),
        (lambda: exponential(1.0, -0.9, 5), "gamma must be .* got -0.9"),
        (lambda: exponential(1.0, 0.9, 0), "steps_per_epoch must be .* got 0"),
        (lambda: parse_schedule("exponential:gamma=0.9", lr=1, total_steps=9), "needs steps_per_epoch"),
    ],
)
def test_a_schedule_that_can_not_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("constant", {0: 2, 50: 2}),
        ("step:every=10,factor=0.5", {9: 2, 10: 1, 20: 0.5}),
        ("halving:start=10,every=5", {9: 2, 10: 1, 15: 0.5}),
        ("cosine", {0: 2, 50: 1, 100: 0}),
        ("linear", {0: 2, 25: 1.5, 100: 0}),
        ("linear:end_factor=0.5", {0: 2, 50: 1.5, 100: 1, 200: 1}),
        ("linear:start_factor=0.5,end_factor=1", {0: 1, 50: 1.5, 100: 2}),
        ("linear:warmup=4", {0: 0.5, 3: 1.94, 50: 1}),
        ("exponential:gamma=0.5", {0: 2, 19: 2, 20: 1, 60: 0.25}),
        ("onecycle", {0: 0.08, 29: 2, 64: 1 + 4e-6, 99: 8e-6}),
        ("onecycle:pct_start=0.11,anneal_strategy=linear,div_factor=2,final_div_factor=1", {0: 1, 10: 2, 99: 1}),
        (" cosine : final=0.5 , warmup=4 ", {0: 0.5, 100: 1}),
    ],
)
def test_schedule_text(text, rates):
    schedule = parse_schedule(text, lr=2, total_steps=100, steps_per_epoch=20)
    assert {k: schedule(k) for k in rates} == pytest.approx(rates, rel=1e-2 if "warmup" in text else 1e-12)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("cosin", 1, "did you mean 'cosine'"),
        ("", 1, "expected a schedule"),
        ("step", 1, "needs every=STEPS"),
        ("step:every=x", 12, "expected a whole number, got 'x'"),
        ("step:every=10,factr=2", 15, "did you mean 'factor'"),
        ("step:10", 6, "expected key=value"),
        ("step:every=0", 1, "got 0"),
        ("cosine cosine", 8, "expected the end"),
        ("cosine:final=1e999", 14, "finite"),
        ("cosine:warmup=1,warmup=2", 17, "twice"),
        ("onecycl", 1, "did you mean 'onecycle'"),
        ("onecycle:warmup=5", 10, "unknown argument of 'onecycle' 'warmup'"),
        ("onecycle:pct_start=2", 1, "got 2.0"),
        ("onecycle:max_lr=1", 10, "choose from pct_start"),
        ("linear:end_factor=-1", 1, "got -1.0"),
        ("exponential", 1, "needs gamma=G"),
        ("exponential:gama=0.9", 13, "did you mean 'gamma'"),
        ("exponential:0.9", 13, "expected key=value"),
        ("exponential:gamma=-1", 1, "got -1.0"),
    ],
)
def test_bad_schedule_text(text, column, message):
    with pytest.raises(optim.ScheduleError, match=message) as caught:
        parse_schedule(text, lr=1, total_steps=100, steps_per_epoch=20)
    first, second = str(caught.value).split("\n")
    assert first == text
    assert second.index("^") == column - 1 == caught.value.position - 1


def test_a_schedule_ends_where_it_ends():
    """PyTorch's cosine would rise again."""
    with pytest.raises(ValueError, match="ends at step 8, this is step 9"):
        cosine(2.0, 8)(9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: step(1.0, 1.5), lambda: halving(1.0, 2, 1.5), lambda: cosine(1.0, 8.5), lambda: linear(1.0, 8.5),
        lambda: exponential(1.0, 0.9, 2.5), lambda: onecycle(1.0, 8.5),
    ],
)  # fmt: skip
def test_steps_are_whole_numbers(make):
    with pytest.raises(ValueError, match="whole number"):
        make()


@pytest.mark.parametrize("text", ["step:every=1,factor=1e300", "exponential:gamma=1e200"])
def test_a_schedule_whose_rate_outgrows_every_number_is_refused_before_the_first_step(text):
    with pytest.raises(ScheduleError, match="too large for a number before step 29"):
        parse_schedule(text, lr=0.1, total_steps=29, steps_per_epoch=10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(lr="0.1"),
        lambda: SGD(lr=0.1, momentum="0.9"),
        lambda: Adam(betas=(0.9, "0.99")),
        lambda: AdamW(weight_decay="0.1"),
        lambda: Adam(max_norm="5"),
        lambda: Plateau(min_delta="0.1"),
    ],
)
def test_a_number_in_quotes_is_none(make):
    """As from a file of settings; kept as a string it would fail later, or where it is compared."""
    with pytest.raises(
        ValueError, match=r"(lr|momentum|betas\[1\]|weight_decay|max_norm|delta) must be one number, got '"
    ):
        make()
