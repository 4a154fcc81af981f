"""The study's statistics against SciPy's functions, definitions worked out by hand, and simulated studies."""

import math

import numpy as np
import pytest

from minidl.study import statistics
from minidl.study.statistics import (
    BETTER,
    EQUIVALENT,
    OPEN,
    WORSE,
    Interval,
    expected_best,
    first_above,
    first_below,
    simultaneous,
    trimmed,
    trimmed_mean,
)


@pytest.mark.extra("scipy")
def test_trimmed_mean_is_scipys():
    from scipy import stats

    rng = np.random.default_rng(0)
    for n in (3, 5, 10, 20, 21):
        x = rng.standard_cauchy((4, n))
        mean, error = trimmed(x)
        np.testing.assert_allclose(mean, stats.trim_mean(x, 0.2, axis=1))
        for row, e in zip(x, error, strict=True):
            winsorized = stats.mstats.winsorize(row, limits=(int(0.2 * n) / n, int(0.2 * n) / n))
            assert e == pytest.approx(np.std(winsorized, ddof=1) / (0.6 * math.sqrt(n)))


def test_trimmed_mean_by_hand():
    """Of ten, two go at each end: the mean of 3 ... 8 is 5.5, however large the last are."""
    assert trimmed_mean([1, 2, 3, 4, 5, 6, 7, 8, 1e9, 1e12]) == 5.5
    assert trimmed_mean([7]) == 7


@pytest.mark.extra("scipy")
def test_a_standard_error_of_yuens_trimmed_t_test_is_scipys():
    """For two samples Yuen's test divides by the root of both squared errors; with equal samples they are one."""
    from scipy import stats

    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 20), rng.normal(1, 2, 20)
    (x, y), (ex, ey) = trimmed(np.array([a, b]))
    h = 20 - 2 * 4
    errors = [e * 0.6 * math.sqrt(20) * math.sqrt(19 / (h * (h - 1))) for e in (ex, ey)]  # SciPy's form of the error
    expected = stats.ttest_ind(a, b, equal_var=False, trim=0.2).statistic
    assert (x - y) / math.hypot(*errors) == pytest.approx(expected)


def test_intervals_hold_together_in_simulated_studies(monkeypatch):
    """Ten comparisons of 20 seeds, correlated as those with a contestant in common: all right in 95 % of studies."""
    monkeypatch.setattr(statistics, "RESAMPLES", 400)  # enough: of a hundred studies each draws others
    monkeypatch.setattr(statistics, "ROUNDS", 1)
    rng, right = np.random.default_rng(2), 0
    for _ in range(120):
        common, own = rng.normal(0, 1, (2, 20)), rng.normal(0, 1, (2, 5, 20))
        families = [(common[i] + own[i]).tolist() for i in range(2)]
        found = simultaneous(families, seed=3)
        right += all(x.low <= 0 <= x.high for family in found for x in family)
    assert right >= 107  # fewer than 107 of 120 has a probability below 1 % at 95 %


def test_intervals_are_as_wide_as_they_must_be_and_not_wider(monkeypatch):
    """Four regimes of 15 comparisons among six contestants, normal: the multiple of the error that is right is known
    from simulation. Seeds drawn with replacement would give half as much again, and such studies could tell little."""
    monkeypatch.setattr(statistics, "ROUNDS", 1)
    rng, pairs = np.random.default_rng(7), [(i, j) for i in range(6) for j in range(i)]

    def differences():
        runs = rng.normal(0, 1, (4, 6, 20))
        return np.array([[family[i] - family[j] for i, j in pairs] for family in runs])

    def largest():
        means, errors = trimmed(differences())
        return float(np.max(np.abs(means) / errors))

    right = float(np.quantile([largest() for _ in range(2000)], 0.95))
    for seed in range(3):
        d = differences()
        found = simultaneous(d.tolist(), seed)
        mean, error = trimmed(d[0][0])
        assert (found[0][0].high - mean) / error == pytest.approx(right, rel=0.12)


@pytest.mark.extra("scipy")
def test_one_comparison_alone_is_near_its_t_interval():
    from scipy import stats

    d = np.random.default_rng(4).normal(0.3, 1, 20)
    ((found,),) = simultaneous([[d.tolist()]])
    mean, error = (float(x) for x in trimmed(d))
    half = float(stats.t.ppf(0.975, 20 - 2 * 4 - 1)) * error
    assert found.estimate == pytest.approx(mean)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.2)


