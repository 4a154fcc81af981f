"""The study's statistics against published examples, SciPy's own functions, and definitions worked out by hand."""

import math

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats", reason='the extra "study" is not installed')

from minidl.study import statistics as ours  # noqa: E402

# Student 1908, "The probable error of a mean", section IX: hours of sleep gained by ten patients with two drugs.
DEXTRO = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
LAEVO = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Freireich et al. 1963: weeks of remission; the data of Kaplan-Meier curves in textbooks (Cox 1972, Kalbfleisch &
# Prentice). For 6-MP, a + in the source means censored.
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
MP6 = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
MP6_SEEN = [bool(int(seen)) for seen in "111010100110001100000"]


def test_students_sleep_data():
    """R's t.test(paired = TRUE) on its built-in `sleep`: t = -4.0621, p = 0.002833, interval -2.459886 to -0.700114."""
    result = ours.paired(DEXTRO, LAEVO)
    assert result.difference.mean == pytest.approx(-1.58)
    assert result.p == pytest.approx(0.002833, abs=1e-6)
    assert (result.difference.low, result.difference.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)


def test_hedges_g_of_the_sleep_data():
    """dz = 1.58 / 1.229995; the exact correction for 9 degrees of freedom, 0.9139..., is near 1 - 3/(4*9 - 1)."""
    d = np.subtract(DEXTRO, LAEVO)
    dz = d.mean() / d.std(ddof=1)
    g = ours.paired(DEXTRO, LAEVO).effect
    assert dz == pytest.approx(-1.284558, abs=1e-6)
    assert g == pytest.approx(dz * math.gamma(4.5) / (math.sqrt(4.5) * math.gamma(4)))
    assert g == pytest.approx(dz * (1 - 3 / 35), rel=1e-3)


def test_mean_interval_is_scipys():
    rng = np.random.default_rng(0)
    for n in (2, 5, 10, 31):
        x = rng.normal(3, 2, n)
        found = ours.mean_interval(x.tolist())
        low, high = stats.t.interval(0.95, n - 1, loc=x.mean(), scale=stats.sem(x))
        assert (found.mean, found.low, found.high) == pytest.approx((x.mean(), low, high))
    assert ours.mean_interval([1.0]).half == math.inf


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        m = ours.mean_interval(rng.normal(0, 1, 10).tolist())
        hits += m.low < 0 < m.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("seed", range(5))
def test_paired_tests_are_scipys(seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(0, 1, 10)
    b = a + rng.normal(0.3, 1, 10)
    result = ours.paired(a.tolist(), b.tolist())
    assert result.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert result.p_wilcoxon == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)


def test_paired_where_nothing_or_all_is_the_same():
    assert ours.paired([1, 2, 3], [1, 2, 3]).p == 1
    always = ours.paired([1.5, 2.5, 3.5], [1, 2, 3])
    assert (always.p, always.effect) == (0, math.inf)
    with pytest.raises(ValueError, match="3 and 2"):
        ours.paired([1, 2, 3], [1, 2])


def test_holm():
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03, 0.06, 0.06, 0.02."""
    assert ours.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert ours.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert ours.holm([]) == []


def test_holm_by_its_definition():
    """Hypothesis i is rejected at level q exactly where its adjusted p is at most q."""
    p = np.random.default_rng(2).uniform(0, 0.2, 8).tolist()
    adjusted = ours.holm(p)
    for level in (0.01, 0.05, 0.1, 0.3):
        rejected = set()
        for rank, i in enumerate(sorted(range(8), key=p.__getitem__)):
            if p[i] > level / (8 - rank):
                break
            rejected.add(i)
        assert rejected == {i for i in range(8) if adjusted[i] <= level}


def test_kaplan_meier_medians_of_freireich():
    """The published medians: 8 weeks with placebo, 23 with 6-MP."""
    assert ours.time_to(PLACEBO, [True] * 21) == ours.Reached(1.0, 8)
    found = ours.time_to(MP6, MP6_SEEN)
    assert found.median == 23
    assert found.share == pytest.approx(9 / 21)


def test_log_rank_of_freireich():
    """Published chi-squared: 16.79 with one degree of freedom, p < 0.0001."""
    p = ours.log_rank(MP6, MP6_SEEN, PLACEBO, [True] * 21)
    assert stats.chi2.isf(p, 1) == pytest.approx(16.79, abs=0.01)


def test_never_reached_is_not_dropped():
    assert ours.time_to([10, 10, 10], [False] * 3) == ours.Reached(0.0, None)
    assert ours.time_to([4, 10, 10], [True, False, False]) == ours.Reached(pytest.approx(1 / 3), None)
    assert ours.time_to([4, 6, 10], [True, True, False]).median == 6
    assert ours.log_rank([5, 5], [False, False], [5, 5], [False, False]) == 1


def test_area_under_a_curve():
    assert ours.area_under([0, 10, 20], [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert ours.area_under([0, 10, 40], [0.0, 1.0, 1.0]) == pytest.approx((5 + 30) / 40)
