"""Hyper-parameters, learning rates and schedules."""

import math

import numpy as np
import pytest

from minidl import optim
from minidl.optim import (
    SGD,
    SWATS,
    Adagrad,
    Adam,
    Blend,
    RMSprop,
    parse_schedule,
)
from minidl.optim.schedule import constant, cosine, halving, step, warmup
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


def test_bad_rate_of_a_schedule():
    optimizer = SGD(parameters(), lr=lambda k: math.nan)
    with pytest.raises(ValueError, match="nan at step 0"):
        optimizer.step()


def test_schedules():
    assert [constant(0.3)(k) for k in (0, 99)] == [0.3, 0.3]
    assert [step(1.0, 10, 0.1)(k) for k in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01], rel=1e-15)
    assert [halving(8.0, 5, 3)(k) for k in (0, 4, 5, 7, 8, 10, 11)] == [8, 8, 4, 4, 2, 2, 1]
    assert [cosine(2.0, 8)(k) for k in (0, 4, 8)] == pytest.approx([2, 1, 0])
    assert cosine(2.0, 6, final=0.5)(2) == pytest.approx(0.5 + 1.5 * 0.75)  # (1 + cos 60 degrees) / 2
    assert [warmup(constant(1.0), 4)(k) for k in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [warmup(constant(1.0), 0)(k) for k in range(2)] == [1, 1]


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("constant", {0: 2, 50: 2}),
        ("step:every=10,factor=0.5", {9: 2, 10: 1, 20: 0.5}),
        ("halving:start=10,every=5", {9: 2, 10: 1, 15: 0.5}),
        ("cosine", {0: 2, 50: 1, 100: 0}),
        (" cosine : final=0.5 , warmup=4 ", {0: 0.5, 100: 1}),
    ],
)
def test_schedule_text(text, rates):
    schedule = parse_schedule(text, lr=2, total_steps=100)
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
    ],
)
def test_bad_schedule_text(text, column, message):
    with pytest.raises(optim.ScheduleError, match=message) as caught:
        parse_schedule(text, lr=1, total_steps=100)
    first, second = str(caught.value).split("\n")
    assert first == text
    assert second.index("^") == column - 1 == caught.value.position - 1


def test_a_schedule_ends_where_it_ends():
    """PyTorch's cosine would rise again."""
    with pytest.raises(ValueError, match="ends at step 8, this is step 9"):
        cosine(2.0, 8)(9)


@pytest.mark.parametrize("make", [lambda: step(1.0, 1.5), lambda: halving(1.0, 2, 1.5), lambda: cosine(1.0, 8.5)])
def test_steps_are_whole_numbers(make):
    with pytest.raises(ValueError, match="whole number"):
        make()