def test_more_comparisons_have_wider_intervals_and_collapsed_runs_do_not_decide(monkeypatch):
    monkeypatch.setattr(statistics, "ROUNDS", 1)
    rng = np.random.default_rng(5)
    d = rng.normal(0.01, 0.005, 20)
    ((alone,),) = simultaneous([[d.tolist()]])
    ((among, *_),) = simultaneous([[d.tolist(), *rng.normal(0, 1, (30, 20)).tolist()]])
    assert among.high - among.low > 1.3 * (alone.high - alone.low)
    d[:3] = -0.8
    ((found,),) = simultaneous([[d.tolist()]])
    assert found.estimate == pytest.approx(0.01, abs=0.005)
    assert found.low > -0.02


def test_what_can_not_be_told_has_no_ends():
    ((two, none, equal, gaps),) = simultaneous(
        [[[0.1, 0.2], [math.nan] * 5, [0.5] * 6, [math.nan, 0.1, 0.2, 0.3, 0.1]]]
    )
    assert (two.estimate, two.low, two.high) == (pytest.approx(0.15), -math.inf, math.inf)
    assert math.isnan(none.estimate)
    assert (equal.low, equal.high) == (0.5, 0.5)
    assert gaps.n == 4


@pytest.mark.parametrize("same", [0.001, 0.003, -0.0035])  # the sum of three 0.003, divided by 3, is another number
def test_ties_are_no_certainty(same):
    """Differences of 1,000 test images, by chance the same image in four of six seeds: no interval of width 0."""
    six = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    ((tied, apart),) = simultaneous([[[-0.004, same, same, same, same, 0.005], six]])
    assert (tied.estimate, tied.low, tied.high) == (same, -0.004, 0.005)
    assert tied.word(0.0005) == OPEN
    assert apart.low < 0.01


@pytest.mark.parametrize("n", range(3, 8))
def test_few_equal_differences_are_no_evidence(n):
    """Of so few images that a difference is 0 or 1 as a coin falls, with the true mean between them: n equal ones are
    not rare, and neither 0 nor 1 is the mean."""
    rare = 2 * 0.5**n < 0.05
    ((found,),) = simultaneous([[[0.0] * n]])
    assert (found.low, found.high) == ((0, 0) if rare else (-math.inf, math.inf))
    assert found.word(0.002) == (EQUIVALENT if rare else OPEN)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.01, 0.05, BETTER), (-0.05, -0.01, WORSE), (-0.001, 0.001, EQUIVALENT), (0.0001, 0.001, EQUIVALENT),
        (-0.01, 0.05, OPEN), (-0.0005, 0.003, OPEN), (0.0001, 0.003, BETTER), (-math.inf, math.inf, OPEN),
    ],
)  # fmt: skip
def test_words_are_read_against_the_margin(low, high, word):
    assert Interval((low + high) / 2, low, high, 20).word(0.002) == word


def test_the_expected_best_by_enumeration():
    """All 27 ways to draw three of three with replacement; and the ends: the mean, the best."""
    values = [0.2, 0.9, 0.4]
    best = [max(values[i], values[j], values[k]) for i in range(3) for j in range(3) for k in range(3)]
    found = expected_best(values)
    assert found[0] == pytest.approx(0.5)
    assert found[2] == pytest.approx(sum(best) / 27)
    assert expected_best(list(np.linspace(0, 1, 50)))[-1] < 1
    assert expected_best([]) == [], "of a contestant that is not tuned"


def test_levels_lie_between_two_looks():
    assert first_above([10, 20, 30], [0.5, 0.7, 0.6], 0.6) == 15
    assert first_above([10, 20], [0.5, 0.7], 0.4) == 10
    assert first_above([10, 20], [0.5, 0.7], 0.8) is None
    assert first_below([1.0, 0.1, 0.01], [0.0, 1.0, 5.0], 10**-1.5) == pytest.approx(3.0)  # half way in the logarithm
    assert first_below([1.0, 0.1], [0.0, 1.0], 2.0) == 0.0
    assert first_below([1.0, 0.5], [0.0, 1.0], 0.1) is None
    assert first_below([1.0, 0.0], [0.0, 1.0], 0.0) == 1.0, "where all networks know all examples by heart"
