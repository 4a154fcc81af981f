"""GNMT's steps and Blend's slide: the schedule at and around every boundary, and the rule beside the textbook."""

import math
from itertools import islice, pairwise

import numpy as np
import pytest

from minidl.optim import (
    GNMT,
    AfterSteps,
    Blend,
)
from tests import textbook
from tests.test_switch_hybrid import START, go, gradient, parameter

# ---- GNMT ----


def test_gnmt_at_and_around_every_boundary():
    """The paper's run divided by 1000: Adam for 60 steps; 0.5; halved at 1200, 1400, 1600 and 1800 of 2000."""
    p = parameter()
    optimizer = GNMT([p], total_steps=2000)
    rates, phases = [], []
    for _ in range(2000):
        rates.append(optimizer.lr)
        phases.append(optimizer.phase)
        p.grad = np.zeros(4)
        optimizer.step()
    assert phases == ["adam"] * 60 + ["sgd"] * 1940
    for k, rate in [
        (0, 2e-4), (59, 2e-4), (60, 0.5), (1199, 0.5), (1200, 0.25), (1399, 0.25), (1400, 0.125), (1599, 0.125),
        (1600, 0.0625), (1799, 0.0625), (1800, 0.03125), (1999, 0.03125),
    ]:  # fmt: skip
        assert rates[k] == rate, k
    assert len(set(rates)) == 6
    assert optimizer.switch_event == (60, 0, 0.5, "step:60")


@pytest.mark.parametrize(
    ("total", "adam", "halvings"), [(2_000_000, 60_000, [1_200_000, 1_400_000]), (100, 3, [60, 70])]
)
def test_gnmt_scales(total, adam, halvings):
    optimizer = GNMT([parameter()], total_steps=total)
    rate = optimizer.then.lr_or_schedule
    assert optimizer.switch == AfterSteps(adam)
    for i, k in enumerate(halvings):
        assert (rate(k - 1 - adam), rate(k - adam)) == (0.5 / 2**i, 0.5 / 2 ** (i + 1))


@pytest.mark.parametrize("total", [1, 2, 10])
def test_gnmt_of_a_very_short_run(total):
    p = parameter()
    go(GNMT([p], total_steps=total), p, total)


@pytest.mark.parametrize("total", [0, 1.5, 2000.0, True, "2000"])
def test_gnmts_length_is_a_whole_number(total):
    with pytest.raises(ValueError, match=f"total_steps must be a whole number >= 1, got {total!r}"):
        GNMT([parameter()], total_steps=total)


def test_gnmt_clips_in_both_phases():
    p = parameter()
    optimizer = GNMT([p], total_steps=100, max_norm=0.5)
    for phase in ("adam", "sgd"):
        assert optimizer.phase == phase
        p.grad = np.full(4, 10.0)
        optimizer.step()
        assert np.linalg.norm(optimizer.flat.g) == pytest.approx(0.5)
        go(optimizer, p, 3)


# ---- Blend ----


def test_blend_is_the_textbook_rule():
    for arguments, book in [
        ({}, {}),
        ({"weight_decay": 0.02, "momentum": 0.5, "alpha": 0.9}, {"wd": 0.02, "mu1": 0.5, "mu2": 0.9}),
    ]:
        p = parameter()
        optimizer = Blend([p], 0.05, steps_per_epoch=50, **arguments)
        expected = textbook.blend(START, gradient, 0.05, 50, **book)
        for k in range(1, 1001):  # epochs 0 to 20: the centre is 10, the end of the blend 12.5
            go(optimizer, p, 1, start=k)
            np.testing.assert_allclose(p.numpy(), next(expected), rtol=1e-12, atol=1e-12)


def test_blend_stays_within_0_and_1_and_is_smooth_at_the_centre():
    a = Blend([parameter()], steps_per_epoch=1).a_sgd
    shares = [a(e / 1000) for e in range(20_001)]
    assert all(0 <= x <= 1 for x in shares)
    assert all(x <= y for x, y in pairwise(shares))
    assert max(y - x for x, y in pairwise(shares)) <= 1 / 5 * 1e-3 * 1.001, "continuous"
    assert a(10) == 0.5
    h = 1e-6
    assert (a(10) - a(10 - h)) / h == pytest.approx((a(10 + h) - a(10)) / h, rel=1e-5) == pytest.approx(1 / 5, rel=1e-5)
    assert a(12.5 - 1e-9) == pytest.approx(1, abs=1e-9)
    assert a(12.5) == a(13) == a(100) == 1.0
    assert a(5) == pytest.approx(math.exp(-2) / 2)


def test_blend_is_rmsprop_long_before_and_momentum_sgd_after():
    p = parameter()
    go(Blend([p], 0.1, steps_per_epoch=10, center=1e4, lr_rms=1e-3, momentum=0.8), p, 50)
    *_, w = islice(textbook.rmsprop(START, gradient, 1e-3, mu=0.8), 50)
    np.testing.assert_allclose(p.numpy(), w, rtol=1e-12)
    p = parameter()
    go(Blend([p], 0.1, steps_per_epoch=10, center=0, period=1e-9, momentum=0.8), p, 1)  # step 1 is at the centre
    p = parameter()
    optimizer = Blend([p], 0.1, steps_per_epoch=10, center=0, period=0.1, momentum=0.8)
    go(optimizer, p, 300)  # long enough to forget the first steps' RMSprop part in D
    w = p.numpy().tolist()
    delta = (optimizer.D * -1).tolist()
    go(optimizer, p, 50, start=301)
    v = delta  # momentum SGD goes on from there: v <- mu v + g; w <- w - lr v
    for k in range(301, 351):
        v = [0.8 * a + g for a, g in zip(v, gradient(k, w), strict=True)]
        w = [x - 0.1 * a for x, a in zip(w, v, strict=True)]
    np.testing.assert_allclose(p.numpy(), w, rtol=1e-12)


def test_blend_rate_may_be_zero():
    p = parameter()
    go(Blend([p], 0.0, steps_per_epoch=10), p, 2)
    np.testing.assert_array_equal(p.numpy(), START)
